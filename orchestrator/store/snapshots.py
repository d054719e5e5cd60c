"""Loading what is known of one session, in one statement and so as of one moment."""

from typing import Any

import msgspec

from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.codec import CODECS, decode_session
from orchestrator.store.database import Reader
from orchestrator.store.tables import OPEN_RUN

LATEST_MESSAGES = 60

_DECODE = {codec.table.name: codec.decode for codec in CODECS.values()}


def _of_runs(table: str, order: str, runs: str) -> str:
    """Rows of those runs. A subquery per run (OFFSET 0 keeps it one), so that the run is looked up by its index
    whatever the planner believes of empty tables."""
    rows = f"SELECT {order}, body FROM {table} WHERE tenant = $1 AND run_id = of_run.id OFFSET 0"  # noqa: S608
    return f"SELECT '{table}', row.* FROM ({runs}) AS of_run CROSS JOIN LATERAL ({rows}) AS row"  # noqa: S608


# A client's plan waits with its queued run; everything else belongs to the active one.
_OPEN = f"SELECT id FROM run WHERE tenant = $1 AND session_id = $2 AND {OPEN_RUN}"  # noqa: S608
_ACTIVE = "SELECT active_run_id AS id FROM held"

# Every row as its kind, two numbers that order it among its kind, and its JSON.
_LOAD = f"""
WITH held AS (SELECT * FROM session WHERE tenant = $1 AND id = $2)
SELECT 'session' AS kind, 0::bigint AS a, 0::bigint AS b, row_to_json(held)::text AS body FROM held
UNION ALL
SELECT 'run', queue_number, 0, body FROM run WHERE tenant = $1 AND session_id = $2 AND {OPEN_RUN}
UNION ALL
(SELECT 'message', sequence, 0, body FROM message WHERE tenant = $1 AND session_id = $2
    ORDER BY sequence DESC LIMIT {LATEST_MESSAGES})
UNION ALL
{_of_runs("plan", "version, 0", _OPEN)}
UNION ALL
{_of_runs("subtask", "position, 0", _OPEN)}
UNION ALL
{_of_runs("attempt", "create_time, 0", _ACTIVE)}
UNION ALL
{_of_runs("step", "create_time, ordinal", _ACTIVE)}
UNION ALL
{_of_runs("approval", "create_time, 0", _ACTIVE)}
UNION ALL
{_of_runs("artifact", "create_time, 0", _ACTIVE)}
UNION ALL
SELECT 'session_grant', -create_time, 0, body FROM session_grant
    WHERE tenant = $1 AND session_id = $2 AND end_time = 0
ORDER BY a, b
"""  # noqa: S608  # nothing but constants of ours goes into the text


async def load(reader: Reader, tenant: str, session_id: str) -> Snapshot | None:
    """The session, its latest messages, its open runs with their plans, and all of the active one; or None."""
    rows = await reader.fetch(_LOAD, tenant, session_id)
    found: dict[str, dict[str, Any]] = {kind: {} for kind in _DECODE}
    snapshot: Snapshot | None = None
    for kind, body in ((row["kind"], row["body"]) for row in rows):
        if kind == "session":
            snapshot = Snapshot(decode_session(msgspec.json.decode(body)), *_attributes(found))
        else:
            row = _DECODE[kind](body)
            found[kind][row.id] = row
    return snapshot


def _attributes(found: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """In the order of Snapshot's fields."""
    kinds = ("run", "plan", "subtask", "attempt", "step", "approval", "message", "session_grant", "artifact")
    return tuple(found[kind] for kind in kinds)
