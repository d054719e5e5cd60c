"""Commands on grants: ending one. They are made by decisions (operations/approvals.py)."""

from collections.abc import Callable

from orchestrator.domain.change import Change
from orchestrator.domain.errors import NotFound
from orchestrator.domain.grants import check_standing, revoke_grant
from orchestrator.domain.records import Grant
from orchestrator.operations.commanding import NotInSnapshot, command
from orchestrator.operations.context import Caller, Context
from orchestrator.store import queries


async def revoke(ctx: Context, caller: Caller, grant_id: str, reason: str) -> Grant:
    """Whatever state its session and its runs are in. Raises NotFound, and WrongState for one that has ended."""
    stored = await _stored(ctx, caller, grant_id)

    def decide(change: Change) -> Callable[[], Grant]:
        grant = change.snapshot.grants.get(grant_id)
        if grant is None:
            raise _Ended
        revoked = revoke_grant(change, grant, caller.subject, reason)
        return lambda: revoked

    try:
        return await command(ctx, caller, stored.session_id, Grant, decide)
    except _Ended:
        ended = await _stored(ctx, caller, grant_id)
        check_standing(ended, ctx.clock())
        raise  # it has not ended, and its session does not know it: a defect


async def _stored(ctx: Context, caller: Caller, grant_id: str) -> Grant:
    stored = await queries.get_grant(ctx.database, caller.tenant, grant_id)
    if stored is None:
        raise NotFound("grant", grant_id)
    return stored


class _Ended(NotInSnapshot):
    """The session's snapshot has the grants that stand: this one is none of them."""
