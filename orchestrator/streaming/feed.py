"""What a watcher is given, and the bounded box it waits in. No I/O here."""

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from sys import getsizeof

from orchestrator.domain.events import LoggedEvent

MAX_BOX_BYTES = 1024 * 1024
HURRY_BYTES = MAX_BOX_BYTES // 4
_ENVELOPE_BYTES = 256


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a model's reply while it streams: not durable, superseded by the step's outcome."""

    run_id: str
    subtask_id: str
    attempt_id: str
    step_id: str
    dispatch_number: int
    kind: str  # TEXT, REASONING or TOOL_ARGUMENTS
    text: str
    tool: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while; the stream is alive, and has shown everything up to `last_sequence`."""

    last_sequence: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing moves until somebody acts: the session waits or is at rest. Ends a stream with until=SETTLED."""

    reason: str
    last_sequence: int


FeedItem = LoggedEvent | Delta | Heartbeat | Settled


@dataclass(frozen=True, slots=True)
class Position:
    """How far a session's log has come, and whether anything moves."""

    last_sequence: int
    settled: bool
    state: str


class SlowWatcher(Exception):
    """The watcher read too slowly and is cut; it may resume after `resume_after` (None: begin again)."""

    def __init__(self, resume_after: int | None):
        super().__init__(f"too slow: {_how_to_go_on(resume_after)}")
        self.resume_after = resume_after


class StreamEnding(Exception):
    """The replica is stopping; the watcher may resume after `resume_after` (None: begin again), here or elsewhere."""

    def __init__(self, resume_after: int | None):
        super().__init__(f"the stream ends here: {_how_to_go_on(resume_after)}")
        self.resume_after = resume_after


def _how_to_go_on(resume_after: int | None) -> str:
    return "call again" if resume_after is None else f"resume after sequence {resume_after}"


class Box:
    """What waits for one watcher, at most MAX_BOX_BYTES of it; overflow is remembered, not stored."""

    __slots__ = (
        "_bytes",
        "_hurry",
        "_items",
        "_quiet",
        "_timer",
        "_waiting_since",
        "_wake",
        "overflowed",
        "position",
        "vanished",
        "wants_deltas",
    )

    def __init__(self, *, wants_deltas: bool) -> None:
        self._items: deque[LoggedEvent | Delta] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()  # nothing is gained by letting more gather
        self._quiet = False
        self._timer: asyncio.TimerHandle | None = None  # one for all waits: most are far shorter than it
        self._waiting_since: float | None = None
        self.wants_deltas = wants_deltas
        self.overflowed = False
        self.vanished = False
        self.position: Position | None = None  # the newest this replica knows of

    def put(self, item: LoggedEvent | Delta) -> None:
        size = _ENVELOPE_BYTES + getsizeof(item.text if isinstance(item, Delta) else item.payload_json)
        if self.overflowed or self._bytes + size > MAX_BOX_BYTES:
            self.overflowed = True
            self._items.clear()
        else:
            self._items.append(item)
            self._bytes += size
        if self.overflowed or self._bytes > HURRY_BYTES:
            self._hurry.set()
        self._wake.set()

    def vanish(self) -> None:
        """What it is about is there no longer."""
        self.vanished = True
        self._hurry.set()
        self._wake.set()

    def move_to(self, position: Position) -> None:
        if self.position is None or position.last_sequence >= self.position.last_sequence:
            self.position = position
            if position.settled:
                self._hurry.set()
            self._wake.set()

    @property
    def is_empty(self) -> bool:
        return not self._items

    def take(self) -> list[LoggedEvent | Delta]:
        items = list(self._items)
        self._items.clear()
        self._bytes = 0
        self._wake.clear()
        self._hurry.clear()
        return items

    async def gather(self, seconds: float) -> None:
        """Let things come together for so long; shorter if nothing more will come by itself, or much has come."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()

    async def wait(self, seconds: float) -> bool:
        """Whether something came before the time was up."""
        loop = asyncio.get_running_loop()
        self._quiet, self._waiting_since = False, loop.time()
        if self._timer is None:
            self._timer = loop.call_later(seconds, self._look, seconds)
        try:
            await self._wake.wait()
        finally:
            self._waiting_since = None
        return not self._quiet

    def close(self) -> None:
        """The watcher has left: keep nothing for it."""
        self._items.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, seconds: float) -> None:
        self._timer = None
        if self._waiting_since is None:
            return  # the next wait sets the timer again, if there is one
        loop = asyncio.get_running_loop()
        until = self._waiting_since + seconds
        if until <= loop.time():
            self._quiet = True
            self._wake.set()
        else:
            self._timer = loop.call_at(until, self._look, seconds)
