"""The waiting path: a decision that keeps coming too late waits for its session's row and then wins."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import SessionBusy
from orchestrator.domain.records import Session
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.answers import Outcome, PoisonedChangeSet
from orchestrator.store.database import Database
from orchestrator.store.writer import Writer
from tests.integration.store.making import (
    TENANT,
    Followed,
    a_run,
    append_until_written,
    appending,
    assert_sound,
    new_id,
    new_request,
    new_session,
    now_micros,
    stored_session,
    until_somebody_waits_for_a_lock,
    written,
)


@pytest.fixture
async def other_replica(database: Database) -> AsyncIterator[Writer]:
    writer = Writer(database.connect_writer, clock=now_micros, on_written=lambda *_: None)
    await writer.start()
    yield writer
    await writer.close()


async def test_it_decides_on_the_newest_snapshot_and_is_never_stale(
    writer: Writer, other_replica: Writer, database: Database, session: Session, followed: Followed
) -> None:
    stop = asyncio.Event()

    async def hammer(through: Writer) -> int:
        times = 0
        while not stop.is_set():
            await append_until_written(through, database, session, "hammer")
            times += 1
        return times

    hammering = [asyncio.create_task(hammer(each)) for each in (writer, writer, other_replica, other_replica)]
    for _ in range(20):
        answer = await writer.write_waiting(
            TENANT, session.id, lambda snapshot: appending(snapshot.session, events=2), operation="test"
        )
        assert answer.outcome is Outcome.WRITTEN
    stop.set()
    times = sum(await asyncio.gather(*hammering))
    [log] = (await assert_sound(database)).values()
    assert len(log) == 1 + 2 * 20 + times
    numbers = followed.sequences(session.id)
    assert numbers == sorted(numbers)


async def test_many_waiting_decisions_on_one_session_are_all_carried_out(
    writer: Writer, other_replica: Writer, database: Database, session: Session
) -> None:
    def decide(snapshot: Snapshot) -> ChangeSet:
        return appending(snapshot.session, a_run(snapshot.session))

    both = [writer, other_replica] * 8
    answers = await asyncio.gather(*(each.write_waiting(TENANT, session.id, decide, operation="test") for each in both))
    assert {answer.outcome for answer in answers} == {Outcome.WRITTEN}
    assert sorted(answer.last_sequence for answer in answers) == list(range(2, 18))
    await assert_sound(database)


async def test_deciding_to_do_nothing_leaves_everything_as_it_is(
    writer: Writer, database: Database, session: Session
) -> None:
    answer = await writer.write_waiting(TENANT, session.id, lambda _: None, operation="test")
    assert (answer.outcome, answer.last_sequence) == (Outcome.UNCHANGED, session.last_sequence)
    assert await stored_session(database, session) == session


async def test_what_the_decision_raises_is_passed_on_and_nothing_is_written(
    writer: Writer, database: Database, session: Session
) -> None:
    def refuse(snapshot: Snapshot) -> ChangeSet:
        raise SessionBusy(snapshot.session.id, "a run")

    with pytest.raises(SessionBusy):
        await writer.write_waiting(TENANT, session.id, refuse, operation="test")
    assert await stored_session(database, session) == session
    await written(writer, appending(session))


async def test_a_session_that_is_not_there_is_absent(writer: Writer) -> None:
    answer = await writer.write_waiting(TENANT, new_id(), lambda _: None, operation="test")
    assert answer.outcome is Outcome.ABSENT


async def test_a_repeated_request_finds_the_first_answer(writer: Writer, session: Session) -> None:
    request = new_request()
    await written(writer, appending(session, request=request))
    answer = await writer.write_waiting(
        TENANT, session.id, lambda snapshot: appending(snapshot.session, request=request), operation="test"
    )
    assert (answer.outcome, answer.request) == (Outcome.DUPLICATE, request)


async def test_poison_is_refused_and_the_session_is_free_again(
    writer: Writer, database: Database, session: Session
) -> None:
    def decide(snapshot: Snapshot) -> ChangeSet:
        return appending(snapshot.session, a_run(snapshot.session, state="FLYING"))

    with pytest.raises(PoisonedChangeSet):
        await writer.write_waiting(TENANT, session.id, decide, operation="test")
    await written(writer, appending(await stored_session(database, session)))


async def test_a_caller_that_goes_away_holds_nothing(writer: Writer, database: Database, session: Session) -> None:
    blocker = await database.connect()
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM session WHERE id = $1 FOR UPDATE", session.id)
    leaving = asyncio.create_task(
        writer.write_waiting(TENANT, session.id, lambda s: appending(s.session), operation="test")
    )
    await until_somebody_waits_for_a_lock(database)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await transaction.rollback()
    await blocker.close()
    answer = await writer.write(appending(session), operation="test")
    assert answer.outcome is Outcome.WRITTEN


async def test_a_batch_does_not_wait_for_a_locked_session(writer: Writer, database: Database, session: Session) -> None:
    blocker = await database.connect()
    async with blocker.transaction():
        await blocker.execute("SELECT FROM session WHERE id = $1 FOR UPDATE", session.id)
        locked = asyncio.create_task(writer.write(appending(session), operation="test"))
        for _ in range(5):
            other = await written(writer, appending(await new_session(writer)))
            assert other.last_sequence == 2
        assert not locked.done()
    assert (await locked).outcome is Outcome.WRITTEN
    await blocker.close()
