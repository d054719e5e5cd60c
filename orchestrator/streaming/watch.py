"""One watcher of one session: it misses nothing and sees nothing twice.

It joined the live tail first; it reads the log up to where the tail begins, and again wherever the tail has a gap.
No transaction is open while it waits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from orchestrator.domain.errors import InvalidInput, NotFound, Violation
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Key
from orchestrator.streaming.feed import Box, Delta, FeedItem, Heartbeat, Position, Settled, SlowWatcher, StreamEnding

PAGE = 500
HEARTBEAT_SECONDS = 15.0
WORTH_GATHERING_SECONDS = 0.005


class Log(Protocol):
    """Reading the store, as the hub needs it."""

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        """Oldest first."""

    async def positions(self, keys: Sequence[Key]) -> dict[Key, Position]: ...


class Watch:
    """What `Hub.join` gives. Joined before a command, it has the command's events without reading the log."""

    def __init__(self, key: Key, box: Box, log: Log, closing: asyncio.Event, pace: Callable[[], float]) -> None:
        self._key = key
        self._box = box
        self._log = log
        self._closing = closing
        self._pace = pace  # seconds between two messages to a watcher, while more is under way

    async def batches(self, *, after: int, until_settled: bool) -> AsyncIterator[list[FeedItem]]:
        """What happened after sequence `after`, durable events in order, each once.

        Raises NotFound, InvalidInput for a sequence the session has not reached, SlowWatcher and StreamEnding with the
        sequence to resume from, and StorageUnavailable.
        """
        cursor, box = after, self._box
        if box.position is None:
            position = await self._position()
            if after > position.last_sequence:
                words = f"is beyond the session's last event, {position.last_sequence}"
                raise InvalidInput([Violation("after_sequence", words)])
            box.move_to(position)
        while True:
            if box.vanished:
                raise NotFound("session", self._key[1])
            if box.overflowed:
                raise SlowWatcher(cursor)
            fresh, cursor = _following(box.take(), cursor)
            target = box.position
            if target is not None and until_settled and target.settled and cursor >= target.last_sequence:
                yield [*fresh, Settled(target.state, cursor)]
                return
            if target is not None and cursor < target.last_sequence:
                fresh, waiting = _but_last_pieces(fresh)
                if fresh:
                    yield fresh
                async for page in self._read(cursor, target.last_sequence):
                    cursor = page[-1].sequence
                    yield _woven(page, waiting, is_last=cursor >= target.last_sequence)
            elif fresh:
                yield fresh
                if (seconds := self._pace()) >= WORTH_GATHERING_SECONDS:
                    await box.gather(seconds)
            elif self._closing.is_set():
                raise StreamEnding(cursor)
            elif not await box.wait(HEARTBEAT_SECONDS):
                yield [Heartbeat(cursor)]

    async def _position(self) -> Position:
        position = (await self._log.positions([self._key])).get(self._key)
        if position is None:
            raise NotFound("session", self._key[1])
        return position

    async def _read(self, after: int, to: int) -> AsyncIterator[list[LoggedEvent]]:
        while after < to:
            # No further: whether it has settled is known as of `to`.
            page = await self._log.events_after(*self._key, after, min(PAGE, to - after))
            if not page:
                raise NotFound("session", self._key[1])
            yield page
            after = page[-1].sequence


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


def _but_last_pieces(items: list[FeedItem]) -> tuple[list[FeedItem], list[Delta]]:
    """Apart, what may belong to a step whose start is yet to be read: another replica's words come before its log."""
    end = len(items)
    while end and isinstance(items[end - 1], Delta):
        end -= 1
    return items[:end], [item for item in items[end:] if isinstance(item, Delta)]


def _woven(page: list[LoggedEvent], waiting: list[Delta], *, is_last: bool) -> list[FeedItem]:
    """Each piece before the end of its step, the rest after the last page; `waiting` keeps what is still to come."""
    woven: list[FeedItem] = []
    for event in page:
        if waiting and (ended := _step_ended(event)) is not None:
            woven += [piece for piece in waiting if (piece.step_id, piece.dispatch_number) == ended]
            waiting[:] = [piece for piece in waiting if (piece.step_id, piece.dispatch_number) != ended]
        woven.append(event)
    return [*woven, *waiting] if is_last else woven


class _Ended(msgspec.Struct):
    step_id: str
    dispatch_number: int


_STEP_FINISHED = '{"step_finished":'
_decode = msgspec.json.Decoder(dict[str, _Ended]).decode


def _step_ended(event: LoggedEvent) -> tuple[str, int] | None:
    """The step and the dispatch that this event ends, if it does."""
    if not event.payload_json.startswith(_STEP_FINISHED):
        return None
    (ended,) = _decode(event.payload_json).values()
    return ended.step_id, ended.dispatch_number
