"""A child process that is kept alive: started, waited for until healthy, started again when it dies, stopped.

Which processes there are, and in which order they start and stop, is cli/stack.py's business.
"""

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cli.spawn import last_lines, spawn
from cli.trouble import CannotStart

Say = Callable[[str], None]

HEALTHY_SECONDS = 60.0  # a busy machine may take long to import what a service needs
GRACE_SECONDS = 15.0
POLL_SECONDS = 0.05
STEADY_SECONDS = 30.0  # a child that lived so long is not blamed for an earlier death
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 15.0
LOG_BYTES = 16 * 2**20


class Kept(Protocol):
    """What can be kept alive: a child process, or the embedded PostgreSQL."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def running(self) -> bool: ...
    def start(self) -> None:
        """Start it, from the main thread; CannotStart says why not."""

    async def wait_until_healthy(self) -> None:
        """Return when it serves; CannotStart when it ended or took too long."""

    async def wait(self) -> None:
        """Return when it has ended."""

    def cause_of_death(self) -> str:
        """How it ended, to go after its name."""

    async def stop(self) -> None:
        """Ask it to stop, wait, and in the end insist."""


@dataclass(frozen=True)
class Program:
    """A service as an operating system sees it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    healthy: Callable[[], Awaitable[bool]]


class Child:
    """One running `Program`; its output goes to its log."""

    def __init__(self, program: Program) -> None:
        self.name = program.name
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._logged_before = 0

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; the log of earlier lives is kept, up to a size."""
        log = self._program.log
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(log.suffix + ".1"))
        self._logged_before = log.stat().st_size if log.exists() else 0
        self._process = spawn(self._program.command, log=log, environment=self._program.environment)

    async def wait_until_healthy(self) -> None:
        """Ask until it says that it serves; a child that ends first is the reason not to go on."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        while True:
            if not self.running:
                raise CannotStart(f"{self.name} could not start: it {self.cause_of_death()}{self._last_words()}")
            if await self._program.healthy():
                return
            if time.monotonic() > deadline:
                late = f"{self.name} was not healthy within {HEALTHY_SECONDS:.0f} s"
                raise CannotStart(f"{late}{self._last_words()}")
            await asyncio.sleep(POLL_SECONDS)

    async def wait(self) -> None:
        """Return when it has ended."""
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    def cause_of_death(self) -> str:
        """How it ended, to go after its name."""
        code = self._process.poll() if self._process else None
        if code is None:
            return "was not started"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when it has not gone within the grace; cancelled, it insists at once."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self.wait()
        except TimeoutError:
            pass
        finally:
            self._process.kill()  # does nothing to one that has gone
            self._process.wait()
            self._process = None

    def _last_words(self) -> str:
        lines = last_lines(self._program.log, since=self._logged_before)
        return f"\nThe end of {self._program.log}:\n{lines}" if lines else f"; it wrote nothing to {self._program.log}"


async def keep_alive(kept: Kept, say: Say) -> None:
    """Start it again whenever it dies, after pauses that grow while it keeps dying; runs until cancelled."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        since = time.monotonic()
        await kept.wait()
        if time.monotonic() - since > STEADY_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        say(f"{kept.name} {kept.cause_of_death()}; starting it again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        try:
            kept.start()
            await kept.wait_until_healthy()
        except CannotStart as problem:
            say(str(problem))
        else:
            say(f"{kept.name} is back (pid {kept.pid})")
