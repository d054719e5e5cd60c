"""What the active run of a settled session waits for: read once, when a stream ends there."""

from typing import NamedTuple

from orchestrator.store.database import Database


class Awaited(NamedTuple):
    """`approval_ids` are the pending ones, oldest first; `of_client`: a call waits for a client."""

    run_id: str
    run_state: str
    approval_ids: list[str]
    of_client: bool


async def awaited(database: Database, tenant: str, session_id: str) -> Awaited | None:
    """None: no run is active. As of now, which may be later than what the stream has shown."""
    rows = await database.fetch(_AWAITED, tenant, session_id)
    return Awaited(*rows[0]) if rows else None


_AWAITED = """
SELECT run.id, run.state,
    ARRAY(SELECT id FROM approval WHERE tenant = $1 AND run_id = run.id AND state = 'PENDING' ORDER BY create_time, id),
    EXISTS (SELECT FROM step WHERE tenant = $1 AND run_id = run.id AND state = 'READY')
FROM session JOIN run ON run.tenant = session.tenant AND run.id = session.active_run_id
WHERE session.tenant = $1 AND session.id = $2"""
