"""The one SQL statement that writes a batch of change sets.

Its shape: input → session rows locked → counters locked and compared → fence (the guarded UPDATE, or the INSERT of a
new session behind its request row) → every row and event joined to the fence → one answer per change set. All of a
change set is written or nothing of it. There is a variant of the text per set of tables a batch touches, so that a
small batch does not pay for the tables it leaves alone. What the parameters hold is said in batch.py.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column

from orchestrator.store import tables
from orchestrator.store.codec import CODECS, SESSION_COLUMNS, RowCodec

FENCE = (
    ("tenant", "text"),
    ("id", "text"),
    ("creates", "boolean"),
    ("expected_sequence", "bigint"),
    ("owner", "text"),
    ("epoch", "bigint"),
    ("claim_for", "text"),
    ("release", "boolean"),
    ("last_sequence", "bigint"),
    ("last_hash", "text"),
    ("last_event_time", "bigint"),
    ("trace_id", "text"),
)
COUNT = ("running", "runs_limit")
REQUEST = ("caller", "request_id", "method", "fingerprint", "answer_json")
EVENT = ("sequence", "name", "payload_json", "hash", "previous_hash")


@cache
def text_for(touched: tuple[str, ...], requests: bool, counted: bool = False, delivers: bool = False) -> str:
    """The statement for a batch that writes the tables `touched`, and whether any change set has a request, counts, or
    has events that a webhook is told of.

    Parameters, each an array: FENCE, SESSION_COLUMNS, COUNT if counted, REQUEST and its time if asked for, one value
    per change set; then per event its change set's number and EVENT; then per row of each table the number and the
    columns; then per event that is delivered the number and the event's sequence.
    """
    numbers = _Numbers()
    codecs = [codec for codec in CODECS.values() if codec.table.name in touched]
    session_columns = [(name, _type(tables.session.c[name])) for name in SESSION_COLUMNS]
    asked = [(name, "text") for name in REQUEST] + [("request_time", "bigint")] if requests else []
    counts = [(name, "bigint") for name in COUNT] if counted else []
    parts = [
        _input(numbers, [*FENCE, *session_columns, *counts, *asked], requests),
        _LOCKED,
        *((_COUNTERS, _ROOM) if counted else ()),
        _fence(requests, counted),
        *((_COUNTING,) if counted else ()),
        *(_request_parts() if requests else []),
        _done(requests),
        *(_event_part(numbers), *(_row_part(numbers, codec) for codec in codecs)),
        *((_delivery_part(numbers),) if delivers else ()),
    ]
    return "WITH " + ",\n".join(parts) + _answers(requests, counted)


class _Numbers:
    """Hands out parameters in order."""

    def __init__(self) -> None:
        self._last = 0

    def arrays(self, columns: Sequence[tuple[str, str]]) -> str:
        first = self._last + 1
        self._last += len(columns)
        return ", ".join(f"${first + at}::{kind}[]" for at, (_, kind) in enumerate(columns))


def _type(column: Column[object]) -> str:
    """JSON travels as text and is cast where it is written."""
    match column.type:
        case BigInteger():
            return "bigint"
        case Boolean():
            return "boolean"
        case _:
            return "text"


def _input(numbers: _Numbers, columns: Sequence[tuple[str, str]], requests: bool) -> str:
    names = ", ".join(name for name, _ in columns)
    given = f"unnest({numbers.arrays(columns)}) WITH ORDINALITY AS given({names}, n)"
    if not requests:
        return f"input AS MATERIALIZED (SELECT given.*, false AS repeated FROM {given})"
    stored = ", ".join(f"stored.{name} AS stored_{name}" for name in ("method", "fingerprint", "answer_json"))
    return f"""input AS MATERIALIZED (
    SELECT given.*, stored.request_id IS NOT NULL AS repeated, {stored}, stored.create_time AS stored_create_time
    FROM {given}
    LEFT JOIN request AS stored ON stored.tenant = given.tenant AND stored.caller = given.caller
        AND stored.request_id = given.request_id
)"""


# In id order, so that two batches cannot wait for each other; SKIP LOCKED, so that they do not wait at all.
# FOR UPDATE would be stronger than needed; the answers come from here, as the lock sees the newest row.
_LOCKED = """locked AS MATERIALIZED (
    SELECT input.n, s.tenant, s.id, s.last_sequence, s.epoch, s.owner, s.queue_time
    FROM input JOIN session AS s ON s.tenant = input.tenant AND s.id = input.id
    WHERE NOT input.creates
    ORDER BY s.tenant, s.id
    FOR NO KEY UPDATE OF s SKIP LOCKED
)"""

# After all session rows and in one order, so that two batches cannot wait for each other; from here until the commit
# nobody else counts for these tenants. What the lock returns is the newest number, whatever the snapshot says.
_COUNTERS = """counters AS MATERIALIZED (
    SELECT c.tenant, c.used FROM counter AS c
    WHERE c.name = 'running' AND c.tenant IN (
        SELECT input.tenant FROM locked JOIN input ON input.n = locked.n WHERE input.running <> 0)
    ORDER BY c.tenant
    FOR NO KEY UPDATE
)"""

# Those that take room are added up as if all were written and none gave room back: what is over may fit when it is
# tried again, what fits is never over. Whoever does not wait for room yet has to let those that do go first.
_ROOM = """room AS MATERIALIZED (
    SELECT input.n, coalesce(input.running <= 0 OR (
        counters.used + sum(greatest(input.running, 0)) OVER (PARTITION BY input.tenant ORDER BY input.n)
            <= input.runs_limit
        AND (locked.queue_time > 0 OR NOT EXISTS (
            SELECT FROM session AS ahead WHERE ahead.tenant = input.tenant AND ahead.queue_time > 0))
    ), false) AS is_there
    FROM locked JOIN input ON input.n = locked.n LEFT JOIN counters ON counters.tenant = input.tenant
)"""

_COUNTING = """counting AS (
    UPDATE counter AS c SET used = greatest(0, c.used + moved.running)
    FROM (
        SELECT input.tenant, sum(input.running)::bigint AS running
        FROM fence JOIN input ON input.n = fence.n GROUP BY input.tenant
    ) AS moved
    WHERE c.tenant = moved.tenant AND c.name = 'running' AND moved.running <> 0
)"""


def _fence(requests: bool, counted: bool) -> str:
    """The guards must be the UPDATE's own: it checks them again on the newest row, a join beside it would not."""
    kept = ("create_time",)
    taken = ",\n        ".join(f"{name} = {_session_value(name)}" for name in SESSION_COLUMNS if name not in kept)
    return f"""fence AS (
    UPDATE session AS s SET
        {taken},
        last_sequence = input.last_sequence,
        last_hash = input.last_hash,
        last_event_time = input.last_event_time,
        epoch = CASE WHEN input.claim_for <> '' THEN s.epoch + 1 ELSE s.epoch END,
        owner = CASE WHEN input.release THEN '' WHEN input.claim_for <> '' THEN input.claim_for ELSE s.owner END
    FROM locked JOIN input ON input.n = locked.n {"JOIN room ON room.n = locked.n" if counted else ""}
    WHERE s.tenant = locked.tenant AND s.id = locked.id
        AND s.last_sequence = input.expected_sequence
        AND (input.owner = '' OR (s.owner = input.owner AND s.epoch = input.epoch))
        AND (input.claim_for = '' OR s.owner IN ('', input.claim_for) OR NOT EXISTS (
            SELECT FROM lease WHERE lease.owner = s.owner AND lease.expire_time > assent_now()))
        {"AND room.is_there" if counted else ""} {"AND NOT input.repeated" if requests else ""}
    RETURNING input.n, s.tenant, s.id, s.last_sequence, s.epoch, s.owner
)"""


def _session_value(name: str) -> str:
    return f"input.{name}::jsonb" if name == "labels" else f"input.{name}"


def _request_parts() -> list[str]:
    """New sessions are fenced by their request's row; the other request rows follow the fence.

    A conflict of those is an error of the whole batch: the writer then finds whose it was. Both are inserted in
    order, as an insert waits for another transaction's uncommitted row.
    """
    columns = ("tenant", *REQUEST, "create_time")
    values = ", ".join(f"input.{name}" for name in ("tenant", *REQUEST, "request_time"))
    insert = f"INSERT INTO request ({', '.join(columns)}) SELECT {values} FROM input"
    order = "ORDER BY input.tenant, input.caller, input.request_id"
    fence = ("tenant", "id", "last_sequence", "last_hash", "last_event_time")
    session = [(name, f"input.{name}") for name in fence]
    session += [(name, _session_value(name)) for name in SESSION_COLUMNS]
    session += [("owner", "input.claim_for"), ("epoch", "CASE WHEN input.claim_for <> '' THEN 1 ELSE 0 END")]
    return [
        f"""first_asked AS (
    {insert} WHERE input.creates AND NOT input.repeated {order}
    ON CONFLICT DO NOTHING RETURNING tenant, caller, request_id
)""",
        f"""created AS (
    INSERT INTO session ({", ".join(name for name, _ in session)})
    SELECT {", ".join(value for _, value in session)}
    FROM input JOIN first_asked USING (tenant, caller, request_id) WHERE input.creates
    RETURNING tenant, id, last_sequence, epoch, owner
)""",
        f"asked AS ({insert} JOIN fence ON fence.n = input.n WHERE input.request_id IS NOT NULL {order})",
    ]


def _done(requests: bool) -> str:
    created = """
    UNION ALL
    SELECT input.n, created.* FROM created JOIN input USING (tenant, id) WHERE input.creates"""
    return f"done AS MATERIALIZED (SELECT * FROM fence{created if requests else ''})"


def _event_part(numbers: _Numbers) -> str:
    kinds = [(name, _type(tables.log.c[name])) for name in EVENT]
    given = f"unnest({numbers.arrays([('n', 'int'), *kinds])}) AS given(n, {', '.join(EVENT)})"
    return f"""logged AS (
    INSERT INTO event (tenant, session_id, event_time, trace_id, {", ".join(EVENT)})
    SELECT done.tenant, done.id, input.last_event_time, input.trace_id, {_of("given", EVENT)}
    FROM {given} JOIN done ON done.n = given.n JOIN input ON input.n = given.n
)"""


def _row_part(numbers: _Numbers, codec: RowCodec[Any]) -> str:
    """Insert or replace. A row never changes its session: the NULL that an id of another session's row meets is
    refused by the column, and so is the change set."""
    table, columns = codec.table, codec.columns
    kinds = [(name, _type(table.c[name])) for name in columns]
    given = f"unnest({numbers.arrays([('n', 'int'), *kinds])}) AS given(n, {', '.join(columns)})"
    replaced = ", ".join(f"{name} = excluded.{name}" for name in columns if name != "id")
    return f"""{table.name}_written AS (
    INSERT INTO {table.name} AS kept (tenant, session_id, {", ".join(columns)})
    SELECT done.tenant, done.id, {_of("given", columns)} FROM {given} JOIN done ON done.n = given.n
    ON CONFLICT (tenant, id) DO UPDATE SET {replaced},
        session_id = CASE WHEN kept.session_id = excluded.session_id THEN kept.session_id END
)"""


def _delivery_part(numbers: _Numbers) -> str:
    given = f"unnest({numbers.arrays([('n', 'int'), ('sequence', 'bigint')])}) AS given(n, sequence)"
    return f"""delivered AS (
    INSERT INTO delivery (tenant, session_id, sequence, due_time, tries, create_time)
    SELECT done.tenant, done.id, given.sequence, assent_now(), 0, assent_now()
    FROM {given} JOIN done ON done.n = given.n
)"""


def _of(relation: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{relation}.{name}" for name in columns)


def _answers(requests: bool, counted: bool) -> str:
    over = "WHEN NOT room.is_there THEN 'over'" if counted else ""
    stored = ("method", "fingerprint", "answer_json", "create_time")
    return f"""
SELECT input.n,
    CASE
        WHEN done.n IS NOT NULL THEN 'written'
        WHEN input.repeated OR input.creates THEN 'duplicate'
        WHEN locked.n IS NULL AND (
            SELECT true FROM session AS s WHERE s.tenant = input.tenant AND s.id = input.id LIMIT 1
        ) THEN 'busy'
        WHEN locked.n IS NULL THEN 'absent'
        WHEN input.owner <> '' AND (locked.owner, locked.epoch) <> (input.owner, input.epoch) THEN 'fenced'
        WHEN locked.last_sequence <> input.expected_sequence THEN 'stale'
        {over}
        ELSE 'fenced'
    END AS outcome,
    coalesce(done.last_sequence, locked.last_sequence, 0) AS last_sequence,
    coalesce(done.epoch, locked.epoch, 0) AS epoch,
    coalesce(done.owner, locked.owner, '') AS owner,
    input.repeated{"".join(f", input.stored_{name}" for name in stored) if requests else ""}
FROM input LEFT JOIN done ON done.n = input.n LEFT JOIN locked ON locked.n = input.n
    {"LEFT JOIN room ON room.n = input.n" if counted else ""}"""
