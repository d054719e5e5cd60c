"""A database that goes away, comes back, or does the work without saying so: nothing lost, nothing half-written."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pytest

from cli.postgres import EmbeddedPostgres
from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.records import Session
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store import queries, snapshots
from orchestrator.store.answers import Outcome
from orchestrator.store.database import Database
from orchestrator.store.tables import metadata
from orchestrator.store.writer import Writer
from tests.integration.store.making import (
    TENANT,
    Followed,
    a_run,
    append_until_written,
    appending,
    asked_but_not_committed,
    assert_sound,
    creation,
    new_id,
    new_request,
    new_session,
    now_micros,
    stored_session,
    until_somebody_waits_for_a_lock,
    written,
)
from tests.postgres import embedded_server, migrate
from tests.proxy import before_postgres

ANSWER_LIMIT = 5.0


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedPostgres]:
    """One for this file: every test leaves it usable, or has found a defect."""
    with embedded_server() as server:
        await migrate(server.url)
        yield server


@pytest.fixture
async def own_postgres(server: EmbeddedPostgres) -> EmbeddedPostgres:
    """A running server whose database is empty, to be killed and started again at will."""
    server.start()
    connection = await asyncpg.connect(server.url)
    await connection.execute("TRUNCATE " + ", ".join(name for name in metadata.tables if name != "probe"))
    await connection.close()
    return server


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[tuple[Database, Writer, Followed]]:
    database, followed = await Database.open(url), Followed()
    writer = Writer(database.connect_writer, clock=now_micros, on_written=followed)
    await writer.start()
    try:
        yield database, writer, followed
    finally:
        await writer.close()
        await database.close()


async def test_a_command_whose_commit_answer_was_lost_finds_that_it_was_written(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with before_postgres(own_postgres.url) as proxy, store_at(proxy.url) as (database, writer, _):
        session = await new_session(writer)
        request, run = new_request(answer='"what was answered"'), a_run(session)
        proxy.lose_answer_to(run.id.encode())
        answer = await writer.write(appending(session, run, request=request), operation="test")
        assert proxy.lost == 1
        assert (answer.outcome, answer.request) == (Outcome.DUPLICATE, request)
        assert (await stored_session(database, session)).last_sequence == 2
        await assert_sound(database)


async def test_a_creation_whose_commit_answer_was_lost_makes_one_session(own_postgres: EmbeddedPostgres) -> None:
    async with before_postgres(own_postgres.url) as proxy, store_at(proxy.url) as (database, writer, _):
        session, request = Session(TENANT, new_id()), new_request()
        proxy.lose_answer_to(session.id.encode())
        answer = await writer.write(creation(session, request), operation="create")
        assert (proxy.lost, answer.outcome, answer.request) == (1, Outcome.DUPLICATE, request)
        assert list(await assert_sound(database)) == [session.id]


async def test_an_engines_change_set_whose_commit_answer_was_lost_is_stale_not_written_twice(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with before_postgres(own_postgres.url) as proxy, store_at(proxy.url) as (database, writer, _):
        held = await written(writer, appending(await new_session(writer), claim_for="me"))
        run = a_run(held)
        proxy.lose_answer_to(run.id.encode())
        answer = await writer.write(appending(held, run, owner="me", epoch=1), operation="engine")
        assert (proxy.lost, answer.outcome, answer.last_sequence) == (1, Outcome.STALE, 3)
        assert await queries.get_run(database, TENANT, run.id) == run
        await assert_sound(database)


async def test_the_waiting_path_decides_again_when_its_commit_answer_was_lost(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with before_postgres(own_postgres.url) as proxy, store_at(proxy.url) as (database, writer, _):
        session, request, seen = await new_session(writer), new_request(), list[int]()

        def decide(snapshot: Snapshot) -> ChangeSet:
            seen.append(snapshot.session.last_sequence)
            return appending(snapshot.session, request=request)

        proxy.lose_answer_to(b"COMMIT")
        answer = await writer.write_waiting(TENANT, session.id, decide, operation="test")
        assert (proxy.lost, seen, answer.outcome) == (1, [1, 2], Outcome.DUPLICATE)
        assert (await stored_session(database, session)).last_sequence == 2


async def test_healthy_change_sets_survive_a_killed_backend(own_postgres: EmbeddedPostgres) -> None:
    async with store_at(own_postgres.url) as (database, writer, followed):
        sessions = [await new_session(writer) for _ in range(16)]
        done = asyncio.Event()

        async def kill_often() -> None:
            connection = await database.connect()
            while not done.is_set():
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE query LIKE 'WITH input%' AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.02)
            await connection.close()

        async def write_twenty(session: Session) -> None:
            for n in range(20):
                await append_until_written(writer, database, session, f"write {n}")

        killer = asyncio.create_task(kill_often())
        await asyncio.gather(*(write_twenty(session) for session in sessions))
        done.set()
        await killer
        logs = await assert_sound(database)
        # An answer that was lost may have been written: its caller, unlike a command, has no request to find it by.
        assert all(len(log) >= 21 for log in logs.values())
        for session in sessions:
            numbers = followed.sequences(session.id)
            assert numbers == sorted(set(numbers))


async def test_no_acknowledged_write_is_lost_when_the_server_is_killed_under_load(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with store_at(own_postgres.url) as (database, writer, _):
        sessions = [await new_session(writer) for _ in range(16)]
        acknowledged: dict[str, set[str]] = {session.id: set() for session in sessions}
        stop = asyncio.Event()

        async def write_on(session: Session) -> None:
            while not stop.is_set():
                run = a_run(session)
                try:
                    held = await stored_session(database, session)
                    answer = await writer.write(appending(held, run, events=3), operation="test")
                except StorageUnavailable:
                    continue
                if answer.outcome is Outcome.WRITTEN:
                    acknowledged[session.id].add(run.id)

        writers = [asyncio.create_task(write_on(session)) for session in sessions]
        for _ in range(3):
            before = sum(map(len, acknowledged.values()))
            await _until(partial(_more_than, acknowledged, before + 50))
            os.kill(own_postgres.pid, signal.SIGKILL)
            await _until(lambda: not own_postgres.running)
            own_postgres.start()
        before = sum(map(len, acknowledged.values()))
        await _until(partial(_more_than, acknowledged, before + 50))
        stop.set()
        await asyncio.gather(*writers)
        logs = await assert_sound(database)
        rows = await database.fetch("SELECT session_id, id FROM run")
        for session in sessions:
            stored = {row["id"] for row in rows if row["session_id"] == session.id}
            assert acknowledged[session.id] <= stored
            # Whole or not at all: three events came with every run.
            assert len(logs[session.id]) == 1 + 3 * len(stored)


async def test_an_outage_is_answered_in_time_and_the_next_command_after_it_works(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with store_at(own_postgres.url) as (database, writer, _):
        session = await new_session(writer)
        assert await database.ready()
        own_postgres.stop()
        async with asyncio.timeout(ANSWER_LIMIT):
            results = await asyncio.gather(
                writer.write(appending(session), operation="test"),
                writer.write(appending(session), operation="test"),  # waits for its turn behind the first
                writer.write_waiting(TENANT, session.id, lambda s: appending(s.session), operation="test"),
                snapshots.load(database, TENANT, session.id),
                queries.get_session(database, TENANT, session.id),
                queries.list_runs(database, TENANT),
                return_exceptions=True,
            )
        assert [type(result) for result in results] == [StorageUnavailable] * 6
        assert not await database.ready()
        own_postgres.start()
        assert await queries.get_session(database, TENANT, session.id) == session
        assert await database.ready()
        answer = await writer.write(appending(session), operation="test")
        assert answer.outcome is Outcome.WRITTEN
        await assert_sound(database)


async def test_reads_survive_a_restart_of_the_server(own_postgres: EmbeddedPostgres) -> None:
    async with store_at(own_postgres.url) as (database, writer, _):
        session = await new_session(writer)

        async def read_all() -> list[object]:
            return await asyncio.gather(
                *(snapshots.load(database, TENANT, session.id) for _ in range(4)),
                *(queries.get_session(database, TENANT, session.id) for _ in range(4)),
            )

        expected = await read_all()
        os.kill(own_postgres.pid, signal.SIGKILL)
        await _until(lambda: not own_postgres.running)
        reading = asyncio.create_task(read_all())
        assert not await database.ready()  # by now they have found nobody either
        own_postgres.start()
        assert await reading == expected


async def test_a_silent_network_is_answered_in_time(own_postgres: EmbeddedPostgres) -> None:
    async with before_postgres(own_postgres.url) as proxy, store_at(proxy.url) as (database, writer, _):
        session = await new_session(writer)
        assert await database.ready()
        proxy.stall()
        async with asyncio.timeout(ANSWER_LIMIT):
            results = await asyncio.gather(
                writer.write(appending(session), operation="test"),
                writer.write_waiting(TENANT, session.id, lambda s: appending(s.session), operation="test"),
                snapshots.load(database, TENANT, session.id),
                queries.get_session(database, TENANT, session.id),
                return_exceptions=True,
            )
        assert [type(result) for result in results] == [StorageUnavailable] * 4
        assert not await database.ready()


async def test_nothing_is_written_for_a_caller_that_left_before_its_turn_came(
    own_postgres: EmbeddedPostgres,
) -> None:
    async with store_at(own_postgres.url) as (database, _, followed):
        writer = Writer(database.connect_writer, clock=now_micros, committers=1, on_written=followed)
        await writer.start()
        one, two = await new_session(writer), await new_session(writer)
        async with asked_but_not_committed(database, request := new_request()):
            blocked = asyncio.create_task(writer.write(appending(one, request=request), operation="test"))
            await until_somebody_waits_for_a_lock(database)
            leaving = asyncio.create_task(writer.write(appending(two), operation="test"))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        assert (await blocked).outcome is Outcome.DUPLICATE
        assert await stored_session(database, two) == two
        await written(writer, appending(two))
        await writer.close()


async def test_a_caller_that_goes_away_leaves_the_writer_working(own_postgres: EmbeddedPostgres) -> None:
    async with store_at(own_postgres.url) as (database, writer, _):
        session = await new_session(writer)
        for _ in range(20):
            held = await stored_session(database, session)
            leaving = asyncio.create_task(writer.write(appending(held), operation="test"))
            waiting = asyncio.create_task(append_until_written(writer, database, session, "stays"))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert (await waiting).outcome is Outcome.WRITTEN
        await assert_sound(database)


def _more_than(acknowledged: dict[str, set[str]], number: int) -> bool:
    return sum(map(len, acknowledged.values())) > number


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # another process is watched, which sets no event
            await asyncio.sleep(0.01)
