"""What work that was given up leaves behind, in words, for the architect who plans what is left. Reads rows alone."""

from orchestrator.domain.carrying import done_of, subtasks_of
from orchestrator.domain.records import Approval, Attempt, Plan, Run, Step, Subtask
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import StepState, SubtaskState

MOST_OF_A_RESULT = 2_000  # characters
MOST_OF_A_CALL = 300
MOST_CALLS = 100  # that took effect, or may have, the newest
MOST = 100_000  # characters in all


def what_is_left(snapshot: Snapshot, said: Approval) -> str:
    """After a decision to plan anew: what is done, what failed, what was under way, what its calls may have done."""
    run, plan = snapshot.runs[said.run_id], snapshot.plans.get(said.plan_id)
    assert said.decision is not None
    wish = f" They say: {said.decision.feedback}" if said.decision.feedback else ""
    parts = [f"A person had the work planned anew.{wish}"]
    parts += _of_plan(snapshot, plan) if plan else _of_answer(snapshot, run)
    if calls := _effects(snapshot, run, plan):
        parts.append("\n".join(["What the calls of the unfinished work did or may have done, oldest first:", *calls]))
    parts.append(
        "Plan what is left. What is done is in the new plan without your naming it: others may depend on its keys, and "
        "none may be defined again. Answer with JSON of the schema only."
        if done_of(snapshot, plan)
        else "Plan what is left. Answer with JSON of the schema only."
    )
    return _cut("\n\n".join(parts), MOST)


def _of_plan(snapshot: Snapshot, plan: Plan) -> list[str]:
    done = done_of(snapshot, plan)
    left = [s for s in subtasks_of(snapshot, plan) if s not in done]
    failed = [s for s in left if s.failure.reason]
    under_way = [s for s in left if s.start_time and s not in failed]
    never = [s for s in left if not s.start_time]
    listed = [
        ("Done:", [_done(s) for s in done]),
        ("Failed:", [f"- {_name(s)}: {s.failure.reason}: {_cut(s.failure.message, MOST_OF_A_RESULT)}" for s in failed]),
        ("Under way, and ended where they were:", [f"- {_name(s)}" for s in under_way]),
        ("Never begun:", [f"- {_name(s)}" for s in never]),
    ]
    return ["\n".join([title, *lines]) for title, lines in listed if lines]


def _of_answer(snapshot: Snapshot, run: Run) -> list[str]:
    tries = [a for a in snapshot.attempts.values() if a.run_id == run.id and a.purpose == "ANSWER"]
    last: Attempt | None = max(tries, key=lambda a: a.number, default=None)
    if last is None:
        return []
    return [f"It was tried without a plan, by {last.agent}, and failed: {last.failure.reason}: {last.failure.message}"]


def _done(subtask: Subtask) -> str:
    if subtask.state == SubtaskState.SKIPPED:
        return f"- {_name(subtask)}: skipped by a person{f': {subtask.skip_reason}' if subtask.skip_reason else ''}"
    return f"- {_name(subtask)}: {_cut(subtask.result, MOST_OF_A_RESULT)}"


def _name(subtask: Subtask) -> str:
    return f"{subtask.key} ({subtask.title}), by {subtask.agent}"


def _effects(snapshot: Snapshot, run: Run, plan: Plan | None) -> list[str]:
    """Of what is done the results speak; of the rest every call that began and changes something."""
    done = done_of(snapshot, plan)
    own = {s.id for s in subtasks_of(snapshot, plan) if s not in done} if plan else {""}
    attempts = {a.id for a in snapshot.attempts.values() if a.purpose in ("SUBTASK", "ANSWER")}
    calls = [
        step
        for step in snapshot.steps.values()
        if step.run_id == run.id and step.attempt_id in attempts and step.subtask_id in own and _acted(step)
    ]
    calls.sort(key=lambda s: (s.start_time, s.ordinal))
    lines = [_call(step) for step in calls[-MOST_CALLS:]]
    return [f"- ({len(calls) - MOST_CALLS} more before these)", *lines] if len(calls) > MOST_CALLS else lines


def _acted(step: Step) -> bool:
    return step.kind == "TOOL" and step.start_time > 0 and step.side_effect != "READ_ONLY"


def _call(step: Step) -> str:
    came = step.result.content if step.result else step.state
    sure = "" if step.state == StepState.SUCCEEDED else f" ({step.state})"
    return f"- {step.tool} {_cut(step.arguments_json, MOST_OF_A_CALL)}{sure}: {_cut(came, MOST_OF_A_CALL)}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} … (cut)"
