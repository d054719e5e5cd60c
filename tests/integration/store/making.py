"""Sessions, rows and change sets for the store's tests, and what they look at afterwards."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg

from orchestrator.domain.change import ChangeSet, Request
from orchestrator.domain.events import (
    AgentSwitched,
    Event,
    LoggedEvent,
    SessionCreated,
    chain_hash,
)
from orchestrator.domain.records import FIRST_HASH, Row, Run, Session, Step, Workspace
from orchestrator.store import queries
from orchestrator.store.answers import Answer, Outcome
from orchestrator.store.database import Database
from orchestrator.store.writer import Writer

TENANT = "acme"


def now_micros() -> int:
    return time.time_ns() // 1000


def new_id() -> str:
    return str(uuid4())


class Followed:
    """Everything `on_written` was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Session, list[LoggedEvent]]] = []

    def __call__(self, session: Session, events: list[LoggedEvent]) -> None:
        self.calls.append((session, events))

    def sequences(self, session_id: str) -> list[int]:
        return [event.sequence for session, events in self.calls if session.id == session_id for event in events]


def new_request(caller: str = "ann", request_id: str = "", answer: str = '"first"') -> Request:
    return Request(TENANT, caller, request_id or new_id(), "Method", "fingerprint", answer, now_micros())


def creation(session: Session, request: Request | None = None, claim_for: str = "") -> ChangeSet:
    created = SessionCreated(session.title, session.agent, "ann", session.labels, Workspace())
    return ChangeSet(session, 0, events=(created,), request=request or new_request(), creates=True, claim_for=claim_for)


async def new_session(writer: Writer, **values: object) -> Session:
    session = Session(TENANT, new_id(), create_time=now_micros(), **values)  # type: ignore[arg-type]  # by name
    answer = await writer.write(creation(session), operation="create")
    assert answer.outcome is Outcome.WRITTEN
    assert answer.session is not None
    return answer.session


def an_event(note: str = "coder") -> Event:
    return AgentSwitched("auto", note, "ann")


def appending(
    session: Session,
    *rows: Row,
    events: int = 1,
    request: Request | None = None,
    owner: str = "",
    epoch: int = 0,
    claim_for: str = "",
    release: bool = False,
) -> ChangeSet:
    """A change set of `events` events made against the session as it is given."""
    made = tuple(an_event(f"agent {n}") for n in range(events))
    return ChangeSet(
        session, session.last_sequence, rows, made, request, owner, epoch, claim_for=claim_for, release=release
    )


def a_run(session: Session, run_id: str = "", state: str = "RUNNING", **values: object) -> Run:
    return Run(
        TENANT,
        run_id or new_id(),
        session.id,
        state,
        "MESSAGE",
        "auto",
        "a goal",
        **values,  # type: ignore[arg-type]
    )


def a_step(session: Session, run_id: str, step_id: str = "", state: str = "PENDING", **values: object) -> Step:
    return Step(
        TENANT,
        step_id or new_id(),
        session.id,
        run_id,
        "attempt",
        "subtask",
        "MODEL",
        state,
        "coder",
        1,
        **values,  # type: ignore[arg-type]  # by name
    )


async def written(writer: Writer, change_set: ChangeSet) -> Session:
    answer = await writer.write(change_set, operation="test")
    assert answer.outcome is Outcome.WRITTEN, answer
    assert answer.session is not None
    return answer.session


async def stored_session(database: Database, session: Session) -> Session:
    found = await queries.get_session(database, session.tenant, session.id)
    assert found is not None
    return found


async def append_until_written(writer: Writer, database: Database, session: Session, note: str) -> Answer:
    """What every command does: when stale, look again and decide again."""
    held = session
    while True:
        change_set = ChangeSet(held, held.last_sequence, events=(an_event(note),))
        answer = await writer.write(change_set, operation="test")
        if answer.outcome is not Outcome.STALE:
            return answer
        held = await stored_session(database, session)


async def logs_of(database: Database) -> dict[str, list[LoggedEvent]]:
    """Every session's log, by session id."""
    logs: dict[str, list[LoggedEvent]] = defaultdict(list)
    for row in await database.fetch("SELECT DISTINCT session_id FROM event"):
        logs[row["session_id"]] = await events_after(database, row["session_id"], 0, 1_000_000)
    return logs


def assert_gapless_and_chained(log: list[LoggedEvent]) -> None:
    """What a client can check from the API alone."""
    previous_hash, previous_time = FIRST_HASH, 0
    for expected, event in enumerate(log, 1):
        assert event.sequence == expected
        assert event.previous_hash == previous_hash
        assert event.hash == chain_hash(previous_hash, expected, event.event_time, event.payload_json)
        assert event.event_time >= previous_time
        previous_hash, previous_time = event.hash, event.event_time


async def assert_sound(database: Database) -> dict[str, list[LoggedEvent]]:
    """No gap, no broken chain, and every session row stands where its log ends."""
    logs = await logs_of(database)
    for row in await database.fetch("SELECT id, last_sequence, last_hash FROM session"):
        log = logs[row["id"]]
        assert_gapless_and_chained(log)
        assert (log[-1].sequence, log[-1].hash) == (row["last_sequence"], row["last_hash"])
    return logs


async def until_somebody_waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(10):
        while not await database.fetch("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            pass


@asynccontextmanager
async def asked_but_not_committed(database: Database, request: Request) -> AsyncIterator[None]:
    """Another replica writes this request and has not committed it yet; it does at the end of the block."""
    connection = await database.connect()
    async with connection.transaction():
        await connection.execute(
            "INSERT INTO request VALUES ($1, $2, $3, $4, $5, $6, $7)",
            request.tenant,
            request.caller,
            request.request_id,
            request.method,
            request.fingerprint,
            request.answer_json,
            request.create_time,
        )
        yield
    await connection.close()


async def set_clock(connection: asyncpg.Connection, micros_ahead: int) -> None:
    """Move the database's only clock."""
    await connection.execute(f"""
        CREATE OR REPLACE FUNCTION assent_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
            SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint + {micros_ahead} $$""")


async def events_after(database: Database, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
    """One page of one log."""
    [page] = await queries.events_after(database, [queries.EventsAfter(TENANT, session_id, after, limit)])
    return page
