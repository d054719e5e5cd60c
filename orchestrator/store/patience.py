"""Many waits that may all take equally long, bounded by one timer: the wait that began first is over first.

A timeout of its own for each costs several microseconds and stays in the event loop's heap for as long as it would
have taken, thousands of them where waits are short and many. What is waited for is not known here.
"""

import asyncio
import weakref
from collections import deque
from typing import Any


class Patience:
    """Ends with TimeoutError what is not done `seconds` after it was given to `bound`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # Weakly, so that an answer is not kept behind a wait that goes on: whoever waits for it holds it.
        self._waits: deque[tuple[float, weakref.ref[asyncio.Future[Any]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def bound(self, waited: asyncio.Future[Any]) -> None:
        self._first()
        loop = asyncio.get_running_loop()
        self._waits.append((loop.time() + self._seconds, weakref.ref(waited)))
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def close(self) -> None:
        """End nothing any more."""
        self._waits.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while (waited := self._first()) is not None and self._waits[0][0] <= loop.time():
            waited.set_exception(TimeoutError())
        self._timer = loop.call_at(self._waits[0][0], self._look) if self._waits else None

    def _first(self) -> asyncio.Future[Any] | None:
        """The wait that began first of those that go on."""
        while self._waits:
            waited = self._waits[0][1]()
            if waited is not None and not waited.done():
                return waited
            self._waits.popleft()
        return None
