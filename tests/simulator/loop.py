"""An event loop whose time is virtual and which knows processes: nodes that run, stand still, or are dead.

Within a node callbacks run in the order they were scheduled, as asyncio promises; which node runs next, and how far,
is drawn from the seed. Time moves only when no node has anything to do. What a node does is not known here.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from random import Random
from typing import Any, TypeVar

from orchestrator.domain.errors import DomainError

T = TypeVar("T")

BEGINNING = 1_000.0
SPINS = 500_000  # callbacks without any time passing: something goes round in circles


class Life(Enum):
    RUNS = "runs"
    STANDS = "stands"  # stopped by a signal: it will go on as if nothing had been
    DEAD = "dead"  # killed: nothing of it runs again until it is buried


class Node:
    """A process of the world, or its outside. Everything started by `spawn` belongs to it."""

    def __init__(self, loop: "SimLoop", name: str) -> None:
        self.name = name
        self.life = Life.RUNS
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.skew = 0.0  # seconds that its wall clock is ahead
        self._loop = loop
        self._context = copy_context()
        self._context.run(NODE.set, self)

    @property
    def runs(self) -> bool:
        return self.life is Life.RUNS

    def context(self) -> Context:
        """A context in which everything that is scheduled is this node's."""
        return self._context.copy()

    def spawn(self, work: Coroutine[Any, Any, T], name: str = "") -> "asyncio.Task[T]":
        task = self._loop.create_task(work, name=name or None, context=self.context())
        self.tasks.add(task)
        return task

    def later(self, seconds: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback, *args, context=self._context)


NODE: ContextVar[Node] = ContextVar("node")


class Stuck(Exception):
    """Nobody will ever wake anybody again, or somebody spins."""


class SimLoop(asyncio.BaseEventLoop):
    """One seed's loop."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.nodes: list[Node] = []
        self._now = BEGINNING
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_number = 0
        self._spins = 0
        self.outside = self.node("outside")

    def time(self) -> float:
        return self._now

    def node(self, name: str) -> Node:
        node = Node(self, name)
        self.nodes.append(node)
        return node

    def current(self) -> Node:
        """The node whose code runs now."""
        return NODE.get(self.outside)

    # What asyncio asks of a loop

    def call_at(  # type: ignore[override]  # any callback will do
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, timer))
        return timer

    def _call_soon(self, callback: Callable[..., object], args: Any, context: Context | None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._put(handle)
        return handle

    def run_in_executor(  # type: ignore[override]  # what BaseEventLoop says is wider than anybody needs
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """At once: how long a thread takes is the machine's affair, and in no seed."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except DomainError as error:
            future.set_exception(error)
        return future

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are passed over when they are due."""

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _put(self, handle: asyncio.Handle) -> None:
        node: Node = handle._context.get(NODE, self.outside)  # type: ignore[attr-defined]  # what asyncio keeps there
        node.ready.append(handle)

    def _run_once(self) -> None:
        able = [node for node in self.nodes if node.ready and node.life is Life.RUNS]
        if not able:
            self._pass_time()
            return
        node = able[0] if len(able) == 1 else self.random.choice(able)
        self._spins += len(node.ready)
        if self._spins > SPINS:
            raise Stuck(f"{node.name} does not let time pass: {node.ready[0]}")
        count = len(node.ready)
        for _ in range(count if len(able) == 1 else self.random.randint(1, count)):
            if node.life is not Life.RUNS or self._stopping:  # type: ignore[attr-defined]  # BaseEventLoop's
                break
            handle = node.ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _pass_time(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck("nothing is due and nobody is awaited")
        self._spins = 0
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                self._put(timer)
