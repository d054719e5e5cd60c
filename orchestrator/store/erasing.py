"""Erasing sessions for good: first the session's own row goes, then, in small steps, all that belonged to it.

Without its row a session is not found by anybody, and no change set of it can be written any more: the fence is that
row. What is left of it is listed in the table `erasing` until the last step, so a crash in between loses nothing.
Requests stay: they are their caller's, and go by age. Refused decisions stay too: they are the tenant's.
"""

import asyncpg

from orchestrator.domain.change import Request
from orchestrator.store.codec import clean
from orchestrator.store.database import Database

STEP_ROWS = 200  # what one step erases at most: a few milliseconds

_BEGIN = """
WITH held AS (
    SELECT tenant, id FROM session WHERE tenant = $1 AND id = $2 AND state = 'CLOSED' FOR UPDATE
),
asked AS (
    INSERT INTO request (tenant, caller, request_id, method, fingerprint, answer_json, create_time)
    SELECT tenant, $3, $4, $5, $6, $7, $8 FROM held ON CONFLICT DO NOTHING RETURNING request_id
),
gone AS (
    DELETE FROM session AS s USING held, asked WHERE s.tenant = held.tenant AND s.id = held.id
    RETURNING s.tenant, s.id
),
listed AS (INSERT INTO erasing (tenant, session_id, erase_time) SELECT tenant, id, assent_now() FROM gone)
SELECT id FROM gone"""

_LISTED = "SELECT tenant, session_id FROM erasing ORDER BY erase_time, session_id LIMIT 1"

_OF_SESSION = "SELECT ctid FROM {table} WHERE tenant = $1 AND session_id = $2 LIMIT $3"
_OF_SESSION_LISTED = "SELECT ctid FROM {table} WHERE tenant = $1 AND session_id = $2 AND create_time >= 0 LIMIT $3"
_OF_RUNS = """
SELECT row.ctid FROM run CROSS JOIN LATERAL (
    SELECT ctid FROM {table} WHERE tenant = $1 AND run_id = run.id OFFSET 0) AS row
WHERE run.tenant = $1 AND run.session_id = $2 AND run.create_time >= 0 LIMIT $3"""


def _step(table: str, rows: str) -> str:
    return f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({rows.format(table=table)}))"  # noqa: S608  # tables of ours


# Each by an index that it has; runs last of those that are found by their runs. The list's own row ends it.
_STEPS = (
    *(_step(table, _OF_RUNS) for table in ("step", "attempt", "subtask", "artifact")),
    *(_step(table, _OF_SESSION_LISTED) for table in ("approval", "plan", "session_grant", "run")),
    *(_step(table, _OF_SESSION) for table in ("content", "delivery", "message", "event")),
)
_END = "DELETE FROM erasing WHERE tenant = $1 AND session_id = $2"


async def begin(database: Database, tenant: str, session_id: str, request: Request) -> bool:
    """Whether the session was there and CLOSED: now it is gone, and the request answered, in one write.

    False where it was not, and where the request's id was used before.
    """
    asked = (request.request_id, request.method, request.fingerprint, request.answer_json, request.create_time)
    return bool(await database.fetch(_BEGIN, tenant, session_id, clean(request.caller), *asked))


async def is_due(database: Database) -> bool:
    """Whether anything of a session that is gone is left."""
    return bool(await database.fetch(_LISTED))


async def step(connection: asyncpg.Connection) -> bool:
    """Erase a few rows of the session that has waited longest; False when there was nothing."""
    found = await connection.fetchrow(_LISTED)
    if found is None:
        return False
    for erase in _STEPS:
        if await connection.execute(erase, *found, STEP_ROWS) != "DELETE 0":
            return True
    await connection.execute(_END, *found)
    return True
