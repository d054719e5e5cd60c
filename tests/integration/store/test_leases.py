"""Leases: who lives owns; what nobody alive owns and is due can be claimed, and nothing else."""

from dataclasses import replace

from orchestrator.domain.records import Session
from orchestrator.domain.room import WHEN_THERE_IS_ROOM
from orchestrator.store.database import Database
from orchestrator.store.leases import Lease
from orchestrator.store.writer import Writer
from tests.integration.store.making import TENANT, appending, new_session, now_micros, set_clock, written

SECOND = 1_000_000


async def make(writer: Writer, *, runnable: bool = False, due_in: float | None = None, owner: str = "") -> Session:
    due_time = 0 if due_in is None else now_micros() + int(due_in * SECOND)
    session = await new_session(writer, runnable=runnable, due_time=due_time)
    return await written(writer, appending(session, claim_for=owner)) if owner else session


async def claimable(lease: Lease, limit: int = 100) -> list[str]:
    keys = await lease.claimable(limit)
    assert {tenant for tenant, _ in keys} <= {TENANT}
    return [session_id for _, session_id in keys]


async def advance(database: Database, seconds: float) -> None:
    connection = await database.connect()
    await set_clock(connection, int(seconds * SECOND))
    await connection.close()


async def test_what_is_due_and_unowned_is_claimable_the_longest_due_first(writer: Writer, database: Database) -> None:
    lease = Lease(database, "me")
    await lease.register()
    await make(writer)
    await make(writer, due_in=3600)
    late = await make(writer, due_in=-10)
    later = await make(writer, due_in=-20)
    runnable = await make(writer, runnable=True)
    assert await claimable(lease) == [runnable.id, later.id, late.id]
    assert await claimable(lease, 2) == [runnable.id, later.id]


async def test_a_timer_makes_its_session_claimable_when_it_is_due(writer: Writer, database: Database) -> None:
    lease = Lease(database, "me")
    session = await make(writer, due_in=60)
    assert await claimable(lease) == []
    await advance(database, 61)
    assert await claimable(lease) == [session.id]


async def test_what_waits_for_room_is_never_due_and_is_found_in_the_order_in_which_it_began_to_wait(
    writer: Writer, database: Database
) -> None:
    lease = Lease(database, "me")
    await lease.register()
    await make(writer)
    await make(writer, due_in=3600)
    dues = [WHEN_THERE_IS_ROOM + after for after in (7, 5, 5, 9)]
    waiting = [await new_session(writer, due_time=due) for due in dues]
    owned = await new_session(writer, due_time=dues[0])
    await written(writer, appending(owned, claim_for="me"))
    expected = [(session.due_time, session.id) for session in waiting]
    expected.sort()
    assert await claimable(lease) == []
    after, found = (0, ""), []
    while page := await lease.waiting_for_room(after, 2):
        after = [(due, session_id) for (_, session_id), due in page.items()][-1]
        found += [(due, session_id) for (_, session_id), due in page.items()]
    assert found == expected
    assert await lease.waiting_for_room((0, ""), 1) == {(TENANT, expected[0][1]): expected[0][0]}


async def test_a_live_owners_sessions_are_left_alone_until_its_lease_lapses(writer: Writer, database: Database) -> None:
    mine, theirs = Lease(database, "me"), Lease(database, "they")
    await mine.register()
    await theirs.register()
    session = await make(writer, runnable=True, owner="they")
    assert await claimable(mine) == []
    await advance(database, 14)
    assert await claimable(mine) == []
    await advance(database, 16)
    assert await claimable(mine) == [session.id]


async def test_a_renewed_lease_goes_on(writer: Writer, database: Database) -> None:
    mine, theirs = Lease(database, "me"), Lease(database, "they")
    await theirs.register()
    await make(writer, runnable=True, owner="they")
    await advance(database, 10)
    await theirs.renew()
    await advance(database, 20)
    assert await claimable(mine) == []


async def test_a_released_lease_frees_its_sessions_at_once(writer: Writer, database: Database) -> None:
    mine, theirs = Lease(database, "me"), Lease(database, "they")
    await mine.register()
    await theirs.register()
    session = await make(writer, runnable=True, owner="they")
    await theirs.release()
    assert await claimable(mine) == [session.id]


async def test_an_owner_that_nobody_registered_counts_as_lapsed(writer: Writer, database: Database) -> None:
    session = await make(writer, runnable=True, owner="nobody")
    assert await claimable(Lease(database, "me")) == [session.id]


async def test_renewing_tells_where_ones_own_working_sessions_stand(writer: Writer, database: Database) -> None:
    lease = Lease(database, "me")
    await make(writer, runnable=True, owner="they")
    await make(writer, owner="me")
    session = await make(writer, runnable=True, owner="me")
    session = await written(writer, appending(replace(session), events=3))
    assert await lease.renew() == {(TENANT, session.id): session.last_sequence}


async def test_the_length_of_a_lease_is_a_setting(writer: Writer, database: Database) -> None:
    mine, theirs = Lease(database, "me"), Lease(database, "they", seconds=2)
    await theirs.register()
    session = await make(writer, runnable=True, owner="they")
    await advance(database, 3)
    assert await claimable(mine) == [session.id]


async def test_rows_of_replicas_long_gone_are_dropped(database: Database) -> None:
    mine = Lease(database, "me", "127.0.0.1:1")
    await Lease(database, "long gone").register()
    await advance(database, 2 * 24 * 3600)
    await mine.register()
    await Lease(database, "another").release()
    assert [tuple(row)[:2] for row in await database.fetch("SELECT * FROM lease")] == [("me", "127.0.0.1:1")]


async def test_the_higher_priority_is_claimed_first_whoever_waited_longer(writer: Writer, database: Database) -> None:
    lease = Lease(database, "me")
    made = {priority: await new_session(writer, runnable=True, priority=priority) for priority in (0, -10, 3, 10)}
    late = await new_session(writer, due_time=now_micros() - 60 * SECOND, priority=3)
    await new_session(writer, due_time=now_micros() + 60 * SECOND, priority=10)
    expected = [made[10].id, made[3].id, late.id, made[0].id, made[-10].id]
    assert await claimable(lease) == expected
    assert await claimable(lease, 2) == expected[:2]
