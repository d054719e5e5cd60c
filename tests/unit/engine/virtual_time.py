"""Time that jumps: a loop whose clock moves straight to the next timer, and that notices when nothing ever will happen.

A test that would wait for ever fails at once instead.
"""

import asyncio
import functools
import selectors
from collections.abc import Awaitable, Callable
from typing import Any

BEGINNING = 1_000_000.0


class Stuck(AssertionError):
    """Nobody will ever wake anybody again."""


class _Jumps(selectors.DefaultSelector):
    """Waits for no one: instead of sleeping it moves the loop's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGINNING

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("nothing is due and nobody is awaited")
        self.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


def in_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test function to be run on a loop of its own, in no time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def whole() -> None:
            await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(whole())

    return run


async def settle(turns: int = 50) -> None:
    """Let everything happen that can happen now, without time passing."""
    for _ in range(turns):
        await asyncio.sleep(0)
