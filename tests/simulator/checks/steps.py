"""What executors really started: what was dispatched, nothing twice that must not be, and what asks only with a yes."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from orchestrator.domain.records import Approval, Step
from tests.simulator.catalog import ASKING, POLICY, TOOLS
from tests.simulator.history import History, Started

_DENIED = frozenset(tool for rule in POLICY.rules if rule.effect == "DENY" for tool in rule.tools)


def check_starts(history: History) -> Iterator[str]:
    steps = {step.id: step for step in history.rows.steps}
    dispatched = {(body["step_id"], body["dispatch_number"]) for _, body in events(history, "step_started")}
    for started in history.started:
        where = f"{started.tool} started at {started.time:.4f} for step {started.step_id}"
        step = steps.get(started.step_id)
        if step is None or (started.step_id, started.dispatch) not in dispatched:
            yield f"{where}: dispatch {started.dispatch} is not in the log"
        elif (step.tool, step.arguments_json) != (started.tool, started.arguments_json):
            yield f"{where}: the step is {step.tool} {step.arguments_json}"
        if started.tool in _DENIED:
            yield f"{where}: nobody may call it"
    yield from _doubles(history)


def _doubles(history: History) -> Iterator[str]:
    once = Counter(started.step_id for started in history.started if TOOLS[started.tool] == "NON_IDEMPOTENT")
    retried = Counter(a.step_id for a in history.rows.approvals if a.kind == "IN_DOUBT" and _said(a) == "RETRY")
    for step_id, times in once.items():
        if times > 1 + retried[step_id]:
            yield f"step {step_id} must not happen twice: started {times} times, {retried[step_id]} of them asked for"


def check_approvals(history: History) -> Iterator[str]:
    """A call that asks was started only after the one decision that allows exactly it."""
    steps = {step.id: step for step in history.rows.steps}
    approvals = {approval.id: approval for approval in history.rows.approvals}
    resolved = {body["approval_id"]: at for at, body in events(history, "approval_resolved")}
    users: dict[str, set[str]] = defaultdict(set)
    for at, body in events(history, "step_started"):
        if body.get("approval_id"):
            users[body["approval_id"]].add(body["step_id"])
            if resolved.get(body["approval_id"], at) >= at:
                yield f"step {body['step_id']} was dispatched before approval {body['approval_id']} was resolved"
    for approval_id, used_by in users.items():
        if len(used_by) > 1:
            yield f"approval {approval_id} was used by {len(used_by)} steps"
    used = {(b["step_id"], b["dispatch_number"]): b.get("approval_id") for _, b in events(history, "step_started")}
    for started in history.started:
        step = steps.get(started.step_id)
        if step is not None and started.tool == "write_file":
            yield from _written_back(started, step, approvals.get(step.approval_id))
        if step is not None and started.tool in ASKING:
            approval = approvals.get(used.get((started.step_id, started.dispatch)) or "")
            if approval is None and step.grant_id:
                continue  # a remembered yes: see grants.py
            if words := _why_not(started, step, approval):
                yield f"step {step.id} ({step.tool}), dispatch {started.dispatch}, started {words}"


def _written_back(started: Started, step: Step, approval: Approval | None) -> Iterator[str]:
    """Only a person's edit of an artifact calls this tool here."""
    decision = approval.decision if approval else None
    if approval is None or decision is None or (approval.kind, decision.action) != ("ARTIFACT", "EDIT"):
        yield f"step {step.id} ({step.tool}), dispatch {started.dispatch}, wrote what nobody edited"


def _why_not(started: Started, step: Step, approval: Approval | None) -> str:
    """Why the approval that a start names is no yes to it."""
    if approval is None or approval.decision is None or approval.state != "RESOLVED":
        return "without a decision"
    decision = approval.decision
    if decision.action != "EDIT" and len({vote.voter for vote in approval.votes}) < approval.terms.quorum > 1:
        return "without enough votes"
    if decision.digest != approval.digest:
        return "with a decision about something else"
    if not approval.consume_time:
        return "and its approval is not used up"
    match approval.kind, decision.action:
        case ("TOOL_CALL", "APPROVE") | ("IN_DOUBT", "RETRY"):
            allowed = (step.id, approval.arguments_json)
        case "TOOL_CALL", "EDIT":
            allowed = (step.replaces_step_id, decision.edited_arguments_json)
        case other:
            return f"with the decision {other}"
    return "" if allowed == (approval.step_id, started.arguments_json) else "with a decision about other bytes"


def _said(approval: Approval) -> str:
    return approval.decision.action if approval.state == "RESOLVED" and approval.decision else ""


def events(history: History, name: str) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
    """All events of that name: (session, sequence), body."""
    for session_id, log in history.rows.logs.items():
        for event in log:
            if event.payload_json.startswith(f'{{"{name}":'):
                yield (session_id, event.sequence), json.loads(event.payload_json)[name]
