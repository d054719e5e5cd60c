"""Deciding approvals: exactly one decision wins, and every refused one leaves its row in the audit table."""

from collections.abc import Callable

from orchestrator.domain.change import Change
from orchestrator.domain.deciding import check_decision, decide, is_repeat
from orchestrator.domain.errors import DomainError, NotFound, StorageUnavailable
from orchestrator.domain.records import Approval, Decision
from orchestrator.operations.commanding import command
from orchestrator.operations.context import Caller, Context
from orchestrator.store import audit, queries


async def decide_approval(
    ctx: Context, caller: Caller, approval_id: str, action: str, digest: str, feedback: str
) -> Approval:
    """Raises NotFound, ApprovalAlreadyResolved with the winner, ActionNotAllowed, DigestMismatch."""
    try:
        return await _decide(ctx, caller, approval_id, Decision(action, caller.subject, 0, digest, feedback))
    except StorageUnavailable:
        raise
    except DomainError as refusal:
        await audit.record_refusal(
            ctx.database,
            tenant=caller.tenant,
            id=ctx.new_id(),
            subject=caller.subject,
            method=caller.method,
            approval_id=approval_id,
            action=action,
            digest=digest,
            reason=type(refusal).__name__,
            message=str(refusal),
            create_time=ctx.clock(),
        )
        raise


async def _decide(ctx: Context, caller: Caller, approval_id: str, decision: Decision) -> Approval:
    stored = await queries.get_approval(ctx.database, caller.tenant, approval_id)
    if stored is None:
        raise NotFound("approval", approval_id)
    if is_repeat(stored, decision):
        return stored
    check_decision(stored, decision)

    def decide_now(change: Change) -> Callable[[], Approval]:
        approval = change.snapshot.approvals.get(approval_id)
        if approval is None:
            raise Overtaken
        if is_repeat(approval, decision):
            return lambda: approval
        decided = decide(change, approval, _at(decision, change.now))
        return lambda: change.snapshot.approvals.get(approval_id, decided)

    try:
        return await command(ctx, caller, stored.session_id, Approval, decide_now)
    except Overtaken:
        return await _decide(ctx, caller, approval_id, decision)


class Overtaken(Exception):
    """The approval's run ended between two reads: what became of it is read again."""


def _at(decision: Decision, now: int) -> Decision:
    return Decision(decision.action, decision.decider, now, decision.digest, decision.feedback)
