"""How a run ends, with its final message or cancelled with everything of it closed; and how a plan under way does."""

from orchestrator.domain.carrying import subtasks_of
from orchestrator.domain.change import Change
from orchestrator.domain.events import MessageCreated
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Failure, Message, Plan, Run, Step, ToolResult, is_done
from orchestrator.domain.states import PLAN, SUBTASK, AttemptState, PlanState, RunState, StepState
from orchestrator.domain.transitions import (
    end_attempt,
    end_run,
    finish_step,
    move_plan,
    move_session,
    move_subtask,
    settle_approval,
)


def complete_run(change: Change, run: Run, text: str, agent: str) -> None:
    """The agent's final words become a message, and the session moves on."""
    message = Message(
        run.tenant,
        change.new_id(),
        run.session_id,
        run.id,
        "AGENT",
        agent,
        text or "(The agent gave no answer.)",
        sequence=change.next_sequence,
        create_time=change.now,
    )
    change.put(message)
    change.emit(MessageCreated(message))
    end_run(change, replace(run, final_message_id=message.id), "completed")
    move_session(change, "run_completed")
    change.put_session(active_run_id="")


def cancel_run(change: Change, run: Run, *, actor: str, reason: str, session_trigger: str = "run_cancelled") -> None:
    """Ends an open run, active or queued, at once: every open call gets its one final result, every pending approval is
    closed.

    Steps in flight are CANCELLED here; whoever started them tells the executor.
    """
    run = replace(_closed(change, run, actor, reason), cancel_reason=reason)
    end_run(change, run, "cancelled", actor=actor, reason=reason)
    _leave(change, run, session_trigger, actor, reason)


def fail_run(change: Change, run: Run, failure: Failure, *, actor: str) -> None:
    """Ends an open run that could not be done, closing all of it as a cancel does."""
    run = replace(_closed(change, run, actor, failure.message, "failed"), failure=failure)
    end_run(change, run, "failed", actor=actor, reason=failure.message)
    _leave(change, run, "run_failed", actor, failure.message)


def close_plan(change: Change, plan: Plan, *, actor: str, reason: str) -> None:
    """Another version takes the place of a plan that is under way: all that is open in it ends, every call with its one
    final result, and is asked about no more; only what concerns the run as a whole still is.

    A call in flight or in doubt may have taken effect, as its result says.
    """
    move_plan(change, plan, "replanned", actor=actor, reason=reason)
    left = [s for s in subtasks_of(change.snapshot, plan) if s.state not in SUBTASK.terminal]
    open_ids = {s.id for s in left}
    steps = [s for s in change.snapshot.steps.values() if s.subtask_id in open_ids]
    _close_steps(change, steps, actor, reason, "The work was planned anew")
    for attempt in list(change.snapshot.attempts.values()):
        if attempt.subtask_id in open_ids and attempt.state == AttemptState.RUNNING:
            end_attempt(change, attempt, "cancelled")
    for subtask in left:
        cancelled = move_subtask(change, subtask, "cancelled", actor=actor, reason=reason)
        change.put(replace(cancelled, failure=subtask.failure))
    for approval in change.snapshot.pending:
        if approval.run_id == plan.run_id and approval.kind != "BUDGET":
            settle_approval(change, approval, "superseded", actor=actor, reason=reason)


def _leave(change: Change, run: Run, session_trigger: str, actor: str, reason: str) -> None:
    if change.session.active_run_id == run.id:
        move_session(change, session_trigger, actor=actor, reason=reason)
        change.put_session(active_run_id="")


def _closed(change: Change, run: Run, actor: str, reason: str, plan_trigger: str = "cancelled") -> Run:
    """Everything of the run at its end; the run itself has yet to end."""
    steps = [s for s in change.snapshot.steps.values() if s.run_id == run.id]
    _close_steps(change, steps, actor, reason, "The run was cancelled")
    for attempt in list(change.snapshot.attempts.values()):
        if attempt.run_id == run.id and attempt.state == AttemptState.RUNNING:
            end_attempt(change, attempt, "cancelled")
    for subtask in list(change.snapshot.subtasks.values()):
        if subtask.run_id == run.id and subtask.state not in SUBTASK.terminal:
            move_subtask(change, subtask, "cancelled", actor=actor)
    for plan in list(change.snapshot.plans.values()):
        if plan.run_id == run.id and plan.state not in PLAN.terminal:
            trigger = plan_trigger if plan.state == PlanState.IN_PROGRESS else "cancelled"
            move_plan(change, plan, trigger, actor=actor, reason=reason)
    for approval in change.snapshot.pending:
        if approval.run_id == run.id:
            settle_approval(change, approval, "cancelled", actor=actor, reason=reason)
    run = replace(change.snapshot.runs[run.id], pause=None)
    _close_ranks(change, run)
    return run


def _close_ranks(change: Change, run: Run) -> None:
    """Who was queued behind a queued run is now behind the one ahead of that."""
    for behind in list(change.snapshot.runs.values()):
        if behind.queued_behind_run_id == run.id and behind.state == RunState.CREATED:
            ahead = run.queued_behind_run_id if run.state == RunState.CREATED else ""
            change.put(replace(behind, queued_behind_run_id=ahead))


def _close_steps(change: Change, steps: list[Step], actor: str, reason: str, event: str) -> None:
    for step in steps:
        if not is_done(step):
            if step.state == StepState.DISPATCHED:
                change.ends.append(step)
            words = _of_its_end(step, event)
            result = ToolResult(words, is_error=True) if step.kind == "TOOL" else None
            failure = Failure("CANCELLED", reason or words, "FATAL")
            finish_step(change, replace(step, result=result, failure=failure), "cancelled", actor=actor)


def _of_its_end(step: Step, event: str) -> str:
    """What the call's result says: an executor may have carried out what it was already sent."""
    if step.state == StepState.DISPATCHED:
        return f"{event} while this call was under way: it may have taken effect."
    if step.client_id:
        return f"{event} while client {step.client_id} had this call: it may have taken effect."
    if step.doubt_number or step.state == StepState.IN_DOUBT:
        return f"{event} while it was not known whether this call took effect."
    return f"{event} before this call began."
