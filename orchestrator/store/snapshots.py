"""Loading what is known of one session, in one statement and so as of one moment."""

from typing import Any

import msgspec

from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.codec import CODECS, decode_session
from orchestrator.store.database import Reader
from orchestrator.store.tables import OPEN_RUN

LATEST_MESSAGES = 60

_DECODE = {codec.table.name: codec.decode for codec in CODECS.values()}

# A client's plan waits with its queued run; everything else belongs to the active one.
_OPEN = f"""WHERE row.tenant = $1 AND row.run_id IN (
    SELECT id FROM run WHERE tenant = $1 AND session_id = $2 AND {OPEN_RUN})"""  # noqa: S608  # constants of ours
_ACTIVE = "JOIN held ON row.tenant = held.tenant AND row.run_id = held.active_run_id"

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
SELECT 'plan', row.version, 0, row.body FROM plan AS row {_OPEN}
UNION ALL
SELECT 'subtask', row.position, 0, row.body FROM subtask AS row {_OPEN}
UNION ALL
SELECT 'attempt', row.create_time, 0, row.body FROM attempt AS row {_ACTIVE}
UNION ALL
SELECT 'step', row.create_time, row.ordinal, row.body FROM step AS row {_ACTIVE}
UNION ALL
SELECT 'approval', row.create_time, 0, row.body FROM approval AS row {_ACTIVE}
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
    kinds = ("run", "plan", "subtask", "attempt", "step", "approval", "message")
    return tuple(found[kind] for kind in kinds)
