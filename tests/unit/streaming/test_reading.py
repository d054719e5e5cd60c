"""A herd of watchers reads with few queries, and each gets exactly what it would have read alone."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.streaming.feed import FeedItem, Position, Settled
from orchestrator.streaming.hub import Hub
from orchestrator.streaming.reading import GAP_SECONDS, PAGES_AT_ONCE, SharedReading, Wanted
from tests.unit.engine.virtual_time import in_virtual_time, settle

Key = tuple[str, str]


def log_of(session_id: str, count: int) -> list[LoggedEvent]:
    return [LoggedEvent("default", session_id, n, 0, "", f"{session_id} {n}", "", "") for n in range(1, count + 1)]


class Source:
    """Logs in memory that count their queries; `largest` is how many events a page holds at most."""

    def __init__(self, largest: int = 10_000, **counts: int) -> None:
        self.logs = {("default", name): log_of(name, count) for name, count in counts.items()}
        self.largest = largest
        self.queries: list[int] = []  # how much each asked for
        self.is_away = False

    async def pages(self, wanted: Sequence[Wanted]) -> list[list[LoggedEvent]]:
        await self._query(len(wanted))
        return [
            self.logs.get((tenant, session_id), [])[after:][: min(limit, self.largest)]
            for tenant, session_id, after, limit in wanted
        ]

    async def positions(self, keys: Sequence[Key]) -> dict[Key, Position]:
        found = {key: Position(len(self.logs[key]), True, "IDLE") for key in keys if key in self.logs}
        await self._query(len(keys))
        return found

    async def _query(self, size: int) -> None:
        self.queries.append(size)
        await asyncio.sleep(0.01)
        if self.is_away:
            raise StorageUnavailable("away")


async def caught_up(hub: Hub, session_id: str, after: int) -> list[FeedItem]:
    """A watcher that comes back, until the session has settled."""
    with hub.join("default", session_id, deltas=False) as watch:
        return [item async for batch in watch.batches(after=after, until_settled=True) for item in batch]


@in_virtual_time
async def test_two_thousand_who_come_back_to_one_session_at_different_places_share_a_few_queries() -> None:
    source = Source(one=1_200)
    hub = Hub(SharedReading(source))
    places = [n % 1_200 for n in range(2_000)]
    caught = await asyncio.gather(*(caught_up(hub, "one", place) for place in places))
    log = source.logs["default", "one"]
    for place, items in zip(places, caught, strict=True):
        assert items == [*log[place:], Settled("IDLE", 1_200)]
    assert len(source.queries) <= 20


@in_virtual_time
async def test_two_thousand_who_come_back_to_as_many_sessions_share_a_query_for_dozens_of_them() -> None:
    source = Source(**{f"session {n}": 20 for n in range(2_000)})
    hub = Hub(SharedReading(source))
    caught = await asyncio.gather(*(caught_up(hub, f"session {n}", n % 20) for n in range(2_000)))
    for n, items in enumerate(caught):
        assert items == [*log_of(f"session {n}", 20)[n % 20 :], Settled("IDLE", 20)]
    assert len(source.queries) <= 2_000 / PAGES_AT_ONCE + 10


@in_virtual_time
async def test_a_herd_that_trickles_in_asks_a_few_times_and_who_comes_alone_waits_for_nothing() -> None:
    source = Source(one=100)
    hub = Hub(SharedReading(source))
    clock = asyncio.get_running_loop().time

    async def later(milliseconds: int) -> list[FeedItem]:
        await asyncio.sleep(milliseconds / 1000)
        return await caught_up(hub, "one", 50)

    caught = await asyncio.gather(*(later(n) for n in range(1_000)))
    assert [len(items) for items in caught] == [51] * 1_000
    assert len(source.queries) <= 2 * (1 / GAP_SECONDS + 5)
    await asyncio.sleep(1)
    began = clock()
    await caught_up(hub, "one", 50)
    assert clock() - began < 0.021  # the two queries, of 10 ms each


@in_virtual_time
async def test_those_who_missed_nothing_read_nothing() -> None:
    source = Source(one=50)
    hub = Hub(SharedReading(source))
    caught = await asyncio.gather(*(caught_up(hub, "one", 50) for _ in range(500)))
    assert caught == [[Settled("IDLE", 50)]] * 500
    assert source.queries == [1]


asks = st.lists(
    st.tuples(st.sampled_from(["one", "two", "none"]), st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=30
)


@settings(max_examples=200, deadline=None)
@given(asks, st.integers(1, 15))
def test_whoever_shares_a_page_gets_a_part_of_their_own_and_never_nothing(
    wanted: list[tuple[str, int, int]], largest: int
) -> None:
    source = Source(largest, one=40, two=7)
    reading = SharedReading(source)

    async def read() -> None:
        pages = await asyncio.gather(
            *(reading.events_after("default", name, after, limit) for name, after, limit in wanted)
        )
        for page, (name, after, limit) in zip(pages, wanted, strict=True):
            alone = log_of(name, {"one": 40, "two": 7, "none": 0}[name])[after : after + limit]
            assert page == alone[: len(page)]
            assert bool(page) == bool(alone)

    in_virtual_time(read)()


@in_virtual_time
async def test_a_position_is_looked_up_after_it_was_asked_for() -> None:
    source = Source(one=1)
    reading = SharedReading(source)
    asked_before = asyncio.create_task(reading.positions([("default", "one")]))
    await settle()
    source.logs["default", "one"] = log_of("one", 2)
    asked_after = asyncio.create_task(reading.positions([("default", "one")]))
    assert (await asked_before)["default", "one"].last_sequence == 1
    assert (await asked_after)["default", "one"].last_sequence == 2


@in_virtual_time
async def test_who_goes_away_does_not_take_the_answer_from_the_others() -> None:
    source = Source(one=3)
    reading = SharedReading(source)
    first = asyncio.create_task(reading.events_after("default", "one", 0, 3))
    second = asyncio.create_task(reading.events_after("default", "one", 1, 3))
    await settle()
    first.cancel()
    assert await second == log_of("one", 3)[1:]


@in_virtual_time
async def test_a_database_that_is_away_is_told_to_everybody_who_asked_and_asked_again_later() -> None:
    source = Source(one=3)
    hub = Hub(SharedReading(source))
    source.is_away = True
    answers = await asyncio.gather(*(caught_up(hub, "one", n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StorageUnavailable] * 3
    source.is_away = False
    assert len(await caught_up(hub, "one", 0)) == 4


@in_virtual_time
async def test_what_is_written_while_the_herd_reads_is_given_once() -> None:
    source = Source(one=600)
    hub = Hub(SharedReading(source))
    readers = [asyncio.create_task(caught_up(hub, "one", n)) for n in range(100)]
    await settle()
    more = log_of("one", 603)[600:]
    source.logs["default", "one"] += more
    hub.publish(Session("default", "one", state="IDLE", settled=True, last_sequence=603), more)
    for n, reader in enumerate(readers):
        items = await reader
        assert [item.sequence for item in items if isinstance(item, LoggedEvent)] == list(range(n + 1, 604))


@pytest.mark.parametrize("keys", [[], [("default", "one"), ("default", "two")]])
@in_virtual_time
async def test_many_positions_at_once_are_one_query(keys: list[Key]) -> None:
    source = Source(one=1, two=2)
    assert set(await SharedReading(source).positions(keys)) == set(keys)
    assert source.queries == [len(keys)]
