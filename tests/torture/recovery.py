"""kill -9 of one of two orchestrators: how long until the other one has each of its sessions in hand."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from cli.health import grpc_serves
from cli.postgres import EmbeddedPostgres
from rpc.addresses import Address
from tests.e2e.scenes import settled
from tests.e2e.services import LEASE_SECONDS, LIMIT_SECONDS, Process, Services, answered, free_port
from tests.integration.orchestrator.client import Client, connected, state
from tests.postgres import migrate

SESSIONS = 20
LOOK_SECONDS = 0.01

_OWNED = "SELECT s.id, s.epoch FROM session s JOIN lease ON lease.owner = s.owner WHERE lease.address = $1"
_EPOCHS = "SELECT id, epoch FROM session WHERE id = ANY($1)"


class Replica:
    """One of the orchestrators, and a client of it."""

    def __init__(self, process: Process, client: Client) -> None:
        self.process, self.client = process, client
        self.address = f"127.0.0.1:{process.port}"


async def kill_often(kills: int, directory: Path, say: Callable[[str], None]) -> tuple[list[float], list[str]]:
    """Seconds from the kill to the takeover, for each session the dead one held; and what was wrong."""
    seconds: list[float] = []
    wrong: list[str] = []
    server = EmbeddedPostgres(directory / "postgres", fsync=False)
    server.start()
    try:
        await migrate(server.url)
        async with _two(server.url, directory) as pair:
            database = await asyncpg.connect(server.url)
            for number in range(kills):
                victim, heir = pair[number % 2], pair[(number + 1) % 2]
                taken, faults = await _kill(victim, heir, database)
                seconds += taken
                wrong += faults
                say(f"kill {number + 1} of {kills}: {len(taken)} sessions in other hands after {max(taken):.2f} s")
            await database.close()
    finally:
        server.stop()
    return seconds, wrong


@asynccontextmanager
async def _two(url: str, directory: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two orchestrators over one database and one executor."""
    async with Services.over(url, directory) as services:
        second = _another(services.orchestrator, directory / "second")
        try:
            await asyncio.gather(*(each.start() for each in (services.executor, services.orchestrator, second)))
            async with connected(services.orchestrator.port) as one, connected(second.port) as two:
                yield Replica(services.orchestrator, one), Replica(second, two)
        finally:
            if second.runs:
                await second.kill()


def _another(first: Process, directory: Path) -> Process:
    """The same service at an address of its own."""
    directory.mkdir()
    port = free_port()
    told = {**first.told, "ASSENT_GRPC_ADDR": f"127.0.0.1:{port}", "ASSENT_METRICS_ADDR": ""}
    return Process(first.name, port, directory, lambda: grpc_serves(Address("127.0.0.1", port)), **told)


async def _kill(victim: Replica, heir: Replica, database: asyncpg.Connection) -> tuple[list[float], list[str]]:
    """Kill it while models speak for its sessions; they all go on, with the words that were already on their way."""
    sessions = [(await answered(victim.client.new_session)).id for _ in range(SESSIONS)]
    runs = [(await victim.client.send(session, "Think long.")).run.id for session in sessions]
    await asyncio.sleep(random.uniform(0.0, LEASE_SECONDS / 2))
    owned = {row["id"]: row["epoch"] for row in await database.fetch(_OWNED, victim.address)}
    victim.process.send(signal.SIGKILL)
    began = time.monotonic()
    taken: list[float] = []
    async with asyncio.timeout(LIMIT_SECONDS):
        while owned:
            for row in await database.fetch(_EPOCHS, list(owned)):
                if row["epoch"] > owned[row["id"]]:
                    del owned[row["id"]]
                    taken.append(time.monotonic() - began)
            await asyncio.sleep(LOOK_SECONDS)
    await victim.process.kill()
    await victim.process.start()
    wrong = []
    for session, run in zip(sessions, runs, strict=True):
        await settled(heir.client, session)
        ended = state(await heir.client.get_run(run))
        again = [step for step in await heir.client.steps(run) if step.dispatch_number > 1 or step.faults]
        if ended != "COMPLETED" or again:
            wrong.append(f"kill -9: run {run} is {ended}, {len(again)} of its model calls were made again")
    return taken, wrong
