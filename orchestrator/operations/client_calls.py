"""Calls of clients' tools: a client claims one, and hands in what came of it. A result that is not taken leaves its row
in the audit table: it may be late, or somebody else's, or forged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.domain.catalog import SECOND
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import claim_call, record_result
from orchestrator.domain.errors import DomainError, NotFound, StorageUnavailable, WrongState
from orchestrator.domain.records import Step, ToolResult
from orchestrator.domain.results import read_result
from orchestrator.domain.states import StepState
from orchestrator.operations.approvals import record_refusal
from orchestrator.operations.commanding import NotInSnapshot, command
from orchestrator.operations.context import Caller, Context
from orchestrator.store import queries

A = TypeVar("A")
DEFAULT_LEASE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Said:
    """What a client says that its call came to: JSON text, or that it did not work and why."""

    content_json: str = ""
    error: str | None = None

    def result(self) -> ToolResult:
        """Raises InvalidJson."""
        if self.error is None:
            return read_result(self.content_json, "content_json")
        return ToolResult(self.error or "The client says that it did not work, and not why.", is_error=True)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The call with its result, and the sequence that the events of it follow."""

    step: Step
    began_after: int


async def claim(ctx: Context, caller: Caller, step_id: str, client_id: str, lease: int) -> Step:
    """Raises NotFound, WrongState for a call that is not READY, ClaimedByAnother."""

    def act(change: Change, step: Step) -> Callable[[], Step]:
        claimed = claim_call(change, step, client_id, lease, caller.subject)
        return lambda: claimed

    return await _on_call(ctx, caller, await _stored(ctx, caller, step_id), "claimed", Step, act)


async def submit(ctx: Context, caller: Caller, session_id: str, step_id: str, client_id: str, said: Said) -> Recorded:
    """Raises InvalidJson, NotFound, WrongState for a call that has a result or is no client's, ClaimedByAnother."""
    try:
        return await _submit(ctx, caller, session_id, step_id, client_id, said.result())
    except StorageUnavailable:
        raise
    except DomainError as refusal:
        await record_refusal(ctx, caller, "", "", "", refusal, step_id=step_id)
        raise


async def _submit(
    ctx: Context, caller: Caller, session_id: str, step_id: str, client_id: str, result: ToolResult
) -> Recorded:
    def act(change: Change, step: Step) -> Callable[[], Recorded]:
        began_after = change.session.last_sequence
        recorded = record_result(change, step, client_id, caller.subject, result)
        return lambda: Recorded(recorded, began_after)

    stored = await _stored(ctx, caller, step_id, session_id)
    return await _on_call(ctx, caller, stored, "succeeded", Recorded, act)


async def _stored(ctx: Context, caller: Caller, step_id: str, session_id: str = "") -> Step:
    """The call as it is kept, of that session if one is named. What is decided is decided on its session's snapshot."""
    stored = await queries.get_step(ctx.database, caller.tenant, step_id)
    if stored is not None and session_id in ("", stored.session_id):
        return stored
    if session_id and await queries.get_session(ctx.database, caller.tenant, session_id) is None:
        raise NotFound("session", session_id)
    raise NotFound("step", step_id)


async def _on_call(
    ctx: Context,
    caller: Caller,
    stored: Step,
    trigger: str,
    answer_type: type[A],
    act: Callable[[Change, Step], Callable[[], A]],
) -> A:
    """The snapshot has every step of the active run: a call that is not there has ended with its run."""

    def decide(change: Change) -> Callable[[], A]:
        step = change.snapshot.steps.get(stored.id)
        if step is None:
            raise _Ended
        return act(change, step)

    try:
        return await command(ctx, caller, stored.session_id, answer_type, decide)
    except _Ended:
        ended = await _stored(ctx, caller, stored.id)
        raise WrongState("tool step", ended.id, ended.state, trigger, (StepState.READY.value,)) from None


class _Ended(NotInSnapshot):
    """The call's run is not the session's active one any more."""
