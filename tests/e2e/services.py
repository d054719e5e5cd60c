"""The real processes, each started, killed, frozen and stopped at will, and what a test waits for in them.

No test is here; what the model says is in script.yaml.
"""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import grpc
import httpx

from cli.health import grpc_serves
from cli.spawn import last_lines, spawn
from rpc.addresses import Address
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, connected

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "script.yaml"
LEASE_SECONDS = 1.5
LIMIT_SECONDS = 30.0


async def until(condition: Callable[[], bool | Awaitable[bool]], limit: float = LIMIT_SECONDS) -> None:
    """Wait for what another process does, which sets no event here."""
    async with asyncio.timeout(limit):
        while True:
            met = condition()
            if met if isinstance(met, bool) else await met:
                return
            await asyncio.sleep(0.01)


async def answered(call: Callable[[], Awaitable[T]], limit: float = LIMIT_SECONDS) -> T:
    """What a client does: repeat the request until it is answered."""
    async with asyncio.timeout(limit):
        while True:
            try:
                return await call()
            except Problem as problem:
                if problem.code is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.05)


_given: set[int] = set()


def free_port() -> int:
    """A port that no connection gets by chance while its process is down: below those given out to clients.

    Never the same twice: it is free until somebody listens, and drawn for several processes before any of them does.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port


class Process:
    """One service as a process of its own, always at the same address."""

    def __init__(self, name: str, port: int, directory: Path, healthy: Callable[[], Awaitable[bool]], **told: str):
        self.name = name
        self.port = port
        self.log = directory / f"{name}.log"
        self.told = told
        self._healthy = healthy
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT), **told}
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def runs(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def is_frozen(self) -> bool:
        """Whether it was stopped as SIGSTOP does."""
        assert self._child is not None
        status = Path(f"/proc/{self._child.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def launch(self, **told: str) -> None:
        """Start it with these settings too, and do not wait."""
        self._child = spawn(
            [sys.executable, "-m", self.name],
            log=self.log,
            environment={**self._environment, **told},
            directory=ROOT,
            death_signal=signal.SIGKILL,
        )

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self.launch()
        await until(self._serves)

    def send(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    async def kill(self) -> None:
        """As a crash does."""
        self.send(signal.SIGKILL)
        await until(lambda: not self.runs)

    async def terminated(self, limit: float = LIMIT_SECONDS) -> int:
        """Ask it to stop; its exit code."""
        self.send(signal.SIGTERM)
        return await self.ended(limit)

    async def ended(self, limit: float = LIMIT_SECONDS) -> int:
        await until(lambda: not self.runs, limit)
        assert self._child is not None
        return int(self._child.returncode)

    async def _serves(self) -> bool:
        assert self.runs, f"{self.name} ended:\n{last_lines(self.log)}"
        return await self._healthy()


class Services:
    """An executor, an orchestrator and a gateway over one database, and clients of them."""

    def __init__(self, directory: Path, database_url: str):
        ports = {name: free_port() for name in ("executor", "orchestrator", "gateway", "metrics")}
        at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self.workspaces = directory / "workspaces"
        self.metrics_url = f"http://{at['metrics']}/metrics"
        self.executor = Process(
            "executor",
            ports["executor"],
            directory,
            lambda: grpc_serves(Address("127.0.0.1", ports["executor"])),
            ASSENT_EXECUTOR_ADDRS=at["executor"],
            ASSENT_WORKSPACE_ROOTS=str(self.workspaces),
            ASSENT_SCRIPT=str(SCRIPT),
        )
        self._orchestrators = {
            "ASSENT_DATABASE_URL": database_url,
            "ASSENT_EXECUTOR_ADDRS": at["executor"],
            "ASSENT_LEASE_SECONDS": str(LEASE_SECONDS),
            "ASSENT_LEASE_RENEW_SECONDS": str(LEASE_SECONDS / 3),
        }
        self.orchestrator = self._an_orchestrator(directory, ports["orchestrator"], ASSENT_METRICS_ADDR=at["metrics"])
        self.gateway = Process(
            "gateway",
            ports["gateway"],
            directory,
            lambda: self.says("/readyz", 200),
            ASSENT_HTTP_ADDR=at["gateway"],
            ASSENT_GRPC_ADDR=at["orchestrator"],
        )
        self.http = httpx.AsyncClient(base_url=f"http://{at['gateway']}", trust_env=False, timeout=LIMIT_SECONDS)

    def another_orchestrator(self) -> Process:
        """A second one over the same database, with the same executor; whoever starts it ends it."""
        directory = self.workspaces.parent / "another"
        directory.mkdir(exist_ok=True)
        return self._an_orchestrator(directory, free_port())

    def _an_orchestrator(self, directory: Path, port: int, **told: str) -> Process:
        address = Address("127.0.0.1", port)
        told = {**self._orchestrators, "ASSENT_GRPC_ADDR": str(address), **told}
        return Process("orchestrator", port, directory, lambda: grpc_serves(address), **told)

    @classmethod
    @asynccontextmanager
    async def over(cls, database_url: str, directory: Path) -> AsyncIterator["Services"]:
        services = cls(directory, database_url)
        try:
            yield services
        finally:
            await services.http.aclose()
            for process in (services.gateway, services.orchestrator, services.executor):
                if process.runs:
                    await process.kill()

    async def start(self) -> None:
        """Start whatever does not run."""
        down = [process for process in (self.executor, self.orchestrator, self.gateway) if not process.runs]
        await asyncio.gather(*(process.start() for process in down))
        await until(lambda: self.says("/readyz", 200))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client of the orchestrator, which survives its restarts."""
        async with connected(self.orchestrator.port) as client:
            yield client

    async def says(self, path: str, status: int) -> bool:
        """Whether the gateway answers so."""
        try:
            return (await self.http.get(path)).status_code == status
        except httpx.TransportError:
            return False

    def workspace(self, session_id: str) -> Path:
        """Where the session's files are."""
        return self.workspaces / session_id
