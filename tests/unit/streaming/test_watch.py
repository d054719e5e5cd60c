"""A watcher misses nothing and sees nothing twice, and reads the log only for what it did not hear."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.streaming.feed import FeedItem, Position, Settled, SlowWatcher, StreamEnding
from orchestrator.streaming.hub import Hub
from orchestrator.streaming.watch import Watch

KEY = ("default", "session")
BUSY = Session(*KEY, state="EXECUTION", settled=False)
DONE = replace(BUSY, state="COMPLETED", settled=True)


def event(sequence: int, payload: str = "{}") -> LoggedEvent:
    return LoggedEvent(*KEY, sequence, 0, "", payload, "", "")


class FakeLog:
    """A log in memory that counts how often it is read."""

    def __init__(self, *sequences: int, settled: bool = False) -> None:
        self.events = [event(sequence) for sequence in sequences]
        self.settled = settled
        self.reads: list[str] = []

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        self.reads.append("events")
        return [each for each in self.events if each.sequence > after][:limit]

    async def positions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        self.reads.append("position")
        last = len(self.events)
        return {KEY: Position(last, self.settled, "COMPLETED" if self.settled else "EXECUTION")} if last else {}


async def everything(watch: Watch, *, after: int = 0) -> list[FeedItem]:
    return [item async for batch in watch.batches(after=after, until_settled=True) for item in batch]


async def test_who_joined_before_it_was_written_reads_nothing() -> None:
    log = FakeLog()
    hub = Hub(log)
    with hub.join(*KEY, deltas=False) as watch:
        hub.publish(replace(BUSY, last_sequence=6), [event(5), event(6)])
        hub.publish(replace(DONE, last_sequence=7), [event(7)])
        assert await everything(watch, after=4) == [event(5), event(6), event(7), Settled("COMPLETED", 7)]
    assert log.reads == []


async def test_the_end_travels_with_the_last_events() -> None:
    hub = Hub(FakeLog())
    with hub.join(*KEY, deltas=False) as watch:
        hub.publish(replace(DONE, last_sequence=1), [event(1)])
        batches = [batch async for batch in watch.batches(after=0, until_settled=True)]
    assert batches == [[event(1), Settled("COMPLETED", 1)]]


async def test_who_joins_late_reads_the_log_up_to_the_live_tail() -> None:
    log = FakeLog(1, 2, 3)
    hub = Hub(log)
    with hub.join(*KEY, deltas=False) as watch:
        batches = watch.batches(after=1, until_settled=True)
        assert await anext(batches) == [event(2), event(3)]
        hub.publish(replace(DONE, last_sequence=4), [event(4)])
        assert await anext(batches) == [event(4), Settled("COMPLETED", 4)]


async def test_a_sequence_the_session_has_not_reached_is_refused_by_name() -> None:
    hub = Hub(FakeLog(1, 2, 3, settled=True))
    with hub.join(*KEY, deltas=False) as watch, pytest.raises(InvalidInput) as refused:
        await everything(watch, after=4)
    assert [violation.field for violation in refused.value.violations] == ["after_sequence"]
    with hub.join(*KEY, deltas=False) as watch:
        assert await everything(watch, after=3) == [Settled("COMPLETED", 3)]


async def test_a_gap_in_what_was_heard_is_read_from_the_log() -> None:
    log = FakeLog(1, 2, 3, 4, settled=True)
    hub = Hub(log)
    with hub.join(*KEY, deltas=False) as watch:
        hub.publish(replace(BUSY, last_sequence=1), [event(1)])
        hub.publish(replace(DONE, last_sequence=4), [event(4)])  # another replica wrote 2 and 3
        assert await everything(watch) == [event(1), event(2), event(3), event(4), Settled("COMPLETED", 4)]


async def test_what_was_heard_and_read_is_given_once() -> None:
    log = FakeLog(1, 2, settled=True)
    hub = Hub(log)
    with hub.join(*KEY, deltas=False) as watch:
        batches = watch.batches(after=0, until_settled=True)
        assert await anext(batches) == [event(1), event(2)]
        hub.publish(replace(DONE, last_sequence=2), [event(2)])
        assert await anext(batches) == [Settled("COMPLETED", 2)]


async def test_a_session_that_is_not_there_is_not_found() -> None:
    hub = Hub(FakeLog())
    with hub.join(*KEY, deltas=False) as watch, pytest.raises(NotFound):
        await everything(watch)


async def test_a_slow_watcher_is_cut_with_the_sequence_to_resume_from() -> None:
    hub = Hub(FakeLog(1))
    with hub.join(*KEY, deltas=False) as watch:
        batches = watch.batches(after=0, until_settled=False)
        assert await anext(batches) == [event(1)]
        for sequence in range(2, 5):
            hub.publish(replace(BUSY, last_sequence=sequence), [event(sequence, "x" * 400_000)])
        with pytest.raises(SlowWatcher) as cut:
            await anext(batches)
    assert cut.value.resume_after == 1


@pytest.fixture
def patient_hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    """One that lets things gather for an hour, so that no time passes in a test."""
    monkeypatch.setattr("orchestrator.streaming.hub.PACE_SECONDS_PER_SESSION", 3600)
    monkeypatch.setattr("orchestrator.streaming.hub.LONGEST_PACE_SECONDS", 3600)
    return Hub(FakeLog())


async def test_on_a_busy_replica_what_comes_soon_after_travels_together(patient_hub: Hub) -> None:
    with patient_hub.join(*KEY, deltas=False) as watch:
        patient_hub.publish(replace(BUSY, last_sequence=1), [event(1)])
        batches = watch.batches(after=0, until_settled=False)
        assert await anext(batches) == [event(1)]
        following = asyncio.ensure_future(anext(batches))
        for sequence in (2, 3):
            patient_hub.publish(replace(BUSY, last_sequence=sequence), [event(sequence)])
            await asyncio.sleep(0)
        assert not following.done()
        patient_hub.publish(replace(DONE, last_sequence=4), [event(4)])
        assert await following == [event(2), event(3), event(4)]


async def test_what_gathers_never_makes_a_watcher_slow(patient_hub: Hub) -> None:
    with patient_hub.join(*KEY, deltas=False) as watch:
        patient_hub.publish(replace(BUSY, last_sequence=1), [event(1)])
        batches = watch.batches(after=0, until_settled=False)
        assert await anext(batches) == [event(1)]
        following = asyncio.ensure_future(anext(batches))
        patient_hub.publish(replace(BUSY, last_sequence=2), [event(2, "x" * 400_000)])
        assert await following == [event(2, "x" * 400_000)]


async def test_a_stopping_replica_says_where_to_resume() -> None:
    hub = Hub(FakeLog(1, 2))
    with hub.join(*KEY, deltas=False) as watch:
        batches = watch.batches(after=0, until_settled=False)
        assert await anext(batches) == [event(1), event(2)]
        hub.close()
        with pytest.raises(StreamEnding) as ending:
            await anext(batches)
    assert ending.value.resume_after == 2


async def test_nothing_is_kept_of_a_watcher_that_left() -> None:
    hub = Hub(FakeLog())
    with hub.join(*KEY, deltas=False):
        assert hub.watched(*KEY)
    assert not hub.watched(*KEY)
