"""Puts an executor together: the only place where its parts are chosen and connected."""

import asyncio
import uuid
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version

import structlog

from executor.ledger import Ledger
from executor.models.roster import Roster
from executor.models.script import load_script
from executor.performer import Performer
from executor.roots import open_roots
from executor.servicer import Executor, Identity
from executor.settings import Settings
from executor.tools.sandbox import can_shut_network, is_available
from executor.tools.toolbox import built_in
from gen.assent.executor.v1.executor_service_pb2_grpc import add_ExecutorServiceServicer_to_server
from rpc import memory
from rpc.addresses import Address
from rpc.server import Limits, Server, Service
from rpc.shutdown import run_until_signal

_log = structlog.get_logger("executor")

SERVICE = "assent.executor.v1.ExecutorService"

# Streams of orchestrators live as long as both processes do.
_LIMITS = Limits(max_connection_age_seconds=None)


@dataclass(frozen=True, slots=True)
class Parts:
    """A whole executor, not yet listening."""

    server: Server
    executor: Executor
    ledger: Ledger


async def build(settings: Settings) -> Parts:
    """Read the script, open the roots, set the default model up; whatever is wrong with them is raised."""
    if not is_available():
        _log.warning("commands_not_confined", why="this system has no Landlock")
    if not settings.command_network and not can_shut_network():
        why = "this system has no seccomp that we know: commands can reach the network, Assent's own ports included"
        _log.warning("command_network_not_shut", why=why)
    roster = Roster(settings.model, load_script(settings.script))
    await roster.get(settings.model)
    performer = Performer(roster, built_in(settings.command_network), open_roots(settings.roots))
    identity = Identity(str(uuid.uuid4()), settings.address, _build())
    ledger = Ledger(identity.instance_id, settings.executor_slots, performer)
    executor = Executor(identity, ledger, performer)
    server = Server(
        "executor",
        settings.address,
        [Service(SERVICE, executor, add_ExecutorServiceServicer_to_server)],
        permissions_required=False,
        reflection=settings.reflection,
        limits=_LIMITS,
    )
    return Parts(server, executor, ledger)


async def start(parts: Parts) -> int:
    """Listen; the port, which the system chose if the address says 0."""
    port = await parts.server.start()
    address = Address(parts.server.address.host, port) if port else parts.server.address
    parts.executor.identity = replace(parts.executor.identity, address=str(address))
    return port


async def run(parts: Parts, settings: Settings) -> None:
    """Serve until a signal, then let what runs come to an end."""
    await start(parts)
    memory.tend()
    ticking: asyncio.Task[object] = asyncio.create_task(parts.executor.tick())

    async def drain() -> None:
        await parts.executor.drain(settings.stop_grace_seconds)

    async def stop() -> None:
        ticking.cancel()
        await parts.ledger.end()
        await parts.server.stop(1)

    await run_until_signal(drain, stop, tasks=(ticking,), limit=settings.stop_grace_seconds + 10)


def _build() -> str:
    try:
        return version("assent")
    except PackageNotFoundError:
        return "source"
