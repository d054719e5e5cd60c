"""The hub: what this replica writes goes to its watchers at once; what others wrote is found by looking.

What a watcher makes of it is in watch.py.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Key, Session
from orchestrator.streaming.feed import Box, Delta, Position
from orchestrator.streaming.watch import Log, Watch

_log = structlog.get_logger("orchestrator.streaming")

LOOK_SECONDS = 1.0
RARE_LOOK_SECONDS = 5.0  # while other replicas are heard, only what a lost word hid is still to be found
# The more are watched, the more travels in one message: about 700 messages a second, a twentieth of the loop.
PACE_SECONDS_PER_SESSION = 0.0015
LONGEST_PACE_SECONDS = 0.1  # to people that is at once; where a session comes to rest is never held back


class Hub:
    """One a replica. `publish` and `publish_delta` never wait; a slow watcher is cut, not waited for."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._boxes: dict[Key, set[Box]] = defaultdict(set)
        self.ended = asyncio.Event()  # the process is stopping: every watch ends at its next wait
        self._hearing = False
        self._look = asyncio.Event()
        self.on_watched: Callable[[Key], None] = lambda _: None  # a session's deltas are wanted here from now on

    def publish(self, session: Session, events: Sequence[LoggedEvent]) -> None:
        boxes = self._boxes.get((session.tenant, session.id))
        if not boxes:
            return
        position = Position(session.last_sequence, session.settled, session.state)
        for box in boxes:
            for event in events:
                box.put(event)
            box.move_to(position)

    def publish_delta(self, tenant: str, session_id: str, delta: Delta) -> None:
        for box in self._boxes.get((tenant, session_id), ()):
            if box.wants_deltas and not box.overflowed:
                box.put(delta)

    def hear(self, tenant: str, session_id: str, position: Position) -> None:
        """Another replica says how far the session has come."""
        for box in self._boxes.get((tenant, session_id), ()):
            box.move_to(position)

    def gone(self, tenant: str, session_id: str) -> None:
        """The session was deleted."""
        for box in self._boxes.get((tenant, session_id), ()):
            box.vanish()

    def set_hearing(self, hears: bool) -> None:
        """Whether other replicas are heard; what was said in between is looked up at once."""
        self._hearing = hears
        self._look.set()

    def wanting_deltas(self) -> list[Key]:
        """The sessions whose live deltas somebody here wants."""
        return [key for key, boxes in self._boxes.items() if any(box.wants_deltas for box in boxes)]

    def watched(self, tenant: str, session_id: str) -> bool:
        return (tenant, session_id) in self._boxes

    def close(self) -> None:
        """Ends every watch at its next wait: the process is stopping."""
        self.ended.set()
        for boxes in self._boxes.values():
            for box in boxes:
                box.move_to(box.position or Position(0, False, ""))

    @property
    def closing(self) -> bool:
        return self.ended.is_set()

    @contextmanager
    def join(self, tenant: str, session_id: str, *, deltas: bool) -> Iterator[Watch]:
        """Hear of what is written in a session from now on, and of what came before it from the log."""
        key = (tenant, session_id)
        box = Box(wants_deltas=deltas)
        self._boxes[key].add(box)
        if deltas:
            self.on_watched(key)
        try:
            yield Watch(key, box, self._log, self.ended, self._pace)
        finally:
            box.close()
            self._boxes[key].discard(box)
            if not self._boxes[key]:
                del self._boxes[key]

    def _pace(self) -> float:
        return min(LONGEST_PACE_SECONDS, PACE_SECONDS_PER_SESSION * len(self._boxes))

    async def look_around(self) -> None:
        """For as long as it runs: finds what other replicas wrote in the sessions watched here."""
        while not self.closing:
            with suppress(TimeoutError):
                async with asyncio.timeout(RARE_LOOK_SECONDS if self._hearing else LOOK_SECONDS):
                    await self._look.wait()
            self._look.clear()
            keys = list(self._boxes)
            if not keys:
                continue
            try:
                positions = await self._log.positions(keys)
            except StorageUnavailable as error:
                _log.warning("watched sessions could not be looked up", error=str(error))
                continue
            for key, position in positions.items():
                self.hear(*key, position)
            for key in set(keys) - positions.keys():
                self.gone(*key)
