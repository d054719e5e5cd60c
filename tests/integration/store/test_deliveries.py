"""What the webhook is to be told is there exactly if its event is, and two who take share it out."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.domain.events import AgentSwitched, ApprovalReminder, ApprovalRequested, ApprovalResolved, Event
from orchestrator.domain.records import Approval, Session
from orchestrator.store import deliveries
from orchestrator.store.answers import Outcome
from orchestrator.store.database import Database
from orchestrator.store.writer import Writer
from tests.integration.store.making import TENANT, appending, new_request, new_session, now_micros, written

MINUTE = 60_000_000


@pytest.fixture
async def telling(database: Database) -> AsyncIterator[Writer]:
    """A writer where there is a webhook."""
    writer = Writer(database.connect_writer, clock=now_micros, on_written=lambda *_: None, delivers=True)
    await writer.start()
    yield writer
    await writer.close()


def events_of(session: Session) -> tuple[Event, ...]:
    asked = Approval(TENANT, "a", session.id, "r", "PLAN", "digest")
    return (
        AgentSwitched("auto", "coder", "ann"),
        ApprovalRequested(asked),
        ApprovalReminder("a", "PLAN", "r", 1, 0),
        ApprovalResolved("a", "PLAN", "r", "RESOLVED", "decided"),
    )


async def sequences(database: Database) -> list[tuple[str, int]]:
    rows = await database.fetch("SELECT session_id, sequence FROM delivery ORDER BY session_id, sequence")
    return [(row["session_id"], row["sequence"]) for row in rows]


async def test_what_concerns_people_is_to_be_told_and_nothing_else(telling: Writer, database: Database) -> None:
    session = await new_session(telling)
    assert await sequences(database) == []
    await written(telling, replace(appending(session), events=events_of(session)))
    assert await sequences(database) == [(session.id, n) for n in (3, 4, 5)]
    taken = await deliveries.take(database, 10, MINUTE)
    assert [d.event.sequence for d in taken] == [3, 4, 5]
    assert taken[0].event.payload_json.startswith('{"approval_requested"')
    assert (taken[0].id, taken[0].tries) == (f"{session.id}:3", 1)


async def test_where_there_is_no_webhook_nothing_is_written_for_it(writer: Writer, database: Database) -> None:
    session = await new_session(writer)
    await written(writer, replace(appending(session), events=events_of(session)))
    assert await sequences(database) == []


async def test_what_was_not_written_is_not_told(telling: Writer, database: Database) -> None:
    """Many at once of one batch, some of them stale: each event that is in a log is told, and no other."""
    sessions = [await new_session(telling) for _ in range(12)]
    change_sets = [replace(appending(s), events=events_of(s), request=new_request()) for s in sessions]
    answers = await asyncio.gather(
        *(telling.write(c, operation="test") for c in change_sets),
        *(telling.write(replace(c, request=new_request()), operation="test") for c in change_sets[::2]),
    )
    assert [a.outcome for a in answers].count(Outcome.WRITTEN) == 12
    assert await sequences(database) == sorted((s.id, n) for s in sessions for n in (3, 4, 5))


async def test_two_who_take_share_what_there_is(telling: Writer, database: Database) -> None:
    for session in [await new_session(telling) for _ in range(10)]:
        await written(telling, replace(appending(session), events=events_of(session)))
    shares = await asyncio.gather(*(deliveries.take(database, 4, MINUTE) for _ in range(12)))
    ids = [delivery.id for share in shares for delivery in share]
    for _ in range(12):  # what others had locked at that moment
        ids += [delivery.id for delivery in await deliveries.take(database, 4, MINUTE)]
    assert len(ids) == len(set(ids)) == 30


async def test_what_was_taken_is_due_again_when_the_time_is_up_or_sooner_if_so_said(
    telling: Writer, database: Database
) -> None:
    session = await new_session(telling)
    await written(telling, replace(appending(session), events=events_of(session)[1:2]))
    [first] = await deliveries.take(database, 10, MINUTE)
    assert await deliveries.take(database, 10, MINUTE) == []
    await deliveries.later(database, first, 0)
    [second] = await deliveries.take(database, 10, MINUTE)
    assert (second.id, second.tries) == (first.id, 2)
    await deliveries.later(database, first, 0)  # who had it first comes late, and changes nothing
    assert await deliveries.take(database, 10, MINUTE) == []
    await deliveries.done(database, first)  # but that it was taken counts, whoever says so
    assert await sequences(database) == []
