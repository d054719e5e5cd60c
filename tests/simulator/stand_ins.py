"""What of the outside the real code would reach by itself, replaced for the length of one world: time, chance, ids,
the way to the database, to executors and to callers, and where logs go.
"""

import random as real_random
import sys
import time as real_time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any
from unittest import mock

import structlog

from executor import artifacts
from orchestrator import bootstrap, clock
from orchestrator.engine import link
from orchestrator.engine.executors import Executors
from tests.simulator.catalog import new_catalog
from tests.simulator.database import SimDatabases
from tests.simulator.loop import SimLoop
from tests.simulator.network import Network
from tests.simulator.postgres import Postgres
from tests.simulator.replicas import SimServer

EPOCH = 1_700_000_000 * 1_000_000  # what people's clocks say when a world begins, in microseconds

_OURS = ("orchestrator.", "executor.", "rpc.")


class Clock:
    """The world's clocks, as each node reads them, and its ids."""

    def __init__(self, loop: SimLoop, random: Random) -> None:
        self._loop, self._random = loop, random

    def true_micros(self) -> int:
        return EPOCH + round(self._loop.time() * 1_000_000)

    def now_micros(self) -> int:
        """As the node that asks has it."""
        return self.true_micros() + round(self._loop.current().skew * 1_000_000)

    def new_id(self) -> str:
        """A UUIDv7, as clock.new_id makes them."""
        noise = self._random.getrandbits(80)
        value = self.now_micros() // 1000 << 80 | 0x7 << 76 | (noise >> 68 & 0xFFF) << 64 | 0b10 << 62
        text = f"{value | noise & (1 << 62) - 1:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    # As the module `time`

    def time(self) -> float:
        return self.now_micros() / 1e6

    def time_ns(self) -> int:
        return self.now_micros() * 1000

    def monotonic(self) -> float:
        return self._loop.time()

    perf_counter = monotonic

    def monotonic_ns(self) -> int:
        return round(self._loop.time() * 1e9)


class _NoMetrics:
    """Nobody reads them here."""

    def __init__(self, address: str) -> None:
        return

    def close(self) -> None:
        return


@contextmanager
def standing_in(
    clock_of_world: Clock,
    random: Random,
    postgres: Postgres,
    network: Network,
    chunks: Callable[..., Any],
    log: Callable[[str, str], None],
) -> Iterator[None]:
    """For the length of the block.

    `chunks` are what executors say of files; `log` is given level and text of every line that the real code logs.
    """
    instead = {
        (bootstrap, "Database"): SimDatabases(postgres),
        (bootstrap, "Server"): SimServer,
        (bootstrap, "MetricsServer"): _NoMetrics,
        (bootstrap, "load_catalog"): lambda _directory: new_catalog(),
        (link, "connect"): network.channel,
        (artifacts, "chunks"): chunks,
    }
    for module in [m for name, m in sys.modules.items() if name.startswith(_OURS)]:
        for name, real, stand_in in (
            ("time", real_time, clock_of_world),
            ("random", real_random, random),
            ("now_micros", clock.now_micros, clock_of_world.now_micros),
            ("new_id", clock.new_id, clock_of_world.new_id),
        ):
            if getattr(module, name, None) is real:
                instead[module, name] = stand_in
    defaults = Executors.__init__.__kwdefaults__ or {}
    before = structlog.get_config()
    patches: list[Any] = [mock.patch.object(module, name, value) for (module, name), value in instead.items()]
    patches.append(mock.patch.dict(defaults, clock=clock_of_world.monotonic))
    for patch in patches:
        patch.start()
    structlog.configure(processors=[_to(log)], wrapper_class=structlog.make_filtering_bound_logger(20))
    try:
        yield
    finally:
        structlog.configure(**before)
        for patch in reversed(patches):
            patch.stop()


def _to(log: Callable[[str, str], None]) -> Any:
    def drop(_logger: object, method: str, event: dict[str, Any]) -> Any:
        words = event.pop("event", "")
        error = event.pop("exc_info", None)
        if error is True:
            error = sys.exc_info()[1]
        more = " ".join(f"{name}={value}" for name, value in event.items())
        log(method, f"{words} {more}" + (f" {error!r}" if error else ""))
        raise structlog.DropEvent

    return drop
