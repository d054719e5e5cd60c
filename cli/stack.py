"""The whole of Assent on one machine: which processes there are, what each is told, their order.

`assent up` keeps it until Ctrl-C, `assent demo` for the length of a demonstration. How one process is kept
alive is in cli/processes.py.
"""

import asyncio
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from cli.health import grpc_serves, http_ready, is_free, with_port
from cli.postgres import EmbeddedPostgres, PostgresError
from cli.processes import POLL_SECONDS, Child, Kept, Program, Say, keep_alive
from cli.spawn import last_lines
from cli.trouble import CannotStart
from rpc.addresses import Address

LEFTOVERS_SECONDS = 15.0
"""How long the services of one that was killed may take to stop by themselves: they give up their leases first."""

OWN = {"ASSENT_DATABASE_URL", "ASSENT_METRICS_ADDR"}
"""What each service is told by itself or not at all: a secret, and an address that only one can have."""

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class StackSettings:
    """What a person may choose about the stack; empty texts leave a choice to the service."""

    data_dir: Path
    grpc_address: Address
    executor_address: Address
    http_address: Address
    metrics_address: Address | None = None  # the orchestrator's; the gateway's are at its own /metrics
    executor_metrics_address: Address | None = None
    database_url: str = ""
    model: str = ""
    script: Path | None = None
    catalog_dir: Path | None = None
    workspace_root: Path | None = None


class KeptPostgres:
    """The embedded PostgreSQL as something that is kept alive like the services."""

    name = "PostgreSQL"

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    @property
    def pid(self) -> int:
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server.running

    def start(self) -> None:
        try:
            self._server.start()
        except PostgresError as problem:
            raise CannotStart(str(problem)) from problem

    async def wait_until_healthy(self) -> None:
        """`start` has already waited."""

    async def wait(self) -> None:
        await asyncio.to_thread(self._server.wait)

    def cause_of_death(self) -> str:
        return "ended"

    async def stop(self) -> None:
        self._server.stop()


class Stack:
    """Starts everything, keeps it alive, stops it in order; `say` hears of each death and recovery."""

    def __init__(self, settings: StackSettings, say: Say, *, root: Path = ROOT) -> None:
        """Choose what was left to choose; `root` is where the services' packages are."""
        self.settings = replace(
            settings,
            data_dir=settings.data_dir.absolute(),
            grpc_address=with_port(settings.grpc_address),
            executor_address=with_port(settings.executor_address),
            http_address=with_port(settings.http_address),
            metrics_address=settings.metrics_address and with_port(settings.metrics_address),
            executor_metrics_address=settings.executor_metrics_address and with_port(settings.executor_metrics_address),
        )
        self.logs = self.settings.data_dir / "logs"
        self.database_url = settings.database_url
        self._say = say
        self._root = root
        self._kept: list[Kept] = []  # in the order of starting; stopped in the reverse
        self._keepers: list[asyncio.Task[None]] = []
        self._lock: IO[str] | None = None
        self._killed_before = False  # whoever had the data directory before us did not stop, but was ended

    async def start(self) -> None:
        """Start all of it, or stop what did start and raise CannotStart with the reason."""
        try:
            self._take_data_directory()
            await self._refuse_taken_ports()
            if not self.database_url:
                self._start_postgres()
            await self._start_services()
        except BaseException:
            await self.stop()
            raise
        self._keepers = [asyncio.create_task(keep_alive(kept, self._say)) for kept in self._kept]

    async def stop(self) -> None:
        """Stop in order: gateway, orchestrator, executor, PostgreSQL. Cancelled, it kills what still runs."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers = []
        while self._kept:
            with suppress(asyncio.CancelledError):
                await self._kept.pop().stop()
        if self._lock:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def pids(self) -> Mapping[str, int]:
        """The process id of each part that runs, by name."""
        return {kept.name: kept.pid for kept in self._kept}

    def _take_data_directory(self) -> None:
        directory = self.settings.data_dir
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            lock = (directory / "up.lock").open("a+")
        except OSError as problem:
            raise CannotStart(f"the data directory {directory} is unusable: {problem.strerror}") from problem
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            lock.seek(0)
            with lock:
                holder = lock.read().strip()
            raise CannotStart(
                f"the data directory {directory} is in use by another assent (pid {holder}); "
                "stop it, or choose another with --data-dir"
            ) from problem
        self._lock = lock
        self._killed_before = lock.tell() > 0
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()

    async def _refuse_taken_ports(self) -> None:
        settings = self.settings
        chosen = [
            ("orchestrator", "--grpc-addr", settings.grpc_address),
            ("executor", "--executor-addr", settings.executor_address),
            ("gateway", "--http-addr", settings.http_address),
            ("orchestrator", "--metrics-addr", settings.metrics_address),
            ("executor", "--executor-metrics-addr", settings.executor_metrics_address),
        ]
        give_up = time.monotonic() + (LEFTOVERS_SECONDS if self._killed_before else 0)
        for name, option, address in chosen:
            while address and not is_free(address):
                if time.monotonic() < give_up:
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                raise CannotStart(
                    f"the {name} cannot listen on {address}: port {address.port} is taken; "
                    f"stop what uses it, or choose another with {option}"
                )

    def _start_postgres(self) -> None:
        server = EmbeddedPostgres(self.settings.data_dir / "postgres")
        postgres = KeptPostgres(server)
        postgres.start()
        self._kept.append(postgres)
        self.database_url = server.url

    async def _migrate(self) -> None:
        """Bring the database up to date before anything uses it."""
        log = self.logs / "migrate.log"
        with log.open("wb") as output:
            migration = await asyncio.create_subprocess_exec(
                *_module("orchestrator", "migrate"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment("orchestrator"),
            )
            code = await migration.wait()
        if code != 0:
            raise CannotStart(f"the database could not be migrated; {log} says:\n{last_lines(log)}")

    async def _start_services(self) -> None:
        """What needs no database gets ready while that is migrated; kept in the order of stopping, reversed."""
        executor = self._child("executor", partial(grpc_serves, self.settings.executor_address))
        orchestrator = self._child("orchestrator", partial(grpc_serves, self.settings.grpc_address))
        gateway = self._child("gateway", partial(http_ready, self.settings.http_address))
        self._kept += [executor, orchestrator, gateway]
        executor.start()
        gateway.start()
        await self._migrate()
        orchestrator.start()
        await _all_healthy(executor, orchestrator)
        # Asked only now: a gateway that looks for its orchestrator in vain pauses before it looks again.
        await gateway.wait_until_healthy()

    def _child(self, name: str, healthy: Callable[[], Awaitable[bool]]) -> Child:
        return Child(Program(name, _module(name), self._environment(name), self.logs / f"{name}.log", healthy))

    def _environment(self, service: str) -> dict[str, str]:
        """Ours, with what was chosen; only the orchestrator learns where the database is."""
        settings = self.settings
        metrics = {"orchestrator": settings.metrics_address, "executor": settings.executor_metrics_address}
        chosen = {
            "ASSENT_DATA_DIR": str(settings.data_dir),
            "ASSENT_GRPC_ADDR": str(settings.grpc_address),
            "ASSENT_EXECUTOR_ADDRS": str(settings.executor_address),
            "ASSENT_HTTP_ADDR": str(settings.http_address),
            "ASSENT_METRICS_ADDR": str(metrics.get(service) or ""),
            "ASSENT_MODEL": settings.model,
            "ASSENT_SCRIPT": _absolute(settings.script),
            "ASSENT_CATALOG_DIR": _absolute(settings.catalog_dir),
            "ASSENT_WORKSPACE_ROOTS": _absolute(settings.workspace_root),
            "ASSENT_DATABASE_URL": self.database_url if service == "orchestrator" else "",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self._root), os.environ.get("PYTHONPATH", "")])),
        }
        inherited = {name: value for name, value in os.environ.items() if name not in OWN}
        return inherited | {name: value for name, value in chosen.items() if value}


async def _all_healthy(*children: Child) -> None:
    """Return when all are; the first that cannot be ends the wait for the others."""
    waits = [asyncio.create_task(child.wait_until_healthy()) for child in children]
    try:
        await asyncio.gather(*waits)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _module(name: str, *arguments: str) -> list[str]:
    """Run our package, never a directory of the same name in the current one (-P)."""
    return [sys.executable, "-P", "-m", name, *arguments]


def _absolute(path: Path | None) -> str:
    return str(path.absolute()) if path else ""
