"""What a person does to a run or a session as a whole: pause, resume, cancel, close.

Every function works on a Change, before the engine's rules go on, and returns the row the caller asked for.
"""

from orchestrator.domain.change import Change
from orchestrator.domain.ending import cancel_run
from orchestrator.domain.errors import WrongState
from orchestrator.domain.events import SessionClosed
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Pause, Run, Session, is_open
from orchestrator.domain.snapshot import is_flying
from orchestrator.domain.states import RUN, SESSION, RunState, StepState
from orchestrator.domain.transitions import move_run, move_session

PAUSABLE = (RunState.CREATED, RunState.RUNNING, RunState.WAITING, RunState.RESUMED)
RESUMABLE = (RunState.PAUSED,)
CANCELLABLE = RUN.accepting("cancelled")
OF_A_RESUME = 0  # the deadline of a client's call that was over while nothing was looked at: it passed long ago


def pause(change: Change, run_id: str, actor: str, reason: str) -> Run:
    """Nothing new starts in an open run. PAUSED at once where nothing is in flight; a queued run when its turn comes.

    A pause that was asked already is left as it is. Raises WrongState for a run that is PAUSED.
    """
    run = change.snapshot.runs[run_id]
    if run.state not in PAUSABLE:
        raise WrongState("run", run.id, run.state, "paused", PAUSABLE)
    if run.pause is not None:
        return run
    run = replace(run, pause=Pause(actor, reason, change.now))
    waits = run.state == RunState.CREATED or is_flying(change.snapshot)
    return move_run(change, run, "pause_requested" if waits else "paused", actor=actor, reason=reason)


def resume(change: Change, run_id: str, actor: str, reason: str) -> Run:
    """A paused run goes on; a pause that has yet to take hold is withdrawn. Raises WrongState where none was asked."""
    run = change.snapshot.runs[run_id]
    if run.pause is None:
        raise WrongState("run", run.id, run.state, "resumed", RESUMABLE)
    _see_afresh(change, run)
    trigger = "resumed" if run.state == RunState.PAUSED else "pause_withdrawn"
    return move_run(change, replace(run, pause=None), trigger, actor=actor, reason=reason)


def _see_afresh(change: Change, run: Run) -> None:
    """Calls whose clients ran out of time meanwhile: what becomes of them is seen with the resume."""
    for step in list(change.snapshot.steps.values()):
        if step.run_id == run.id and step.state == StepState.READY and step.deadline_time <= change.now:
            change.put(replace(step, deadline_time=OF_A_RESUME))


def go_on(change: Change, run_id: str, actor: str) -> None:
    """A run that waited does so no more; whether it waits for something else is found when it is looked at."""
    run = change.snapshot.runs[run_id]
    if run.state == RunState.WAITING:
        move_run(change, run, "resumed", actor=actor)


def cancel(change: Change, run_id: str, actor: str, reason: str) -> Run:
    """Ends an open run, active or queued. Raises WrongState for one that has ended."""
    run = change.snapshot.runs[run_id]
    cancel_run(change, run, actor=actor, reason=reason or f"cancelled by {actor}")
    return change.snapshot.runs[run_id]


def close(change: Change, actor: str, reason: str) -> Session:
    """Ends every open run, and the session takes nothing more. Raises WrongState for one that is closed."""
    SESSION.advance(change.session.id, change.session.state, "closed")
    words = reason or f"the session was closed by {actor}"
    for run in sorted(change.snapshot.runs.values(), key=lambda r: r.queue_number):
        if is_open(run):
            cancel_run(change, run, actor=actor, reason=words)
    move_session(change, "closed", actor=actor, reason=reason)
    change.emit(SessionClosed(actor, reason))
    return change.session
