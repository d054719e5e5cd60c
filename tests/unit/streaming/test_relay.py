"""Replicas tell one another what happens, at once after a silence, together when much does, and nothing when alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Approval, Session
from orchestrator.streaming.feed import Delta, FeedItem, Position
from orchestrator.streaming.hub import Hub
from orchestrator.streaming.inbox import Filter, Inboxes
from orchestrator.streaming.relay import FORGET_SECONDS, GAP_SECONDS, Relay
from orchestrator.streaming.shown import Tally
from tests.unit.engine.virtual_time import in_virtual_time, settle

KEY = ("default", "session")
BUSY = Session(*KEY, state="EXECUTION", settled=False, owner="me")
STARTED, FINISHED = '{"step_started":{}}', '{"step_finished":{"step_id":"step","dispatch_number":1}}'


def event(sequence: int, payload: str = "{}") -> LoggedEvent:
    return LoggedEvent(*KEY, sequence, 0, "", payload, "", "")


def piece(text: str) -> Delta:
    return Delta("run", "", "attempt", "step", 1, "TEXT", text)


class Wire:
    """Carries every text to everybody."""

    def __init__(self) -> None:
        self.sent: list[Sequence[str]] = []
        self.ears: list[Callable[[str], None]] = []
        self.is_cut = False

    async def send(self, texts: Sequence[str]) -> None:
        if self.is_cut:
            raise StorageUnavailable("cut")
        self.sent.append(texts)
        for text in texts:
            for hear in self.ears:
                hear(text)

    async def listen(self, hear: Callable[[str], None], hearing: Callable[[bool], None]) -> None:
        self.ears.append(hear)
        hearing(True)
        await asyncio.Event().wait()


class SharedLog:
    """What all replicas can read."""

    def __init__(self) -> None:
        self.events: list[LoggedEvent] = []

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        return self.events[after : after + limit]

    async def positions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        return dict.fromkeys(keys, Position(len(self.events), False, "EXECUTION"))


class NothingPending:
    async def page(self, wanted: Filter, token: str) -> tuple[Sequence[Approval], str]:
        return (), ""

    async def tally(self, wanted: Filter) -> Tally:
        return Tally(0, 0)


class Node:
    """A replica's hub and relay; it notes what its engine is told."""

    def __init__(self, name: str, wire: Wire, log: SharedLog) -> None:
        self.hub = Hub(log)
        self.relay = Relay(name, wire, self.hub, Inboxes(log, NothingPending(), self.hub.ended), self)
        self.heard: list[tuple[str, int]] = []
        self.looks = 0
        self._log = log

    def hear(self, tenant: str, session_id: str, last_sequence: int) -> None:
        self.heard.append((session_id, last_sequence))

    def look(self) -> None:
        self.looks += 1

    def write(self, *payloads: str, **session: object) -> None:
        first = len(self._log.events) + 1
        new = [event(first + n, payload) for n, payload in enumerate(payloads)]
        self._log.events += new
        self.relay.written(replace(BUSY, last_sequence=len(self._log.events), **session), new)  # type: ignore[arg-type]


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[tuple[Wire, list[Node]]]:
    wire, log = Wire(), SharedLog()
    made = [Node(f"replica {n}", wire, log) for n in range(count)]
    running = [asyncio.create_task(node.relay.run()) for node in made]
    await asyncio.sleep(5 * GAP_SECONDS)  # everybody has said that it is there
    wire.sent.clear()
    yield wire, made
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


@in_virtual_time
async def test_a_replica_that_is_alone_says_nothing() -> None:
    async with nodes(1) as (wire, [only]):
        with only.hub.join(*KEY, deltas=True):
            only.write(STARTED)
            only.relay.said(*KEY, piece("Hello"))
            await asyncio.sleep(10 * FORGET_SECONDS)
        assert wire.sent == []


@in_virtual_time
async def test_what_is_written_is_told_at_once_after_a_silence_and_together_in_a_rush() -> None:
    async with nodes(2) as (wire, [first, second]):
        first.write(STARTED)
        await settle()
        assert second.heard == [("session", 1)]
        for _ in range(50):
            first.write(STARTED)
            await settle()
        await asyncio.sleep(GAP_SECONDS)
        assert second.heard == [("session", 1), ("session", 51)]
        assert len(wire.sent) == 2
        assert first.heard == []


@in_virtual_time
async def test_who_wants_the_engine_is_looked_for_and_who_has_an_owner_is_not() -> None:
    async with nodes(2) as (_, [first, second]):
        first.write(STARTED)
        await asyncio.sleep(GAP_SECONDS)
        assert second.looks == 0
        first.write(STARTED, owner="", runnable=True)
        await asyncio.sleep(GAP_SECONDS)
        assert second.looks == 1
        await first.relay.gave_up()
        assert second.looks == 2


async def watching(node: Node, into: list[FeedItem]) -> None:
    with node.hub.join(*KEY, deltas=True) as watch:
        async for batch in watch.batches(after=0, until_settled=False):
            into += batch


@in_virtual_time
async def test_a_watcher_elsewhere_sees_the_words_between_the_start_and_the_end_of_their_step() -> None:
    async with nodes(2) as (_, [owner, other]):
        seen: list[FeedItem] = []
        watch = asyncio.create_task(watching(other, seen))
        await asyncio.sleep(3 * GAP_SECONDS)
        owner.write(STARTED)
        for text in ("Hel", "lo"):
            owner.relay.said(*KEY, piece(text))
        await asyncio.sleep(3 * GAP_SECONDS)
        owner.relay.said(*KEY, piece(", all"))
        owner.write(FINISHED, "{}")
        await asyncio.sleep(3 * GAP_SECONDS)
        assert [item.text if isinstance(item, Delta) else getattr(item, "sequence", 0) for item in seen] == [
            *(1, "Hello"),
            *(", all", 2, 3),
        ]
        watch.cancel()


@in_virtual_time
async def test_words_that_nobody_wants_elsewhere_are_not_sent_and_a_watcher_is_forgotten_when_it_left() -> None:
    async with nodes(2) as (wire, [owner, other]):
        owner.relay.said(*KEY, piece("Hello"))
        await asyncio.sleep(GAP_SECONDS)
        assert wire.sent == []
        with other.hub.join(*KEY, deltas=True):
            await asyncio.sleep(2 * FORGET_SECONDS)  # for as long as it watches
            wire.sent.clear()
            owner.relay.said(*KEY, piece("Hello"))
            await asyncio.sleep(GAP_SECONDS)
            assert "Hello" in wire.sent[0][0]
        await asyncio.sleep(2 * FORGET_SECONDS)
        wire.sent.clear()
        owner.relay.said(*KEY, piece("Hello"))
        await asyncio.sleep(GAP_SECONDS)
        assert wire.sent == []


@in_virtual_time
async def test_who_comes_later_learns_who_is_there_and_what_they_watch() -> None:
    async with nodes(1) as (wire, [first]):
        with first.hub.join(*KEY, deltas=True):
            late = Node("late", wire, SharedLog())
            running = asyncio.create_task(late.relay.run())
            await asyncio.sleep(3 * GAP_SECONDS)
            wire.sent.clear()
            late.relay.said(*KEY, piece("Hello"))
            await asyncio.sleep(GAP_SECONDS)
            assert "Hello" in wire.sent[0][0]
            running.cancel()


@in_virtual_time
async def test_what_could_not_be_sent_is_sent_later() -> None:
    async with nodes(2) as (wire, [first, second]):
        wire.is_cut = True
        first.write(STARTED)
        await asyncio.sleep(1)
        wire.is_cut = False
        await asyncio.sleep(1)
        assert second.heard == [("session", 1)]
