"""However writes here, writes elsewhere, reads, pauses and cuts fall together: every durable event once, in order."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.streaming.feed import Box, Delta, FeedItem, Position, Settled, SlowWatcher, StreamEnding
from orchestrator.streaming.hub import Hub
from tests.unit.engine.virtual_time import VirtualLoop, settle

KEY = ("default", "session")
BOX_BYTES = 1_300
PAGE = 3

times = st.integers(1, 4)
acts = st.one_of(
    *[st.tuples(st.just("write here"), times, st.booleans())] * 3,
    st.tuples(st.just("write elsewhere"), times, st.booleans()),
    st.tuples(st.just("settle"), st.just(0), st.booleans()),  # a change set without an event
    st.tuples(st.just("delta"), times, st.just(False)),
    st.tuples(st.just("time"), times, st.just(False)),  # the hub looks around
    st.tuples(st.just("turns"), times, st.just(False)),
    st.tuples(st.just("reader"), st.integers(0, 1), st.just(False)),  # stops, goes on
    st.tuples(st.just("database"), st.integers(0, 1), st.just(False)),  # goes, is back
)
Act = tuple[str, int, bool]
tries = settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class SlowLog:
    """A log whose answers are those of the moment it was asked, however late they come."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []
        self.settled = True
        self.settled_at = {0}  # every sequence at which nothing moved
        self.is_away = False

    def write(self, count: int, settled: bool) -> list[LoggedEvent]:
        first = len(self.events) + 1
        new = [LoggedEvent(*KEY, n, 0, "", "x" * 100, "", "") for n in range(first, first + count)]
        self.events += new
        self.settled = settled
        if settled:
            self.settled_at.add(len(self.events))
        return new

    @property
    def session(self) -> Session:
        return Session(*KEY, state="EXECUTION", settled=self.settled, last_sequence=len(self.events))

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        if self.is_away:
            raise StorageUnavailable("away")
        found = self.events[after:][: min(limit, PAGE)]
        await settle(3)
        return found

    async def positions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        if self.is_away:
            raise StorageUnavailable("away")
        position = Position(len(self.events), self.settled, "EXECUTION")
        await settle(3)
        return dict.fromkeys(keys, position)


class Play:
    """A watcher that comes back wherever it was cut, and keeps all it was given."""

    def __init__(self, *, until_settled: bool) -> None:
        self.log = SlowLog()
        self.log.write(2, settled=False)
        self.hub = Hub(self.log)
        self.given: list[FeedItem] = []
        self.cuts = 0
        self._until_settled = until_settled
        self._may_read = asyncio.Event()
        self._may_read.set()

    async def watch(self, after: int = 0) -> None:
        while True:
            try:
                with self.hub.join(*KEY, deltas=True) as watch:
                    async for batch in watch.batches(after=after, until_settled=self._until_settled):
                        self.given += batch
                        await self._may_read.wait()
                return
            except SlowWatcher as cut:
                self.cuts += 1
                after = cut.resume_after or 0
                assert after == self.last
            except StorageUnavailable:
                after = self.last
                await asyncio.sleep(0.1)

    @property
    def durable(self) -> list[LoggedEvent]:
        return [item for item in self.given if isinstance(item, LoggedEvent)]

    @property
    def last(self) -> int:
        return self.durable[-1].sequence if self.durable else 0

    async def act(self, act: Act) -> None:
        match act:
            case ("write here", count, settled):
                new = self.log.write(count, settled)
                self.hub.publish(self.log.session, new)
            case ("write elsewhere", count, settled):
                self.log.write(count, settled)
            case ("settle", _, settled):
                self.hub.publish(replace(self.log.session, settled=settled), self.log.write(0, settled))
            case ("delta", count, _):
                delta = Delta("r1", "", "a1", "x1", 1, "TEXT", "y" * 100 * count)
                self.hub.publish_delta(*KEY, delta)
            case ("reader", 0, _):
                self._may_read.clear()
            case ("reader", _, _):
                self._may_read.set()
            case ("time", count, _):
                await asyncio.sleep(count / 2)
            case ("turns", count, _):
                await settle(count)
            case ("database", is_there, _):
                self.log.is_away = not is_there

    async def end(self) -> None:
        """All troubles are over, for long enough."""
        self.log.is_away = False
        self._may_read.set()
        await asyncio.sleep(5)


def played(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.streaming.feed.MAX_BOX_BYTES", BOX_BYTES)


@tries
@given(st.lists(acts, min_size=5, max_size=40))
def test_who_watches_for_ever_gets_every_durable_event_once_and_in_order(story: list[Act]) -> None:
    async def run() -> None:
        play = Play(until_settled=False)
        looking = asyncio.create_task(play.hub.look_around())
        watching = asyncio.create_task(play.watch())
        for act in story:
            await play.act(act)
        await play.end()
        assert play.durable == play.log.events
        assert not [item for item in play.given if isinstance(item, Settled)]
        play.hub.close()
        with pytest.raises(StreamEnding) as ending:
            await watching
        assert ending.value.resume_after == play.last
        assert not play.hub.watched(*KEY)
        await looking

    played(run)


@tries
@given(st.lists(acts, min_size=5, max_size=40))
def test_who_watches_until_it_settles_is_left_only_where_it_had_settled(story: list[Act]) -> None:
    async def run() -> None:
        play = Play(until_settled=True)
        looking = asyncio.create_task(play.hub.look_around())
        watching = asyncio.create_task(play.watch())
        for act in story:
            await play.act(act)
        await play.end()
        assert play.durable == play.log.events[: play.last]
        if not watching.done():
            assert not play.log.settled
            play.hub.publish(replace(play.log.session, settled=True), play.log.write(0, settled=True))
            await settle()
        await watching
        *_, last = play.given
        assert last == Settled("EXECUTION", play.last)
        assert play.last in play.log.settled_at
        assert not play.hub.watched(*KEY)
        looking.cancel()

    played(run)


def test_who_resumes_anywhere_gets_the_rest() -> None:
    async def run() -> None:
        for after in range(8):
            play = Play(until_settled=True)
            play.log.write(5, settled=True)
            await play.watch(after)
            assert [event.sequence for event in play.durable] == list(range(after + 1, 8))

    played(run)


def test_what_the_database_said_before_does_not_undo_what_was_heard_since() -> None:
    box = Box(wants_deltas=False)
    box.move_to(Position(5, False, "EXECUTION"))
    box.move_to(Position(4, True, "COMPLETED"))
    assert box.position == Position(5, False, "EXECUTION")
    box.move_to(Position(5, True, "COMPLETED"))
    assert box.position == Position(5, True, "COMPLETED")


def test_a_watcher_cut_off_keeps_nothing_in_memory() -> None:
    async def run() -> None:
        play = Play(until_settled=False)
        with play.hub.join(*KEY, deltas=True):
            [box] = play.hub._boxes[KEY]
            for _ in range(50):
                await play.act(("write here", 4, False))
                await play.act(("delta", 4, False))
            assert box.overflowed
            assert box.take() == []

    played(run)


def test_a_box_counts_what_text_costs_in_memory() -> None:
    async def run() -> None:
        play = Play(until_settled=False)
        with play.hub.join(*KEY, deltas=True):
            [box] = play.hub._boxes[KEY]
            for _ in range(2):
                play.hub.publish_delta(*KEY, Delta("r1", "", "a1", "x1", 1, "TEXT", "ж" * 600))
            assert box.overflowed

    played(run)


def test_a_watcher_that_is_not_read_costs_others_nothing() -> None:
    async def run() -> None:
        play = Play(until_settled=False)
        watching = asyncio.create_task(play.watch())
        await settle()
        with play.hub.join(*KEY, deltas=True):
            for _ in range(30):
                await play.act(("write here", 1, False))
                await settle()
        assert (play.durable, play.cuts) == (play.log.events, 0)
        watching.cancel()

    played(run)
