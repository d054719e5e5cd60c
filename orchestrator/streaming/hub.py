"""The hub: what this replica writes goes to its watchers at once; what others wrote is found by looking.

A watcher misses nothing and sees nothing twice: it joins the live tail first, reads the log up to where the tail
begins, and reads the log again wherever the tail has a gap. No transaction is open while it waits.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import structlog

from orchestrator.domain.errors import NotFound, StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.streaming.feed import Box, Delta, FeedItem, Heartbeat, Position, Settled, SlowWatcher, StreamEnding

_log = structlog.get_logger("orchestrator.streaming")

Key = tuple[str, str]  # tenant, session id
PAGE = 500
HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 1.0


class Log(Protocol):
    """Reading the store, as the hub needs it."""

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        """Oldest first."""

    async def positions(self, keys: Sequence[Key]) -> dict[Key, Position]: ...


class Hub:
    """One a replica. `publish` and `publish_delta` never wait; a slow watcher is cut, not waited for."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._boxes: dict[Key, set[Box]] = defaultdict(set)
        self._observers: list[Callable[[Session, Sequence[LoggedEvent]], None]] = []
        self._closing = asyncio.Event()

    def publish(self, session: Session, events: Sequence[LoggedEvent]) -> None:
        for observer in self._observers:
            observer(session, events)
        boxes = self._boxes.get((session.tenant, session.id))
        if not boxes:
            return
        position = Position(session.last_sequence, session.settled, session.state)
        for box in boxes:
            for event in events:
                box.put(event)
            box.move_to(position)

    def observe(self, observer: Callable[[Session, Sequence[LoggedEvent]], None]) -> None:
        """Call it, without waiting, with everything this replica writes."""
        self._observers.append(observer)

    def publish_delta(self, tenant: str, session_id: str, delta: Delta) -> None:
        for box in self._boxes.get((tenant, session_id), ()):
            if box.wants_deltas and not box.overflowed:
                box.put(delta)

    def watched(self, tenant: str, session_id: str) -> bool:
        return (tenant, session_id) in self._boxes

    def close(self) -> None:
        """Ends every watch at its next wait: the process is stopping."""
        self._closing.set()
        for boxes in self._boxes.values():
            for box in boxes:
                box.move_to(box.position or Position(0, False, ""))

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    async def follow(
        self, tenant: str, session_id: str, *, after: int, until_settled: bool, deltas: bool
    ) -> AsyncIterator[list[FeedItem]]:
        """Batches of what happened after sequence `after`, durable events in order, each once.

        Raises NotFound, SlowWatcher and StreamEnding with the sequence to resume from, and StorageUnavailable.
        """
        key = (tenant, session_id)
        box = Box(wants_deltas=deltas)
        self._boxes[key].add(box)
        try:
            position = (await self._log.positions([key])).get(key)
            if position is None:
                raise NotFound("session", session_id)
            box.move_to(position)
            async for batch in self._batches(key, box, after, until_settled):
                yield batch
        finally:
            self._boxes[key].discard(box)
            if not self._boxes[key]:
                del self._boxes[key]

    async def _batches(self, key: Key, box: Box, cursor: int, until_settled: bool) -> AsyncIterator[list[FeedItem]]:
        while True:
            if box.overflowed:
                raise SlowWatcher(cursor)
            fresh, cursor = _following(box.take(), cursor)
            if fresh:
                yield fresh
                continue
            target = box.position
            if target is not None and cursor < target.last_sequence:
                async for page in self._read(key, cursor, target.last_sequence):
                    cursor = page[-1].sequence
                    yield list(page)
                continue
            if until_settled and target is not None and target.settled:
                yield [Settled(target.state, cursor)]
                return
            if self.closing:
                raise StreamEnding(cursor)
            if not await box.wait(HEARTBEAT_SECONDS):
                yield [Heartbeat(cursor)]

    async def _read(self, key: Key, after: int, to: int) -> AsyncIterator[list[LoggedEvent]]:
        while after < to:
            page = await self._log.events_after(*key, after, PAGE)
            if not page:
                raise NotFound("session", key[1])
            yield page
            after = page[-1].sequence

    async def look_around(self) -> None:
        """For as long as it runs: finds what other replicas wrote in the sessions watched here."""
        while not self.closing:
            await asyncio.sleep(LOOK_SECONDS)
            keys = list(self._boxes)
            if not keys:
                continue
            try:
                positions = await self._log.positions(keys)
            except StorageUnavailable as error:
                _log.warning("watched sessions could not be looked up", error=str(error))
                continue
            for key, position in positions.items():
                for box in self._boxes.get(key, ()):
                    box.move_to(position)


def _following(items: list[LoggedEvent | Delta], cursor: int) -> tuple[list[FeedItem], int]:
    """What follows the cursor without a gap; after a gap durable events are left to be read from the log."""
    fresh: list[FeedItem] = []
    for item in items:
        if isinstance(item, Delta):
            fresh.append(item)
        elif item.sequence == cursor + 1:
            fresh.append(item)
            cursor = item.sequence
    return fresh, cursor
