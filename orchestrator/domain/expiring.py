"""What time does to a question that waits: people are reminded of it, and what nobody answers in time expires.

Expiry is a decision like any other, and competes with them: found by the engine when it is due, carried out once. What
follows is the question's terms' to say. Whether a person still may answer is `deciding`'s.
"""

from collections.abc import Callable

from orchestrator.domain.asking import ask_again
from orchestrator.domain.change import Change
from orchestrator.domain.control import go_on, pause
from orchestrator.domain.deciding import reject
from orchestrator.domain.ending import fail_run
from orchestrator.domain.events import ApprovalReminder
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Decision, Failure, Run, ToolResult
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import RunState
from orchestrator.domain.terms import is_overdue
from orchestrator.domain.transitions import ENGINE, finish_step, settle_approval

MOST_REMINDERS = 100
NOBODY = "nobody answered in time"


def mind_the_time(change: Change, run: Run) -> bool:
    """Carry out one expiry, or remind of whatever is due. True when something was done: look again."""
    pending = change.snapshot.pending
    if overdue := [a for a in pending if is_overdue(a, change.now)]:
        _expire(change, run, min(overdue, key=lambda a: (a.expire_time, a.id)))
        return True
    due = [a for a in pending if 0 < a.remind_time <= change.now]
    for approval in due:
        _remind(change, approval)
    return bool(due)


def times_to_mind(snapshot: Snapshot) -> list[int]:
    """When the engine must look at the active run's questions."""
    return [time for a in snapshot.pending for time in (a.expire_time, a.remind_time) if time]


def _remind(change: Change, approval: Approval) -> None:
    """What was missed is not caught up on: the next one is due in the future, and before it expires."""
    number, every = approval.reminders + 1, approval.terms.remind_every
    due = approval.remind_time + every * (1 + (change.now - approval.remind_time) // every)
    if number >= MOST_REMINDERS or 0 < approval.expire_time <= due:
        due = 0
    change.emit(ApprovalReminder(approval.id, approval.kind, approval.run_id, number, approval.expire_time))
    change.put(replace(approval, reminders=number, remind_time=due))


def _expire(change: Change, run: Run, approval: Approval) -> None:
    terms = approval.terms
    if terms.on_expiry == "ESCALATE":
        settle_approval(change, approval, "expired", reason=f"{NOBODY}: others are asked")
        roles = terms.escalation_roles or terms.roles
        ask_again(change, approval, replace(terms, roles=roles, on_expiry="HALT", escalation_roles=[]))
    elif terms.on_expiry == "DENY":
        approval = settle_approval(change, approval, "expired", reason=f"{NOBODY}: so it is refused")
        _DENY.get(approval.kind, _as_rejected)(change, approval)
        go_on(change, approval.run_id, ENGINE)
    else:
        settle_approval(change, approval, "expired", reason=f"{NOBODY}: the run is halted")
        ask_again(change, approval, replace(terms, wait=0, on_expiry="NEVER"))
        if run.state != RunState.PAUSED:
            pause(change, run.id, ENGINE, f"{NOBODY}: {approval.preview.title}"[:500])


def _as_rejected(change: Change, approval: Approval) -> None:
    reject(change, approval, Decision("REJECT", ENGINE, change.now, approval.digest, NOBODY))


def _refuse_call(change: Change, approval: Approval) -> None:
    """The agent reads that nobody answered as the call's result, and goes on."""
    step = change.snapshot.steps[approval.step_id]
    words = f"Nobody answered in time whether {step.tool} may be called; it was not carried out."
    if approval.kind == "QUESTION":
        words = "Nobody answered in time."
    failure = Failure("REJECTED", words, "HUMAN_REQUIRED")
    finish_step(change, replace(step, result=ToolResult(words, is_error=True), failure=failure), "rejected")


def _give_up_doubt(change: Change, approval: Approval) -> None:
    step = change.snapshot.steps[approval.step_id]
    words = f"It is not known whether this call of {step.tool} took effect, and {NOBODY}. It was not repeated."
    finish_step(change, replace(step, result=ToolResult(words, is_error=True)), "given_up")


def _fail(change: Change, approval: Approval) -> None:
    """Nobody says how to go on after it, so the run ends with the failure that was asked about."""
    work = (approval.run_id, approval.subtask_id)
    failed = [a for a in change.snapshot.attempts.values() if (a.run_id, a.subtask_id) == work and a.failure.reason]
    last = max(failed, key=lambda a: (a.end_time, a.number)).failure
    failure = replace(last, message=f"{last.message} ({NOBODY} what to do about it)")
    fail_run(change, change.snapshot.runs[approval.run_id], failure, actor=ENGINE)


_DENY: dict[str, Callable[[Change, Approval], None]] = {
    "TOOL_CALL": _refuse_call,
    "QUESTION": _refuse_call,
    "IN_DOUBT": _give_up_doubt,
    "FAILURE": _fail,
}
