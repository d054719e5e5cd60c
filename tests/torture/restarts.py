"""PostgreSQL stopped and started again under a load of commands: what was acknowledged is there, once.

Commands are sent with request ids. A command whose answer was lost is repeated until it is answered, or, every third,
never: then its request row says whether it was carried out, and the rows must agree with it.
Usage: python -m tests.torture.restarts [times]
"""

import asyncio
import itertools
import os
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import asyncpg
import grpc

from cli.postgres import EmbeddedPostgres
from rpc.problem import Problem
from tests.e2e.services import Services, answered, until
from tests.integration.orchestrator.client import Client
from tests.postgres import migrate

T = TypeVar("T")

WORKERS = 8
MESSAGES_A_SESSION = 3
COMMANDS_BETWEEN_RESTARTS = 40
# PostgreSQL: immediate, a crash, fast. A short absence is bridged; after a long one callers have been told.
STOPS = tuple(zip((signal.SIGQUIT, signal.SIGKILL, signal.SIGINT) * 2, (5.0, 0.0, 0.0, 0.0, 0.0, 0.0), strict=True))
SETTLE_SECONDS = 120.0


@dataclass
class Command:
    """A message that was sent under a request id; `message_id` as it was acknowledged, if it was."""

    text: str
    request_id: str
    message_id: str = ""


@dataclass
class Toll:
    """What came of it. All but the first four should be nothing."""

    restarts: int = 0
    acknowledged: int = 0
    unknown: int = 0  # commands whose first answer was lost
    recovery_seconds: list[float] = field(default_factory=list)  # from the server's start to the next acknowledgement
    lost: int = 0  # acknowledged, and not there
    doubled: int = 0  # there twice, or again under another id
    unsettled: int = 0  # there without a request row, or the other way round
    stuck_runs: int = 0

    @property
    def violations(self) -> int:
        return self.lost + self.doubled + self.unsettled + self.stuck_runs


class Load:
    """Clients that send commands as fast as they are answered."""

    def __init__(self, client: Client) -> None:
        self.commands: list[Command] = []
        self.unknown = 0
        self._client = client
        self._numbers = itertools.count(1)
        self._stopped = False
        self._acknowledged = 0
        self._news = asyncio.Event()

    async def run(self) -> None:
        await asyncio.gather(*(self._work() for _ in range(WORKERS)))

    def stop(self) -> None:
        self._stopped = True

    async def more(self, number: int) -> None:
        """Wait until so many more commands were acknowledged."""
        wanted = self._acknowledged + number
        async with asyncio.timeout(SETTLE_SECONDS):
            while self._acknowledged < wanted:
                self._news.clear()
                await self._news.wait()

    async def _work(self) -> None:
        while not self._stopped:
            request_id = str(uuid.uuid4())
            session = await answered(lambda: self._client.new_session(request_id=request_id))  # noqa: B023  # awaited here
            for _ in range(MESSAGES_A_SESSION):
                await self._send(session.id)

    async def _send(self, session_id: str) -> None:
        number = next(self._numbers)
        command = Command(f"Message {number}", str(uuid.uuid4()))
        self.commands.append(command)

        async def send() -> str:
            sent = await self._client.send(session_id, command.text, request_id=command.request_id)
            return sent.message.id

        try:
            command.message_id = await send()
        except Problem as problem:
            if problem.code is not grpc.StatusCode.UNAVAILABLE:
                raise
            self.unknown += 1
            if number % 3 == 0:
                return
            command.message_id = await answered(send)
        self._acknowledged += 1
        self._news.set()


async def restart_often(times: int, directory: Path, say: Callable[[str], None]) -> Toll:
    """Restart the server `times` times under load, then count what is there. Needs no PostgreSQL but its own."""
    server = EmbeddedPostgres(directory / "postgres")
    server.start()
    try:
        await migrate(server.url)
        async with Services.over(server.url, directory) as services:
            await services.start()
            async with services.client() as client:
                toll, load = Toll(), Load(client)
                working = asyncio.create_task(load.run())
                for stop, away_seconds in itertools.islice(itertools.cycle(STOPS), times):
                    await _unless_over(working, load.more(COMMANDS_BETWEEN_RESTARTS))
                    began = await _restart(server, stop, away_seconds)
                    await _unless_over(working, load.more(1))
                    toll.recovery_seconds.append(time.monotonic() - began)
                    toll.restarts += 1
                    say(f"restart {toll.restarts} of {times}: {len(load.commands)} commands, {load.unknown} unknown")
                load.stop()
                await working
                await _count(server.url, load, toll)
                return toll
    finally:
        server.stop()


async def _unless_over(working: asyncio.Task[None], wait: Awaitable[T]) -> None:
    """Wait, unless the load has ended before its time: then with its error."""
    waiting = asyncio.ensure_future(wait)
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        waiting.cancel()
        await working
    await waiting


async def _restart(server: EmbeddedPostgres, stop: signal.Signals, away_seconds: float) -> float:
    """The time at which it ran again."""
    os.kill(server.pid, stop)
    await until(lambda: not server.running)
    await asyncio.sleep(away_seconds)
    server.start()
    return time.monotonic()


async def _count(url: str, load: Load, toll: Toll) -> None:
    """What the rows say, once nothing moves."""
    database = await asyncpg.connect(url)
    try:
        open_runs = "SELECT count(*) FROM run WHERE state NOT IN ('COMPLETED', 'CANCELLED', 'FAILED')"
        try:
            await until(lambda: _is_zero(database, open_runs), SETTLE_SECONDS)
        except TimeoutError:
            toll.stuck_runs = await database.fetchval(open_runs)
        rows = await database.fetch("SELECT id, body::jsonb ->> 'text' AS text FROM message")
        answered_requests = {row["request_id"] for row in await database.fetch("SELECT request_id FROM request")}
    finally:
        await database.close()
    ids = {row["text"]: row["id"] for row in rows}
    times = Counter(row["text"] for row in rows)
    toll.unknown = load.unknown
    for command in load.commands:
        toll.acknowledged += bool(command.message_id)
        toll.lost += bool(command.message_id) and command.text not in ids
        toll.doubled += times[command.text] > 1 or command.message_id not in ("", ids.get(command.text))
        toll.unsettled += (command.text in ids) != (command.request_id in answered_requests)


async def _is_zero(database: asyncpg.Connection, query: str) -> bool:
    return bool(await database.fetchval(query) == 0)


def report(toll: Toll) -> str:
    """One line for people."""
    seconds = sorted(toll.recovery_seconds)
    half, most = (seconds[len(seconds) // 2], seconds[-1]) if seconds else (0.0, 0.0)
    return (
        f"{toll.restarts} restarts, {toll.acknowledged} commands acknowledged, {toll.unknown} with a lost answer: "
        f"{toll.lost} lost, {toll.doubled} doubled, {toll.unsettled} unsettled, {toll.stuck_runs} runs stuck; "
        f"answering again after {half:.2f} s (median), {most:.2f} s (most)"
    )


async def main(times: int) -> int:
    with tempfile.TemporaryDirectory(prefix="assent-restarts-") as directory:
        toll = await restart_often(times, Path(directory), lambda line: print(line, flush=True))
    print(report(toll))
    return 1 if toll.violations or toll.restarts < times else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)))
