"""What is erased, what stays, and that being interrupted loses nothing and finds the rest later."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.records import Approval, Attempt, Grant, Message, Plan, Row, Session, Subtask
from orchestrator.store import codec, erasing, queries, requests
from orchestrator.store.answers import Outcome
from orchestrator.store.database import Database
from orchestrator.store.leases import Lease
from orchestrator.store.retention import Sweeper
from orchestrator.store.writer import Writer
from tests.integration.store.making import (
    TENANT,
    a_run,
    a_step,
    appending,
    assert_sound,
    new_id,
    new_request,
    new_session,
    now_micros,
    set_clock,
    written,
)

DAY = 24 * 3600 * 1_000_000
OWN_TABLES = [each.table.name for each in codec.CODECS.values()]


async def filled(
    writer: Writer, *, state: str = "CLOSED", steps: int = 5, events: int = 3, **values: object
) -> Session:
    """A session that has something in every table."""
    session = await new_session(writer, state=state, **values)
    run = a_run(session, state="COMPLETED")
    ids = (TENANT, new_id(), session.id)
    rows: list[Row] = [
        run,
        Message(TENANT, new_id(), session.id, run.id, "USER", "coder", "text", sequence=1),
        Plan(TENANT, new_id(), session.id, run.id, 1, "title", "summary", "ann", state="COMPLETED"),
        Subtask(*ids, run.id, "plan", "key", "title", "do it", "coder", 1),
        Attempt(TENANT, new_id(), session.id, run.id, "ANSWER", "coder", 1),
        Approval(TENANT, new_id(), session.id, run.id, "PLAN", "digest", state="RESOLVED"),
        Grant(TENANT, new_id(), session.id, "put", "schema", "arguments.id == 1", "approval", "ann", 1, 2),
        *(a_step(session, run.id, state="SUCCEEDED") for _ in range(steps)),
    ]
    return await written(writer, appending(session, *rows, events=events))


async def counts(database: Database, session: Session) -> dict[str, int]:
    found = {}
    for table in (*OWN_TABLES, "event", "erasing"):
        rows = await database.fetch(f"SELECT count(*) AS n FROM {table} WHERE session_id = $1", session.id)
        found[table] = rows[0]["n"]
    rows = await database.fetch("SELECT count(*) AS n FROM session WHERE id = $1", session.id)
    return {**found, "session": rows[0]["n"]}


async def age(database: Database, days: float) -> None:
    connection = await database.connect()
    await set_clock(connection, int(days * DAY))
    await connection.close()


async def test_a_closed_session_is_erased_from_every_table_and_nothing_else_is(
    writer: Writer, database: Database
) -> None:
    session, other = await filled(writer), await filled(writer)
    before = await counts(database, other)
    request = new_request()
    assert await erasing.begin(database, TENANT, session.id, request)
    assert await queries.get_session(database, TENANT, session.id) is None
    await Sweeper(database).erase()
    assert set((await counts(database, session)).values()) == {0}
    assert await counts(database, other) == before
    assert await requests.find(database, TENANT, request.caller, request.request_id) == request
    await assert_sound(database)


@pytest.mark.parametrize("state", ["IDLE", "COMPLETED", "EXECUTION"])
async def test_an_open_session_is_not_erased(writer: Writer, database: Database, state: str) -> None:
    session = await filled(writer, state=state)
    before = await counts(database, session)
    request = new_request()
    assert not await erasing.begin(database, TENANT, session.id, request)
    await Sweeper(database).erase()
    assert await counts(database, session) == before
    assert await requests.find(database, TENANT, request.caller, request.request_id) is None


async def test_a_request_id_that_was_used_before_erases_nothing(writer: Writer, database: Database) -> None:
    session = await filled(writer)
    used = new_request()
    session = await written(writer, appending(session, request=used))
    assert not await erasing.begin(database, TENANT, session.id, replace(used, method="DeleteSession"))
    assert await queries.get_session(database, TENANT, session.id) == session


async def test_of_two_that_delete_at_once_one_does(writer: Writer, database: Database) -> None:
    session = await filled(writer)
    results = await asyncio.gather(*(erasing.begin(database, TENANT, session.id, new_request()) for _ in range(6)))
    assert sorted(results) == [False] * 5 + [True]


async def test_an_owner_that_still_writes_finds_the_session_absent(writer: Writer, database: Database) -> None:
    await Lease(database, "me").register()
    session = await written(writer, appending(await filled(writer), claim_for="me"))
    assert await erasing.begin(database, TENANT, session.id, new_request())
    late = appending(session, a_run(session), owner="me", epoch=session.epoch)
    assert (await writer.write(late, operation="engine")).outcome is Outcome.ABSENT
    answer = await writer.write_waiting(TENANT, session.id, lambda s: appending(s.session), operation="command")
    assert answer.outcome is Outcome.ABSENT
    await Sweeper(database).erase()
    assert set((await counts(database, session)).values()) == {0}


async def test_a_large_session_is_erased_in_small_steps_and_an_interrupted_one_by_the_next_who_looks(
    writer: Writer, database: Database
) -> None:
    session = await filled(writer, steps=3 * erasing.STEP_ROWS, events=2 * erasing.STEP_ROWS)
    await erasing.begin(database, TENANT, session.id, new_request())
    connection = await database.connect()
    before = sum((await counts(database, session)).values())
    steps = 0
    while steps < 3:  # and then whoever did it is gone
        assert await erasing.step(connection)
        left = sum((await counts(database, session)).values())
        assert before - erasing.STEP_ROWS <= left < before
        before, steps = left, steps + 1
    await connection.close()
    assert await erasing.is_due(database)
    await Sweeper(database).erase()
    assert not await erasing.is_due(database)
    assert set((await counts(database, session)).values()) == {0}


async def test_one_replica_sweeps_at_a_time(writer: Writer, database: Database) -> None:
    session = await filled(writer)
    await erasing.begin(database, TENANT, session.id, new_request())
    async with Sweeper(database)._sweeping() as first:
        assert first is not None
        await Sweeper(database).erase()
        assert await erasing.is_due(database)
    await _soon(lambda: Sweeper(database).erase(), database)


async def test_requests_are_forgotten_after_seven_days(writer: Writer, database: Database, session: Session) -> None:
    old = replace(new_request(), create_time=now_micros() - 7 * DAY - 60_000_000)
    young = replace(new_request(), create_time=now_micros() - 7 * DAY + 60_000_000)
    session = await written(writer, appending(session, request=old))
    await written(writer, appending(session, request=young))
    await Sweeper(database).keep_house()
    assert await requests.find(database, TENANT, old.caller, old.request_id) is None
    assert await requests.find(database, TENANT, young.caller, young.request_id) == young


async def test_leases_of_replicas_long_gone_are_dropped_and_others_are_not(database: Database) -> None:
    await Lease(database, "long gone").register()
    await age(database, 2)
    await Lease(database, "lives").register()
    await Sweeper(database).keep_house()
    assert [row["owner"] for row in await database.fetch("SELECT owner FROM lease")] == ["lives"]


@pytest.mark.parametrize("state", ["CLOSED", "IDLE", "COMPLETED"])
async def test_finished_sessions_are_erased_when_they_are_old(writer: Writer, database: Database, state: str) -> None:
    session = await filled(writer, state=state, update_time=now_micros())
    await age(database, 29)
    await Sweeper(database, days=30).keep_house()
    assert (await counts(database, session))["session"] == 1
    await age(database, 31)
    await Sweeper(database).keep_house()  # which keeps them
    assert (await counts(database, session))["session"] == 1
    await Sweeper(database, days=30).keep_house()
    assert set((await counts(database, session)).values()) == {0}


@pytest.mark.parametrize(
    "busy",
    [
        {"state": "EXECUTION"},
        {"active_run_id": "run"},
        {"runnable": True},
        {"due_time": 1},
        {"queue_time": 1},
    ],
    ids=str,
)
async def test_a_session_that_is_not_finished_is_kept_however_old(
    writer: Writer, database: Database, busy: dict[str, object]
) -> None:
    fields: dict[str, Any] = {"state": "IDLE", "update_time": now_micros(), **busy}
    session = await filled(writer, **fields)
    await age(database, 400)
    await Sweeper(database, days=30).keep_house()
    assert (await counts(database, session))["session"] == 1


async def test_a_session_that_is_being_written_is_left_for_the_next_time(writer: Writer, database: Database) -> None:
    session = await filled(writer, update_time=now_micros())
    await age(database, 31)
    blocker = await database.connect()
    async with blocker.transaction():
        await blocker.execute("SELECT FROM session WHERE id = $1 FOR NO KEY UPDATE", session.id)
        await Sweeper(database, days=30).keep_house()
    await blocker.close()
    assert (await counts(database, session))["session"] == 1


async def test_every_page_of_sessions_is_looked_at(
    writer: Writer, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.retention.PAGE_ROWS", 2)
    sessions = [await filled(writer, update_time=now_micros()) for _ in range(5)]
    await age(database, 31)
    await Sweeper(database, days=30).keep_house()
    assert [(await counts(database, each))["session"] for each in sessions] == [0] * 5


async def _soon(erase: Callable[[], object], database: Database) -> None:
    """A lock is given back when the server notices that its connection was closed."""
    async with asyncio.timeout(10):
        while await erasing.is_due(database):
            await Sweeper(database).erase()
