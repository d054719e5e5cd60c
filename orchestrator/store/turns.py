"""Turns: whoever writes a session, or under a request id, does so alone in this process, first come first served."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import asynccontextmanager


class Turns:
    """At most one holder per key; the others wait in line."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def take(self, keys: Iterable[Hashable]) -> None:
        """Hold all of `keys`, one after the other: two callers must name what they share in the same order."""
        taken: list[Hashable] = []
        try:
            for key in keys:
                if (line := self._lines.get(key)) is not None:
                    await self._stand_in(line, key)
                else:
                    self._lines[key] = deque()
                    self._quiet.clear()
                taken.append(key)
        except BaseException:
            self.give_back(taken)
            raise

    def are_free(self, keys: Iterable[Hashable]) -> bool:
        """Whether `take` would not have to wait."""
        return self._lines.keys().isdisjoint(keys)

    def give_back(self, keys: Iterable[Hashable]) -> None:
        """Let the next in line of each key have its turn."""
        for key in keys:
            line = self._lines[key]
            while line:
                turn = line.popleft()
                if not turn.done():  # otherwise it went away while waiting
                    turn.set_result(None)
                    break
            else:
                del self._lines[key]
        if not self._lines:
            self._quiet.set()

    async def quiet(self) -> None:
        """Until nobody holds anything."""
        await self._quiet.wait()

    @asynccontextmanager
    async def holding(self, *keys: Hashable) -> AsyncIterator[None]:
        """Hold `keys` for the length of a block."""
        await self.take(keys)
        try:
            yield
        finally:
            self.give_back(keys)

    async def _stand_in(self, line: deque[asyncio.Future[None]], key: Hashable) -> None:
        turn = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was given the turn and cancelled at once
                self.give_back([key])
            raise
