"""Deciding approvals: exactly one decision wins, and every refused one leaves its row in the audit table."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from orchestrator.domain.change import Change
from orchestrator.domain.deciding import decide, is_repeat
from orchestrator.domain.errors import DomainError, InvalidInput, NotFound, StorageUnavailable, Violation
from orchestrator.domain.records import Approval, Decision
from orchestrator.domain.reviewing import MOST_EDITED_BYTES
from orchestrator.domain.states import ApprovalState
from orchestrator.domain.terms import is_overdue
from orchestrator.operations.commanding import NotInSnapshot, command
from orchestrator.operations.context import Caller, Context
from orchestrator.store import audit, contents, queries

LONGEST = 200  # characters of what was sent in place of an id or a digest


@dataclass(frozen=True, slots=True)
class Decided:
    """The approval as it now is, and the sequence that the decision's events follow."""

    approval: Approval
    began_after: int


async def decide_approval(
    ctx: Context,
    caller: Caller,
    approval_id: str,
    decision: Decision,
    *,
    session_id: str = "",
    on_plan: bool | None = None,
    edited_artifact: bytes = b"",
) -> Decided:
    """With a `session_id`, only that session's approval; with `on_plan`, only a plan's, or only something else's.
    `edited_artifact` are the bytes that an EDIT of an ARTIFACT brings along.

    Raises NotFound, InvalidInput, InvalidJson, DeciderNotAllowed, SelfApproval, ActionNotAllowed, DigestMismatch, and
    ApprovalAlreadyResolved with the winner. To be called within `audited`.
    """
    if edited_artifact:
        decision = replace(decision, edited_sha256=hashlib.sha256(edited_artifact).hexdigest())
        await _keep_edited(ctx, caller, approval_id, decision, session_id, edited_artifact)
    # What the session's snapshot says of the approval is newest; the row is read where that does not have it.
    stored = None if session_id else await _stored(ctx, caller, approval_id, session_id)

    def decide_now(change: Change) -> Callable[[], Decided]:
        began_after = change.session.last_sequence
        approval = change.snapshot.approvals.get(approval_id, stored)
        if approval is None or (approval is stored and stored.state == ApprovalState.PENDING):
            raise _Overtaken
        if on_plan is not None and on_plan != (approval.kind == "PLAN"):
            raise InvalidInput([Violation("approval_id", f"names an approval of the kind {approval.kind}")])
        if is_repeat(approval, decision) and not is_overdue(approval, change.now):
            return lambda: Decided(approval, began_after)
        said = replace(decision, decide_time=change.now)
        decided = decide(change, approval, said, ctx.catalog, caller.roles, edited_artifact=edited_artifact)
        return lambda: Decided(change.snapshot.approvals.get(approval_id, decided), began_after)

    while True:
        try:
            return await command(ctx, caller, stored.session_id if stored else session_id, Decided, decide_now)
        except _Overtaken:
            stored = await _stored(ctx, caller, approval_id, session_id)


@asynccontextmanager
async def audited(ctx: Context, caller: Caller, approval_id: str, action: str, digest: str) -> AsyncIterator[None]:
    """Around a decision, from when it is read on: one that is refused, wherever, leaves its row."""
    try:
        yield
    except StorageUnavailable:
        raise
    except DomainError as refusal:
        await record_refusal(ctx, caller, approval_id, action, digest, refusal)
        raise


async def record_refusal(
    ctx: Context, caller: Caller, approval_id: str, action: str, digest: str, refusal: Exception, *, step_id: str = ""
) -> None:
    """A refused decision, or the refused result of a step, leaves its row, also one that no operation has seen: what
    was sent may be of any form."""
    await audit.record_refusal(
        ctx.database,
        tenant=caller.tenant,
        id=ctx.new_id(),
        subject=caller.subject,
        method=caller.method,
        approval_id=approval_id[:LONGEST],
        action=action,
        digest=digest[:LONGEST],
        reason=type(refusal).__name__,
        message=str(refusal),
        create_time=ctx.clock(),
        step_id=step_id[:LONGEST],
    )


async def _keep_edited(
    ctx: Context, caller: Caller, approval_id: str, decision: Decision, session_id: str, edited: bytes
) -> None:
    """The bytes are safe before anything speaks of them; of a decision that cannot win nothing is kept."""
    stored = await _stored(ctx, caller, approval_id, session_id)
    asked = (stored.kind, stored.state, stored.digest) == ("ARTIFACT", ApprovalState.PENDING, decision.digest)
    if asked and len(edited) <= MOST_EDITED_BYTES:
        await contents.keep(ctx.database, caller.tenant, stored.session_id, decision.edited_sha256, edited)


async def _stored(ctx: Context, caller: Caller, approval_id: str, session_id: str) -> Approval:
    stored = await queries.get_approval(ctx.database, caller.tenant, approval_id)
    if stored is None or (session_id and stored.session_id != session_id):
        raise NotFound("approval", approval_id)
    return stored


class _Overtaken(NotInSnapshot):
    """The session's active run does not have it: what became of the approval is read, or read again."""
