"""Reading what is stored, by noun: one by its id, or a page of a list. Everything is the tenant's own.

Not here: the snapshot a decision is made on (snapshots.py), and whatever writes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Row, select, text

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import (
    Approval,
    Artifact,
    Attempt,
    Grant,
    Key,
    Message,
    Plan,
    Run,
    Session,
    Step,
    Subtask,
    Workspace,
)
from orchestrator.store import codec, tables
from orchestrator.store.codec import RowCodec, clean, decode_session
from orchestrator.store.database import Database
from orchestrator.store.paging import PAGE_BYTES, Page, Paging, fetch_page

R = TypeVar("R", Message, Run, Plan, Subtask, Attempt, Step, Approval, Grant, Artifact)

FIRST_PAGE = Paging()


# Sessions


async def get_session(database: Database, tenant: str, session_id: str) -> Session | None:
    rows = await database.fetch("SELECT * FROM session WHERE tenant = $1 AND id = $2", tenant, session_id)
    if not rows:
        return None
    return decode_session({**rows[0], "labels": msgspec.json.decode(rows[0]["labels"])})


async def list_sessions(
    database: Database,
    tenant: str,
    *,
    state: str = "",
    labels: Collection[str] = (),
    paging: Paging = FIRST_PAGE,
) -> Page[Session]:
    """Newest first. Each of `labels` is `key=value`, or `key` for any value; all must be there."""
    t = tables.session
    where = [t.c.tenant == tenant]
    if state:
        where.append(t.c.state == state)
    for label in labels:
        name, equals, value = clean(label).partition("=")
        where.append(t.c.labels.contains({name: value}) if equals else t.c.labels.has_key(name))
    return await fetch_page(
        database,
        select(t).where(text(tables.LISTED), *where, *([text(tables.HAS_LABELS)] if labels else ())),
        _session,
        key=(t.c.create_time, t.c.id),
        scope=("sessions", tenant, state, sorted(labels)),
        paging=paging,
    )


async def workspaces_of(database: Database, keys: Collection[Key]) -> dict[Key, Workspace]:
    """Where the files of each of these sessions lie."""
    rows = await database.fetch(_BODIES, [tenant for tenant, _ in keys], [id for _, id in keys])
    return {(row["tenant"], row["id"]): _decode_place(row["body"]).workspace for row in rows}


class _Place(msgspec.Struct):
    workspace: Workspace = Workspace()


_decode_place = msgspec.json.Decoder(_Place).decode
_BODIES = """
SELECT s.tenant, s.id, s.body FROM unnest($1::text[], $2::text[]) AS given(tenant, id)
JOIN session AS s ON s.tenant = given.tenant AND s.id = given.id"""


class Standing(NamedTuple):
    """Where a session stands, for those who follow it."""

    last_sequence: int
    settled: bool
    state: str


async def standings(database: Database, keys: Collection[Key]) -> dict[Key, Standing]:
    """Of each of these sessions that exists: what a lost wake-up would have said."""
    rows = await database.fetch(_STANDINGS, [tenant for tenant, _ in keys], [id for _, id in keys])
    return {(row["tenant"], row["id"]): Standing(row["last_sequence"], row["settled"], row["state"]) for row in rows}


_STANDINGS = """
SELECT s.tenant, s.id, s.last_sequence, s.settled, s.state
FROM unnest($1::text[], $2::text[]) AS given(tenant, id) CROSS JOIN LATERAL (
    SELECT * FROM session WHERE tenant = given.tenant AND id = given.id OFFSET 0) AS s"""


def _session(row: Row[Any]) -> Session:
    return decode_session(dict(zip(_SESSION_COLUMNS, row, strict=False)))  # what follows them is the page's key


_SESSION_COLUMNS = [str(name) for name in tables.session.c.keys()]


# Events


class EventsAfter(NamedTuple):
    """At most `limit` events of a session after the sequence `after`."""

    tenant: str
    session_id: str
    after: int
    limit: int


async def events_after(database: Database, wanted: Sequence[EventsAfter]) -> list[list[LoggedEvent]]:
    """Of each what is wanted, oldest first; fewer where they are large, but never none of what there is."""
    given = list(zip(*wanted, strict=True))
    rows = await database.fetch(_EVENTS_AFTER, *given, PAGE_BYTES // max(1, len(wanted)))
    pages: list[list[LoggedEvent]] = [[] for _ in wanted]
    for n, *event in rows:
        asked = wanted[n - 1]
        pages[n - 1].append(LoggedEvent(asked.tenant, asked.session_id, *event))
    return pages


_EVENTS_AFTER = """
SELECT given.n, found.* FROM
unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
    WITH ORDINALITY AS given (tenant, session_id, after, at_most, n)
CROSS JOIN LATERAL (
    SELECT sequence, event_time, trace_id, payload_json, hash, previous_hash FROM (
        SELECT *, sum(octet_length(payload_json)) OVER (ORDER BY sequence) - octet_length(payload_json) AS bytes_before
        FROM event WHERE event.tenant = given.tenant AND event.session_id = given.session_id
            AND sequence > given.after AND sequence <= given.after + given.at_most
    ) AS weighed
    WHERE bytes_before < $5
) AS found
ORDER BY given.n, found.sequence"""


async def list_events(
    database: Database, tenant: str, session_id: str, *, after: int = 0, paging: Paging = FIRST_PAGE
) -> Page[LoggedEvent]:
    """Oldest first; `after` counts for the first page only."""
    e = tables.log
    columns = (e.c.sequence, e.c.event_time, e.c.trace_id, e.c.payload_json, e.c.hash, e.c.previous_hash)
    statement = select(*columns).where(e.c.tenant == tenant, e.c.session_id == session_id)
    return await fetch_page(
        database,
        statement if paging.token else statement.where(e.c.sequence > after),
        lambda row: LoggedEvent(tenant, session_id, *tuple(row)[:6]),
        key=(e.c.sequence,),
        newest_first=False,
        scope=("events", tenant, session_id),
        paging=paging,
    )


# What belongs to a session, one by its id


async def get_message(database: Database, tenant: str, message_id: str) -> Message | None:
    return await _get(database, codec.MESSAGE, tenant, message_id)


async def get_run(database: Database, tenant: str, run_id: str) -> Run | None:
    return await _get(database, codec.RUN, tenant, run_id)


async def get_plan(database: Database, tenant: str, plan_id: str) -> Plan | None:
    return await _get(database, codec.PLAN, tenant, plan_id)


async def get_step(database: Database, tenant: str, step_id: str) -> Step | None:
    return await _get(database, codec.STEP, tenant, step_id)


async def dispatched(database: Database, step_ids: Collection[str], instance_id: str) -> set[str]:
    """Which of these steps, whosever they are, still await an outcome from this executor instance."""
    rows = await database.fetch(_DISPATCHED, list(step_ids), instance_id)
    return {row["id"] for row in rows}


_DISPATCHED = """
SELECT id FROM step WHERE state = 'DISPATCHED' AND id = ANY($1::text[]) AND body::json->>'executor_instance' = $2"""


async def get_approval(database: Database, tenant: str, approval_id: str) -> Approval | None:
    return await _get(database, codec.APPROVAL, tenant, approval_id)


# … and in lists; an empty filter is none


async def list_messages(
    database: Database, tenant: str, session_id: str, *, paging: Paging = FIRST_PAGE
) -> Page[Message]:
    """Newest first."""
    key = (tables.message.c.sequence, tables.message.c.id)
    return await _list(database, codec.MESSAGE, tenant, {"session_id": session_id}, key, paging)


async def list_runs(
    database: Database, tenant: str, *, session_id: str = "", state: str = "", paging: Paging = FIRST_PAGE
) -> Page[Run]:
    """Newest first."""
    return await _list(database, codec.RUN, tenant, {"session_id": session_id, "state": state}, None, paging)


async def list_plans(
    database: Database,
    tenant: str,
    session_id: str,
    *,
    run_id: str = "",
    state: str = "",
    paging: Paging = FIRST_PAGE,
) -> Page[Plan]:
    """Every version, newest first, without subtasks."""
    wanted = {"session_id": session_id, "run_id": run_id, "state": state}
    return await _list(database, codec.PLAN, tenant, wanted, None, paging)


async def subtasks_of(database: Database, tenant: str, plan_id: str) -> list[Subtask]:
    """A plan's nodes, in the order people read them."""
    t = tables.subtask
    statement = select(t.c.body).where(t.c.tenant == tenant, t.c.plan_id == plan_id)
    rows = await database.rows(statement.order_by(t.c.position, t.c.id))
    return [codec.SUBTASK.decode(row.body) for row in rows]


async def list_steps(
    database: Database,
    tenant: str,
    run_id: str,
    *,
    subtask_id: str = "",
    kind: str = "",
    paging: Paging = FIRST_PAGE,
) -> Page[Step]:
    """A run's ledger, in the order the steps were created."""
    t = tables.step
    wanted = {"run_id": run_id, "subtask_id": subtask_id, "kind": kind}
    key = (t.c.create_time, t.c.ordinal, t.c.id)
    return await _list(database, codec.STEP, tenant, wanted, key, paging, newest_first=False)


async def get_artifact(database: Database, tenant: str, artifact_id: str) -> Artifact | None:
    return await _get(database, codec.ARTIFACT, tenant, artifact_id)


async def list_artifacts(
    database: Database, tenant: str, run_id: str, *, subtask_id: str = "", paging: Paging = FIRST_PAGE
) -> Page[Artifact]:
    """What a run's subtasks left, newest first, without the bytes."""
    return await _list(database, codec.ARTIFACT, tenant, {"run_id": run_id, "subtask_id": subtask_id}, None, paging)


class OfApprovals(NamedTuple):
    """Which approvals of a tenant; an empty field is any."""

    kind: str = ""
    session_id: str = ""
    run_id: str = ""
    tool: str = ""


async def list_approvals(
    database: Database,
    tenant: str,
    *,
    state: str = "",
    kind: str = "",
    session_id: str = "",
    run_id: str = "",
    tool: str = "",
    paging: Paging = FIRST_PAGE,
    keep: Callable[[Approval], bool] | None = None,
    kept_for: Sequence[object] = (),
) -> Page[Approval]:
    """The inbox across sessions, newest first; of those only what `keep` wants, which `kept_for` identifies."""
    wanted = {"state": state, **OfApprovals(kind, session_id, run_id, clean(tool))._asdict()}
    return await _list(database, codec.APPROVAL, tenant, wanted, None, paging, keep=keep, kept_for=kept_for)


async def pending_approvals(
    database: Database, tenant: str, of: OfApprovals, *, paging: Paging = FIRST_PAGE
) -> Page[Approval]:
    """What waits for a decision, oldest first."""
    wanted = {"state": "PENDING", **of._asdict()}
    return await _list(database, codec.APPROVAL, tenant, wanted, None, paging, newest_first=False)


async def pending_tally(database: Database, tenant: str, of: OfApprovals) -> tuple[int, int]:
    """How many wait for a decision, and the sum of the last 32 bits of their ids (UUIDs)."""
    [row] = await database.fetch(_PENDING_TALLY, tenant, *of)
    return row["count"], row["sum"]


_PENDING_TALLY = """
SELECT count(*), coalesce(sum(('x' || right(id, 8))::bit(32)::bigint), 0)::bigint AS sum
FROM approval WHERE tenant = $1 AND state = 'PENDING' AND ($2 = '' OR kind = $2) AND ($3 = '' OR session_id = $3)
    AND ($4 = '' OR run_id = $4) AND ($5 = '' OR tool = $5)"""


async def get_grant(database: Database, tenant: str, grant_id: str) -> Grant | None:
    return await _get(database, codec.GRANT, tenant, grant_id)


async def list_grants(database: Database, tenant: str, session_id: str, *, paging: Paging = FIRST_PAGE) -> Page[Grant]:
    """A session's, newest first, ended ones too."""
    return await _list(database, codec.GRANT, tenant, {"session_id": session_id}, None, paging)


async def _get(database: Database, stored: RowCodec[R], tenant: str, id: str) -> R | None:
    query = f"SELECT body FROM {stored.table.name} WHERE tenant = $1 AND id = $2"  # noqa: S608  # a table of ours
    rows = await database.fetch(query, tenant, id)
    return stored.decode(rows[0]["body"]) if rows else None


async def _list(
    database: Database,
    stored: RowCodec[R],
    tenant: str,
    wanted: Mapping[str, str],
    key: Sequence[ColumnElement[Any]] | None,
    paging: Paging,
    *,
    newest_first: bool = True,
    keep: Callable[[R], bool] | None = None,
    kept_for: Sequence[object] = (),
) -> Page[R]:
    t = stored.table
    where = [t.c[column] == value for column, value in wanted.items() if value]
    listed = () if key else (text(tables.LISTED),)
    return await fetch_page(
        database,
        select(t.c.body).where(t.c.tenant == tenant, *where, *listed),
        lambda row: stored.decode(row.body),
        key=key or (t.c.create_time, t.c.id),
        newest_first=newest_first,
        scope=(t.name, tenant, *wanted.items(), *kept_for),
        paging=paging,
        keep=keep,
    )
