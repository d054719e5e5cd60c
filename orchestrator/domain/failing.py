"""What a person says to what has failed for good: again, on without it, or planned anew; what is done stays done.

Asking about a failure is asking.py's part, what the next try is told heeding.py's.
"""

from orchestrator.domain.change import Change
from orchestrator.domain.ending import close_plan
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Decision
from orchestrator.domain.transitions import move_session, move_subtask


def _retry(change: Change, approval: Approval, decision: Decision) -> None:
    """From where it stopped; the agent reads what was said."""
    subtask = change.snapshot.subtasks.get(approval.subtask_id)
    if subtask is not None:
        move_subtask(change, subtask, "retried", actor=decision.decider, reason=decision.feedback)
    _go_on(change, approval, decision)


def _skip(change: Change, approval: Approval, decision: Decision) -> None:
    """What depends on it runs, and reads that it was skipped, and why."""
    failed = change.snapshot.subtasks[approval.subtask_id]
    skipped = move_subtask(change, failed, "skipped", actor=decision.decider, reason=decision.feedback)
    change.put(replace(skipped, failure=failed.failure, skip_reason=decision.feedback))
    _go_on(change, approval, decision)


def _go_on(change: Change, approval: Approval, decision: Decision) -> None:
    """Back to where it came from, once the last failure is dealt with."""
    if any(a.kind == "FAILURE" for a in change.snapshot.pending):
        return
    if change.snapshot.runs[approval.run_id].route == "ATOMIC":
        trigger = "execution_resumed"
    else:
        trigger = "subtasks_resumed" if approval.subtask_id else "planning_retried"
    move_session(change, trigger, actor=decision.decider)


def _replan(change: Change, approval: Approval, decision: Decision) -> None:
    """The architect plans what is left. All that is under way in the plan ends here, and so do its questions."""
    actor, reason = decision.decider, "the work is planned anew"
    if decision.feedback:
        reason += f": {decision.feedback}"
    run = change.snapshot.runs[approval.run_id]
    plan = change.snapshot.plans.get(run.plan_id)
    if plan is not None:
        close_plan(change, plan, actor=actor, reason=reason)
    else:
        change.put(replace(run, route="COMPLEX", route_reason=reason[:2000]))
    move_session(change, "replan", actor=actor, reason=decision.feedback)


EFFECTS = {
    ("FAILURE", "RETRY"): _retry,
    ("FAILURE", "SKIP"): _skip,
    ("FAILURE", "REPLAN"): _replan,
}
