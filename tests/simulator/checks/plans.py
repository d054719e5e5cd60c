"""A plan is carried out in the version that somebody approved; what an earlier version has done is not done again."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from orchestrator.domain.records import Plan
from tests.simulator.checks.steps import events
from tests.simulator.history import History

_OVER = ("SUPERSEDED", "REJECTED", "CANCELLED", "COMPLETED", "FAILED")
_DONE = ("SUCCEEDED", "SKIPPED")


def check_plans(history: History) -> Iterator[str]:
    plans = {plan.id: plan for plan in history.rows.plans}
    yield from _starts(history, plans)
    yield from _order(history)
    yield from _versions(history)
    yield from _carried(history)


def _starts(history: History, plans: dict[str, Plan]) -> Iterator[str]:
    """Nothing of a plan starts before its APPROVE, or after it is over; and it was approved by its digest."""
    of = {subtask.id: subtask.plan_id for subtask in history.rows.subtasks}
    moves = [(at, body["plan_id"], body["to_state"]) for at, body in events(history, "plan_state_changed")]
    approved = {
        approval.plan_id
        for approval in history.rows.approvals
        if approval.kind == "PLAN" and approval.state == "RESOLVED" and _is_yes_to(approval, plans)
    }
    for at, body in events(history, "step_started"):
        plan_id = of.get(body.get("subtask_id", ""), "")
        if not plan_id:
            continue
        before = [state for when, id, state in moves if id == plan_id and when[0] == at[0] and when < at]
        where = f"step {body['step_id']} of plan {plan_id}"
        if "IN_PROGRESS" not in before or any(state in _OVER for state in before):
            yield f"{where} started when the plan was {before[-1] if before else 'a DRAFT'}"
        if plan_id not in approved:
            yield f"{where} started, and nobody approved that version"


def _order(history: History) -> Iterator[str]:
    """A subtask begins when all it depends on is done."""
    subtasks = {subtask.id: subtask for subtask in history.rows.subtasks}
    ids = {(subtask.plan_id, subtask.key): subtask.id for subtask in subtasks.values()}
    done = {id: ("", 0) for id, subtask in subtasks.items() if subtask.carried_subtask_id}
    for at, body in events(history, "subtask_state_changed"):
        if body["to_state"] in _DONE:
            done[body["subtask_id"]] = at
    for at, body in events(history, "step_started"):
        subtask = subtasks.get(body.get("subtask_id", ""))
        for key in subtask.depends_on if subtask else ():
            before = done.get(ids[subtask.plan_id, key]) if subtask else None
            if before is None or before > at:
                yield f"step {body['step_id']} started, and {key}, which it depends on, was not done"


def _is_yes_to(approval: Any, plans: dict[str, Plan]) -> bool:
    said, plan = approval.decision, plans[approval.plan_id]
    return said is not None and (said.action, said.digest) == ("APPROVE", plan.digest)


def _versions(history: History) -> Iterator[str]:
    """Versions are counted without gaps, and all but the newest are over."""
    for run in history.rows.runs:
        versions = sorted((p for p in history.rows.plans if p.run_id == run.id), key=lambda p: p.version)
        if [plan.version for plan in versions] != list(range(1, len(versions) + 1)):
            yield f"run {run.id} has the versions {[plan.version for plan in versions]}"
        if versions and run.plan_id != versions[-1].id:
            yield f"run {run.id} has the plan {run.plan_id}, and the newest is {versions[-1].id}"
        for plan in versions[:-1]:
            if plan.state != "SUPERSEDED":
                yield f"plan {plan.id}, version {plan.version} of {len(versions)}, is {plan.state}"


def _carried(history: History) -> Iterator[str]:
    """As it ended, once, and never run again."""
    subtasks = {subtask.id: subtask for subtask in history.rows.subtasks}
    worked = {body["subtask_id"] for _, body in events(history, "step_started") if body.get("subtask_id")}
    times: Counter[tuple[str, str]] = Counter()
    for subtask in history.rows.subtasks:
        times[subtask.plan_id, subtask.key] += 1
        if not subtask.carried_subtask_id:
            continue
        where, first = f"subtask {subtask.id} ({subtask.key})", subtasks.get(subtask.carried_subtask_id)
        if first is None or first.state not in _DONE:
            yield f"{where} is carried from {first.state if first else 'nowhere'}"
        elif (subtask.key, subtask.state, subtask.result) != (first.key, first.state, first.result):
            yield f"{where} is not as the one that it carries on"
        if subtask.id in worked:
            yield f"{where} was done already, and was run again"
    for (plan_id, key), count in times.items():
        if count > 1:
            yield f"plan {plan_id} has {key} {count} times"
