"""A commit or a lease whose connection breaks just before or just after it: told as what it is, and done once."""

from collections.abc import Awaitable, Callable, Iterator

import pytest

from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.records import Session
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.answers import Outcome
from orchestrator.store.database import Database
from orchestrator.store.leases import Lease
from orchestrator.store.writer import Writer
from rpc import failpoints
from tests.integration.store.making import TENANT, appending, assert_sound, new_request, stored_session

BEFORE_AND_AFTER = pytest.mark.parametrize("moment", ["before", "after"])


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def lose(point: str) -> None:
    failpoints.arm(f"{point}:1:lose")


def has_fired(point: str) -> bool:
    return [order.point for order in failpoints.fired] == [point]


@BEFORE_AND_AFTER
async def test_a_commands_answer_is_its_first_one(
    writer: Writer, database: Database, session: Session, moment: str
) -> None:
    lose(f"commit.command.{moment}")
    answer = await writer.write(appending(session, request=new_request()), operation="test")
    assert has_fired(f"commit.command.{moment}")
    assert answer.outcome == (Outcome.DUPLICATE if moment == "after" else Outcome.WRITTEN)
    [log] = (await assert_sound(database)).values()
    assert len(log) == 2


@BEFORE_AND_AFTER
async def test_an_engines_change_set_is_written_once_and_stale_where_nobody_heard_of_it(
    writer: Writer, database: Database, session: Session, moment: str
) -> None:
    lose(f"commit.engine.{moment}")
    answer = await writer.write(appending(session), operation="engine")
    assert has_fired(f"commit.engine.{moment}")
    assert answer.outcome == (Outcome.STALE if moment == "after" else Outcome.WRITTEN)
    [log] = (await assert_sound(database)).values()
    assert len(log) == 2


@BEFORE_AND_AFTER
async def test_a_claim_and_a_release_take_effect_once(
    writer: Writer, database: Database, session: Session, moment: str
) -> None:
    await Lease(database, "me").register()
    lose(f"commit.claim.{moment}")
    await writer.write(appending(session, claim_for="me"), operation="engine")
    assert has_fired(f"commit.claim.{moment}")
    held = await stored_session(database, session)
    assert (held.owner, held.epoch) == ("me", 1)
    lose(f"commit.release.{moment}")
    await writer.write(appending(held, owner="me", epoch=1, release=True), operation="engine")
    assert has_fired(f"commit.release.{moment}")
    held = await stored_session(database, session)
    assert (held.owner, held.epoch, held.last_sequence) == ("", 1, 3)
    await assert_sound(database)


@BEFORE_AND_AFTER
@pytest.mark.parametrize("doer", ["command", "engine"])
async def test_a_turn_on_the_waiting_path_is_taken_again_on_what_was_written(
    writer: Writer, database: Database, session: Session, doer: str, moment: str
) -> None:
    request = new_request() if doer == "command" else None
    seen: list[int] = []

    def decide(snapshot: Snapshot) -> ChangeSet | None:
        seen.append(snapshot.session.last_sequence)
        return appending(snapshot.session, request=request) if request or seen[-1] == 1 else None

    lose(f"waiting.{doer}.{moment}")
    answer = await writer.write_waiting(TENANT, session.id, decide, operation="test")
    assert has_fired(f"waiting.{doer}.{moment}")
    assert seen == ([1, 1] if moment == "before" else [1, 2])
    if moment == "before":
        assert answer.outcome == Outcome.WRITTEN
    else:
        assert answer.outcome == (Outcome.DUPLICATE if request else Outcome.UNCHANGED)
    [log] = (await assert_sound(database)).values()
    assert len(log) == 2


@BEFORE_AND_AFTER
async def test_a_lease_whose_connection_breaks_is_storage_that_is_away(database: Database, moment: str) -> None:
    lease = Lease(database, "me")
    calls: tuple[tuple[str, Callable[[], Awaitable[object]]], ...] = (
        ("renew", lease.renew),
        ("release", lease.release),
    )
    for name, call in calls:
        lose(f"lease.{name}.{moment}")
        with pytest.raises(StorageUnavailable):
            await call()
        assert has_fired(f"lease.{name}.{moment}")
        rows = await database.fetch("SELECT FROM lease WHERE expire_time > assent_now()")
        assert len(rows) == ((name == "renew") == (moment == "after"))
        await lease.register()
