"""Moving each machine: advance by its table, store the row, emit the event. The only place that does so.

Every function returns the row as it now is, and raises WrongState where the table has no such transition.
"""

from orchestrator.domain.budgets import with_defaults
from orchestrator.domain.change import Change
from orchestrator.domain.events import (
    ApprovalResolved,
    PlanStateChanged,
    RunFinished,
    RunQueued,
    RunStarted,
    RunStateChanged,
    SessionStateChanged,
    StepFinished,
    StepStarted,
    SubtaskStateChanged,
)
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Attempt, Decision, Failure, Plan, Run, Step, Subtask
from orchestrator.domain.states import (
    APPROVAL,
    ATTEMPT,
    MODEL_STEP,
    PLAN,
    RUN,
    SESSION,
    SUBTASK,
    TOOL_STEP,
    AttemptState,
    Machine,
    RunState,
    StepState,
)
from orchestrator.domain.worktime import stopped, turned

NO_FAILURE = Failure()
ENGINE = "engine"
PREVIEW_CHARACTERS = 2_000
RUNS_PER_TENANT = "RUNS_PER_TENANT"


def move_session(change: Change, trigger: str, *, actor: str = ENGINE, reason: str = "") -> None:
    session = change.session
    to = SESSION.advance(session.id, session.state, trigger)
    change.emit(SessionStateChanged(session.state, trigger, to, session.active_run_id, actor, reason))
    change.put_session(state=to)


def start_run(change: Change, run: Run) -> Run:
    state = RUN.advance(run.id, run.state, "started")
    change.emit(RunStarted(run.id, run.message_id, run.agent, run.goal))
    run = replace(run, start_time=change.now, budget=with_defaults(run.budget, change.session.budget))
    return _put_run(change, run, state)


def move_run(change: Change, run: Run, trigger: str, *, actor: str = ENGINE, reason: str = "") -> Run:
    """Between the states of an open run; `end_run` ends one."""
    to = RUN.advance(run.id, run.state, trigger)
    change.emit(RunStateChanged(run.id, run.state, trigger, to, actor, reason))
    return _put_run(change, run, to)


def end_run(change: Change, run: Run, trigger: str, *, actor: str = ENGINE, reason: str = "") -> Run:
    to = RUN.advance(run.id, run.state, trigger)
    change.emit(
        RunFinished(
            run.id,
            run.state,
            trigger,
            to,
            run.final_message_id,
            run.usage,
            actor,
            reason,
            _or_none(run.failure),
            run.retries,
            run.faults,
            run.losses,
        )
    )
    return _put_run(change, replace(run, end_time=change.now), to)


def queue_run(change: Change, run: Run) -> Run:
    """It stays as it is until there is room among the tenant's runs; said once."""
    if run.waits_for:
        return run
    change.emit(RunQueued(run.id, run.message_id, "", run.agent, RUNS_PER_TENANT))
    return change.put(replace(stopped(run, change.now), waits_for=RUNS_PER_TENANT))


def _put_run(change: Change, run: Run, to: str) -> Run:
    """Every move of a run comes by here: only RUNNING counts against the tenant's limit."""
    change.running += (to == RunState.RUNNING) - (run.state == RunState.RUNNING)
    waits_for = run.waits_for if to == run.state else ""  # a pause that is asked while it queues changes no place
    run = turned(run, to, change.now)
    return change.put(run if run.waits_for == waits_for else replace(run, waits_for=waits_for))


def move_plan(change: Change, plan: Plan, trigger: str, *, actor: str = ENGINE, reason: str = "") -> Plan:
    to = PLAN.advance(plan.id, plan.state, trigger)
    change.emit(PlanStateChanged(plan.id, plan.run_id, plan.version, plan.state, trigger, to, actor, reason))
    return change.put(
        replace(
            plan,
            state=to,
            approve_time=change.now if trigger == "approved" else plan.approve_time,
            start_time=change.now if trigger == "started" else plan.start_time,
            end_time=change.now if to in PLAN.terminal else plan.end_time,
        )
    )


def move_subtask(
    change: Change,
    subtask: Subtask,
    trigger: str,
    *,
    actor: str = ENGINE,
    reason: str = "",
    failure: Failure = NO_FAILURE,
    result: str = "",
) -> Subtask:
    to = SUBTASK.advance(subtask.id, subtask.state, trigger)
    attempts = subtask.attempts + (trigger == "started")
    change.emit(
        SubtaskStateChanged(
            subtask.id,
            subtask.key,
            subtask.plan_id,
            subtask.run_id,
            subtask.agent,
            attempts,
            subtask.state,
            trigger,
            to,
            actor,
            reason,
            _or_none(failure),
        )
    )
    return change.put(
        replace(
            subtask,
            state=to,
            attempts=attempts,
            failure=failure,
            result=result or subtask.result,
            start_time=subtask.start_time or (change.now if trigger == "started" else 0),
            end_time=change.now if to in SUBTASK.terminal else 0,
        )
    )


def end_attempt(
    change: Change, attempt: Attempt, trigger: str, *, result: str = "", failure: Failure = NO_FAILURE
) -> Attempt:
    """Attempts end silently: their steps before and their subtask or run after carry the events."""
    state = AttemptState(ATTEMPT.advance(attempt.id, attempt.state, trigger))
    return change.put(replace(attempt, state=state, result=result, failure=failure, end_time=change.now))


def machine_of(step: Step) -> Machine:
    return MODEL_STEP if step.kind == "MODEL" else TOOL_STEP


def move_step(change: Change, step: Step, trigger: str) -> Step:
    """A silent transition between two events: proposed to approved, asked, …"""
    return change.put(replace(step, state=machine_of(step).advance(step.id, step.state, trigger)))


def dispatch_step(change: Change, step: Step, **placement: object) -> Step:
    """To DISPATCHED under the next dispatch number; it is started once this is written."""
    state = machine_of(step).advance(step.id, step.state, "dispatched")
    step = replace(
        step,
        state=state,
        dispatch_number=step.dispatch_number + 1,
        waiting_for=None,
        start_time=step.start_time or change.now,
        dispatch_time=change.now,
        **placement,  # type: ignore[arg-type]  # executor_instance, executor_address, deadline_time
    )
    change.emit(
        StepStarted(
            step.id,
            step.run_id,
            step.subtask_id,
            step.attempt_id,
            step.kind,
            step.agent,
            step.dispatch_number,
            step.executor_instance,
            step.model,
            step.tool,
            step.arguments_json,
            step.approval_id,
            step.grant_id,
        )
    )
    change.starts.append(step.id)
    return change.put(step)


def finish_step(change: Change, step: Step, trigger: str, *, actor: str = ENGINE) -> Step:
    """Leave DISPATCHED or settle a call that never ran; `step` already carries its outcome."""
    state = machine_of(step).advance(step.id, step.state, trigger)
    goes_on = state in (StepState.PENDING, StepState.APPROVED, StepState.IN_DOUBT)
    words = step.result.content if step.result else step.reply.text if step.reply else ""
    change.emit(
        StepFinished(
            step.id,
            step.run_id,
            step.subtask_id,
            step.attempt_id,
            step.kind,
            step.agent,
            step.dispatch_number,
            trigger,
            state,
            step.tool,
            step.model,
            step.usage if step.kind == "MODEL" else None,
            step.latency,
            step.result is not None and step.result.is_error,
            words[:PREVIEW_CHARACTERS],
            actor,
            _or_none(step.failure),
        )
    )
    return change.put(replace(step, state=state, waiting_for=None, end_time=0 if goes_on else change.now))


def settle_approval(
    change: Change,
    approval: Approval,
    trigger: str,
    *,
    decision: Decision | None = None,
    actor: str = ENGINE,
    reason: str = "",
) -> Approval:
    """Resolved with a decision, or expired, cancelled, superseded by what `actor` did."""
    state = APPROVAL.advance(approval.id, approval.state, trigger)
    said = decision or Decision("", "", change.now)
    change.emit(
        ApprovalResolved(
            approval.id,
            approval.kind,
            approval.run_id,
            state,
            trigger,
            said.action,
            said.decider,
            approval.digest,
            said.feedback,
            approval.plan_id,
            approval.step_id,
            approval.subtask_id,
            reason,
            said.response_json,
            said.edited_arguments_json,
        )
    )
    resolver, why = ("", "") if decision else (actor, reason)
    approval = replace(approval, state=state, decision=decision, resolve_time=change.now)
    return change.put(replace(approval, resolver=resolver, resolve_reason=why))


def _or_none(failure: Failure) -> Failure | None:
    """Events say nothing of what did not happen."""
    return failure if failure.reason else None
