"""`reconcile`: looks at what is true in a session and does what is due, until nothing is.

Total and idempotent: applied to its own result it does nothing more. It decides; the engine writes, starts and waits.
"""

from orchestrator.domain.asking import ask_about_failure, ask_about_plan
from orchestrator.domain.attempts import advance_attempt, begin_unless_open
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import end_overdue
from orchestrator.domain.ending import complete_run
from orchestrator.domain.expiring import mind_the_time, times_to_mind
from orchestrator.domain.grants import end_expired
from orchestrator.domain.limits import ask_for_more
from orchestrator.domain.planning import begin_planning, begin_routing, conclude_planning, conclude_routing
from orchestrator.domain.records import Attempt, Run
from orchestrator.domain.retries import policy_of, schedule_retry
from orchestrator.domain.room import look_again
from orchestrator.domain.snapshot import is_flying
from orchestrator.domain.starting import World
from orchestrator.domain.states import (
    AttemptState,
    PlanState,
    RunState,
    StepState,
    SubtaskState,
)
from orchestrator.domain.subtasks import begin_subtasks, complete_plan, conclude_subtask
from orchestrator.domain.transitions import move_plan, move_run, move_session, queue_run, start_run
from orchestrator.domain.worktime import end_of_work, is_used_up


def reconcile(change: Change, world: World) -> None:
    """Do everything that is due now. `change.starts` are the steps to start once it is written."""
    end_expired(change)
    while True:
        run = change.snapshot.run
        if run is None:
            if not _activate_next(change, world.catalog):
                break
        elif not _advance_run(change, run, world):
            break
    _settle(change)


def _activate_next(change: Change, catalog: Catalog) -> bool:
    queue = [r for r in change.snapshot.runs.values() if r.state == RunState.CREATED]
    if not queue:
        return False
    run = activate(change, min(queue, key=lambda r: r.queue_number), catalog)
    return not run.waits_for


def activate(change: Change, run: Run, catalog: Catalog) -> Run:
    """A queued or new run becomes the session's active one, entering by its own trigger; if it has room."""
    if not change.may_run:
        return queue_run(change, run)
    change.put_session(active_run_id=run.id)
    run = start_run(change, run)
    if run.kind == "PLAN":
        move_session(change, "plan_submitted")
        ask_about_plan(change, change.snapshot.plans[run.plan_id], catalog)
    elif run.route == "COMPLEX":
        move_session(change, "message_to_architect")
    elif run.route == "ATOMIC":
        move_session(change, "message_to_agent")
    else:
        move_session(change, "message_received")
    return run


def _advance_run(change: Change, run: Run, world: World) -> bool:
    if mind_the_time(change, run):
        return True
    if run.state == RunState.PAUSED:
        return False
    if run.pause is not None:
        return _pause_when_quiet(change, run)
    if end_overdue(change, world.catalog):
        return True
    if run.state == RunState.RESUMED:
        run = move_run(change, run, "running") if change.may_run else queue_run(change, run)
        return not run.waits_for
    if is_used_up(run, change.now):
        return ask_for_more(change, run, "work_duration")
    for attempt in [a for a in change.snapshot.attempts.values() if a.state == AttemptState.RUNNING]:
        while advance_attempt(change, attempt, world):
            attempt = change.snapshot.attempts[attempt.id]
            if attempt.state != AttemptState.RUNNING:
                _CONCLUSIONS[attempt.purpose](change, change.snapshot.runs[run.id], attempt, world)
                return True
    run = change.snapshot.runs[run.id]
    if _begin_what_is_due(change, run, world):
        return True
    return change.limit_reached != "" and ask_for_more(change, run, change.limit_reached)


def _pause_when_quiet(change: Change, run: Run) -> bool:
    """Nothing new starts; what an executor has in hand is waited for, and its outcome is used after the resume."""
    if is_flying(change.snapshot):
        return False
    assert run.pause is not None
    move_run(change, run, "paused", actor=run.pause.requester, reason=run.pause.reason)
    return True


def _begin_what_is_due(change: Change, run: Run, world: World) -> bool:
    if not run.route:
        return begin_routing(change, run, world)
    if run.route == "ATOMIC":
        return begin_unless_open(change, "ANSWER", run.route_agent)
    plan = change.snapshot.plan
    if plan is None or plan.state == PlanState.SUPERSEDED:
        return begin_planning(change, run, world)
    if plan.state == PlanState.APPROVED:
        move_plan(change, plan, "started")
        return True
    if plan.state == PlanState.IN_PROGRESS:
        return begin_subtasks(change, plan) or complete_plan(change, run, plan)
    return False


def _conclude_answer(change: Change, run: Run, attempt: Attempt, world: World) -> None:
    if attempt.state == AttemptState.SUCCEEDED:
        complete_run(change, run, attempt.result, attempt.agent)
        return
    if schedule_retry(change, attempt, policy_of(world.catalog.agents.get(attempt.agent))):
        return
    ask_about_failure(change, attempt, attempt.failure, None, world.catalog)
    move_session(change, "subtask_failed", actor=attempt.agent, reason=attempt.failure.message)


_CONCLUSIONS = {
    "ROUTING": conclude_routing,
    "PLANNING": conclude_planning,
    "SUBTASK": conclude_subtask,
    "ANSWER": _conclude_answer,
}


def _settle(change: Change) -> None:
    """Whether the run waits, and when the engine must look again. The owner keeps a session with steps in flight."""
    queued = any(r.waits_for for r in change.snapshot.runs.values())
    queue_time = (change.session.queue_time or change.now) if queued else 0
    run = change.snapshot.run
    if run is None:
        change.put_session(runnable=False, due_time=0, settled=not queued, queue_time=queue_time)
        return
    flying = is_flying(change.snapshot) or bool(change.reads)
    ready = [s for s in change.snapshot.steps.values() if s.state == StepState.READY]
    due = _start_times(change, run)
    if run.pause is not None or is_used_up(run, change.now):
        due = []  # nothing will start: the resume, or a higher limit, looks again
    people = times_to_mind(change.snapshot)
    if change.blocked:
        due.append(look_again(change, [*due, end_of_work(run), *people]))
    asked = bool(change.snapshot.pending)
    if run.state == RunState.RUNNING and not flying and not due and (asked or ready):
        run = move_run(change, run, "waiting")
    if run.pause is None and (end := end_of_work(run)) > change.now:
        due.append(end)
    if run.pause is None:
        due += [s.deadline_time for s in ready]
    due += people  # also while it is paused: people can answer
    settled = run.state in (RunState.WAITING, RunState.PAUSED)
    change.put_session(runnable=flying, due_time=min(due, default=0), settled=settled, queue_time=queue_time)


def _start_times(change: Change, run: Run) -> list[int]:
    """When what waits for a time of its own may start: dispatches, subtasks and attempts that are tried again."""
    snapshot, now = change.snapshot, change.now
    steps = [s for s in snapshot.steps.values() if s.not_before_time > now]
    times = [s.not_before_time for s in steps if s.state in (StepState.PENDING, StepState.APPROVED)]
    subtasks = [s for s in snapshot.subtasks.values() if s.not_before_time > now]
    times += [s.not_before_time for s in subtasks if s.state == SubtaskState.PENDING]
    return times + [
        a.retry_time
        for a in snapshot.attempts.values()
        if a.retry_time > now and a.run_id == run.id and not a.subtask_id  # of a subtask's its own time speaks
    ]
