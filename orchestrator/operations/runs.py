"""Commands that steer a run: pause, resume, cancel."""

from collections.abc import Callable

from orchestrator.domain import control
from orchestrator.domain.change import Change
from orchestrator.domain.errors import NotFound, WrongState
from orchestrator.domain.records import Run, is_open
from orchestrator.operations.commanding import command
from orchestrator.operations.context import Caller, Context
from orchestrator.store import queries

Act = Callable[[Change, str, str, str], Run]  # the change, the run's id, the actor and the reason


async def pause(ctx: Context, caller: Caller, run_id: str, reason: str) -> Run:
    """Raises NotFound, and WrongState for a run that is PAUSED or has ended."""
    return await _steer(ctx, caller, run_id, reason, control.pause, ("paused", control.PAUSABLE))


async def resume(ctx: Context, caller: Caller, run_id: str, reason: str) -> Run:
    """Raises NotFound, and WrongState for a run that nobody paused."""
    return await _steer(ctx, caller, run_id, reason, control.resume, ("resumed", control.RESUMABLE))


async def cancel(ctx: Context, caller: Caller, run_id: str, reason: str) -> Run:
    """Raises NotFound, and WrongState for a run that has ended."""
    return await _steer(ctx, caller, run_id, reason, control.cancel, ("cancelled", control.CANCELLABLE))


async def _steer(
    ctx: Context, caller: Caller, run_id: str, reason: str, act: Act, otherwise: tuple[str, tuple[str, ...]]
) -> Run:
    """`otherwise`: what cannot be done to a run that has ended, and the states in which it could."""
    trigger, accepting = otherwise
    run = await _stored(ctx, caller, run_id)

    def decide(change: Change) -> Callable[[], Run]:
        if run_id not in change.snapshot.runs:
            raise WrongState("run", run_id, run.state, trigger, accepting)  # ended runs are not loaded
        act(change, run_id, caller.subject, reason)
        return lambda: change.snapshot.runs[run_id]

    try:
        return await command(ctx, caller, run.session_id, Run, decide)
    except WrongState as refused:
        now = await _stored(ctx, caller, run_id)
        if is_open(now):
            raise refused
        raise WrongState("run", run_id, now.state, trigger, accepting) from None


async def _stored(ctx: Context, caller: Caller, run_id: str) -> Run:
    run = await queries.get_run(ctx.database, caller.tenant, run_id)
    if run is None:
        raise NotFound("run", run_id)
    return run
