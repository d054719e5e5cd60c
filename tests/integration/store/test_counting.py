"""The limit of a tenant's runs at once: never passed, whoever races; nothing that ends waits; the counters are true."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from orchestrator.domain.records import Run, Session
from orchestrator.store.answers import Answer, Outcome
from orchestrator.store.counting import recount
from orchestrator.store.database import Database
from orchestrator.store.leases import Lease
from orchestrator.store.writer import Writer
from tests.integration.store.making import (
    TENANT,
    a_run,
    appending,
    assert_sound,
    new_session,
    now_micros,
    stored_session,
)

LIMIT = 3
Held = tuple[Session, Run]


@asynccontextmanager
async def a_writer(
    database: Database, limit: int = LIMIT, on_fewer_running: Callable[[], None] = lambda: None
) -> AsyncIterator[Writer]:
    writer = Writer(
        database.connect_writer,
        clock=now_micros,
        on_written=lambda *_: None,
        runs_per_tenant=limit,
        on_fewer_running=on_fewer_running,
    )
    await writer.start()
    yield writer
    await writer.close()


@pytest.fixture
async def replicas(database: Database) -> AsyncIterator[list[Writer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(a_writer(database)) for _ in range(3)]


async def start(writer: Writer, session: Session) -> tuple[Answer, Run]:
    run = a_run(session)
    answer = await writer.write(replace(appending(session, run), running=1), operation="test")
    return answer, run


async def end(writer: Writer, held: Held) -> Session:
    session, run = held
    change_set = replace(appending(session, replace(run, state="COMPLETED")), running=-1)
    answer = await writer.write(change_set, operation="test")
    assert answer.outcome is Outcome.WRITTEN
    assert answer.session is not None
    return answer.session


async def waiting(writer: Writer, **values: int) -> Session:
    """A session whose run has found no room."""
    return await new_session(writer, **{"queue_time": now_micros(), **values})


async def used(database: Database) -> int | None:
    rows = await database.fetch("SELECT used FROM counter WHERE tenant = $1 AND name = 'running'", TENANT)
    return rows[0]["used"] if rows else None


async def running(database: Database) -> int:
    rows = await database.fetch("SELECT count(*) AS found FROM run WHERE tenant = $1 AND state = 'RUNNING'", TENANT)
    found: int = rows[0]["found"]
    return found


async def test_of_all_that_race_for_the_last_places_only_so_many_get_one(
    replicas: list[Writer], database: Database
) -> None:
    sessions = [await new_session(replicas[0]) for _ in range(30)]
    results = await asyncio.gather(*(start(replicas[n % 3], each) for n, each in enumerate(sessions)))
    outcomes = [answer.outcome for answer, _ in results]
    assert outcomes.count(Outcome.WRITTEN) == LIMIT
    assert outcomes.count(Outcome.OVER) == 30 - LIMIT
    assert (await used(database), await running(database)) == (LIMIT, LIMIT)
    await assert_sound(database)


async def test_a_place_that_is_given_back_is_taken_by_one(replicas: list[Writer], database: Database) -> None:
    sessions = [await new_session(replicas[0]) for _ in range(LIMIT + 6)]
    held = [(answer.session, run) for answer, run in [await start(replicas[0], each) for each in sessions[:LIMIT]]]
    for session, run in held:
        assert session is not None
        await end(replicas[1], (session, run))
        tries = [start(replicas[n % 3], each) for n, each in enumerate(sessions[LIMIT:])]
        outcomes = [answer.outcome for answer, _ in await asyncio.gather(*tries)]
        assert outcomes.count(Outcome.WRITTEN) <= 1
        sessions = [await stored_session(database, each) for each in sessions]
        assert (await used(database), await running(database)) == (LIMIT, LIMIT)


async def test_whatever_many_replicas_start_and_end_the_limit_holds_and_the_count_is_true(
    replicas: list[Writer], database: Database
) -> None:
    chance = random.Random(7)
    done = asyncio.Event()
    seen: list[int] = []

    async def live(writer: Writer) -> None:
        session = await new_session(writer)
        for _ in range(15):
            answer, run = await start(writer, session)
            if answer.session is None:
                assert answer.outcome is Outcome.OVER
                continue
            session = answer.session
            if chance.random() < 0.9:
                session = await end(writer, (session, run))

    async def look() -> None:
        while not done.is_set():
            seen.append(await running(database))

    looking = asyncio.create_task(look())
    await asyncio.gather(*(live(replicas[n % 3]) for n in range(12)))
    done.set()
    await looking
    assert max(seen) <= LIMIT
    assert await used(database) == await running(database)
    assert await recount(database) == []
    await assert_sound(database)


async def test_one_that_fits_is_not_refused_because_of_another_in_its_batch(database: Database) -> None:
    async with a_writer(database, limit=1) as writer:
        stale, good = await new_session(writer), await new_session(writer)
        await writer.write(appending(stale), operation="test")
        (first, _), (second, _) = await asyncio.gather(start(writer, stale), start(writer, good))
        assert (first.outcome, second.outcome) == (Outcome.STALE, Outcome.WRITTEN)


async def test_ending_and_other_writes_never_wait_for_room(database: Database) -> None:
    async with a_writer(database) as writer:
        sessions = [await new_session(writer) for _ in range(LIMIT)]
        held = [await start(writer, each) for each in sessions]
    async with a_writer(database, limit=1) as lower:
        other = await new_session(lower)
        assert (await lower.write(appending(other), operation="test")).outcome is Outcome.WRITTEN
        for answer, run in held:
            assert answer.session is not None
            assert (await start(lower, await stored_session(database, other)))[0].outcome is Outcome.OVER
            await end(lower, (answer.session, run))
        assert (await start(lower, await stored_session(database, other)))[0].outcome is Outcome.WRITTEN


async def test_the_waiting_path_keeps_to_the_limit(replicas: list[Writer], database: Database) -> None:
    sessions = [await new_session(replicas[0]) for _ in range(9)]

    async def try_it(writer: Writer, session: Session) -> Outcome:
        answer = await writer.write_waiting(
            TENANT,
            session.id,
            lambda found: replace(appending(found.session, a_run(session)), running=1),
            operation="test",
        )
        return answer.outcome

    outcomes = await asyncio.gather(*(try_it(replicas[n % 3], each) for n, each in enumerate(sessions)))
    assert outcomes.count(Outcome.WRITTEN) == LIMIT
    assert await used(database) == LIMIT


async def test_who_comes_new_does_not_go_before_those_who_wait(replicas: list[Writer]) -> None:
    first = await waiting(replicas[0])
    new = await new_session(replicas[0])
    assert (await start(replicas[1], new))[0].outcome is Outcome.OVER
    session = replace(first, queue_time=0)
    assert (await start(replicas[1], session))[0].outcome is Outcome.WRITTEN
    assert (await start(replicas[1], new))[0].outcome is Outcome.WRITTEN


async def test_another_tenants_runs_take_no_room(database: Database) -> None:
    async with a_writer(database, limit=1) as writer:
        assert (await start(writer, await new_session(writer)))[0].outcome is Outcome.WRITTEN
        await waiting(writer)
        foreign = replace(await new_session(writer), tenant="other")
        await database.fetch("UPDATE session SET tenant = 'other' WHERE id = $1", foreign.id)
        await database.fetch("UPDATE event SET tenant = 'other' WHERE session_id = $1", foreign.id)
        run = replace(a_run(foreign), tenant="other")
        answer = await writer.write(replace(appending(foreign, run), running=1), operation="test")
        assert answer.outcome is Outcome.WRITTEN


async def test_without_a_limit_nothing_is_counted(database: Database, writer: Writer) -> None:
    for _ in range(LIMIT + 1):
        assert (await start(writer, await new_session(writer)))[0].outcome is Outcome.WRITTEN
    assert await used(database) is None


async def test_a_limit_that_is_new_counts_what_runs_already(database: Database, writer: Writer) -> None:
    for _ in range(LIMIT):
        await start(writer, await new_session(writer))
    async with a_writer(database) as limited:
        assert (await start(limited, await new_session(limited)))[0].outcome is Outcome.OVER


async def test_a_wrong_count_is_put_right_while_others_count(replicas: list[Writer], database: Database) -> None:
    started = [await start(replicas[0], await new_session(replicas[0])) for _ in range(2)]
    await database.fetch("UPDATE counter SET used = 40")

    async def flicker(answer: Answer, run: Run) -> None:
        assert answer.session is not None
        held: Held = (answer.session, run)
        for _ in range(10):
            session = await end(replicas[1], held)
            answer, run = await start(replicas[2], session)
            if answer.session is None:
                return
            held = (answer.session, run)

    await asyncio.gather(*(flicker(*each) for each in started), recount(database))
    assert await used(database) == await running(database)


async def test_a_writer_tells_when_room_appears_for_those_who_wait(database: Database) -> None:
    told: list[str] = []
    async with a_writer(database, limit=1, on_fewer_running=lambda: told.append("room")) as writer:
        answer, run = await start(writer, await new_session(writer))
        assert answer.session is not None
        again = await end(writer, (answer.session, run))
        assert told == []  # nobody has met the limit
        answer, run = await start(writer, again)
        await start(writer, await new_session(writer))
        assert answer.session is not None
        await end(writer, (answer.session, run))
        assert told == ["room"]


async def test_those_who_wait_can_be_claimed_as_far_as_there_is_room_the_longest_waiting_first(
    database: Database, replicas: list[Writer]
) -> None:
    lease = Lease(database, "me", runs_per_tenant=LIMIT)
    await start(replicas[0], await new_session(replicas[0]))
    now = now_micros()
    third = await waiting(replicas[0], queue_time=now + 3)
    second = await waiting(replicas[0], queue_time=now + 2)
    first = await waiting(replicas[0], queue_time=now + 9, priority=1)
    assert [id for _, id in await lease.claimable(100)] == [first.id, second.id]
    assert [id for _, id in await lease.claimable(1)] == [first.id]
    unlimited = Lease(database, "me")
    assert [id for _, id in await unlimited.claimable(100)] == [first.id, second.id, third.id]
