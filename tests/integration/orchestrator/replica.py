"""Orchestrators in this process, on one database: started, stopped, crashed; and a look at what they left in it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest

from orchestrator import bootstrap
from orchestrator.domain.snapshot import Snapshot
from orchestrator.settings import Settings
from orchestrator.store import snapshots
from rpc.server import Server
from tests.integration.orchestrator.client import LIMIT_SECONDS, Client, connected, principal_of

PassTime = Callable[[float], Awaitable[None]]


class Replica:
    """One orchestrator and a client of it."""

    def __init__(self, orchestrator: bootstrap.Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._resources = AsyncExitStack()
        self._is_over = False

    async def start(self) -> None:
        port = await self._orchestrator.start()
        self.client: Client = await self._resources.enter_async_context(connected(port))

    async def stop(self) -> None:
        if not self._is_over:
            self._is_over = True
            await self._resources.aclose()
            await self._orchestrator.stop()

    async def stop_under_clients(self) -> None:
        """Stop while clients hold on to it."""
        self._is_over = True
        await self._orchestrator.stop()
        await self._resources.aclose()

    async def crash(self) -> None:
        """Be gone without giving anything up: the lease lapses by itself."""

        async def nothing() -> None:
            return

        self._orchestrator._lease.release = nothing  # type: ignore[method-assign]  # a crash releases nothing
        await self.stop()

    async def kept_and_stored(self, session_id: str) -> tuple[Snapshot | None, Snapshot | None]:
        """What was kept of the session, which is kept on, and what a load finds."""
        kept = self._orchestrator._kept.take("default", session_id)
        if kept is not None:
            self._orchestrator._kept.put(kept)
        return kept, await snapshots.load(self._orchestrator._database, "default", session_id)

    def keeps(self, session_id: str) -> bool:
        return ("default", session_id) in self._orchestrator._kept._snapshots

    def watches(self, session_id: str) -> bool:
        """Whether anything is kept for a watcher of the session."""
        return self._orchestrator._hub.watched("default", session_id)

    @property
    def knows_others(self) -> bool:
        """Whether it tells other replicas what happens here."""
        return bool(self._orchestrator._relay._others)

    @property
    def has_workspaces(self) -> bool:
        """Whether an executor with a workspace root has joined."""
        return bool(self._orchestrator._executors.workspace_roots())

    def relays(self, session_id: str) -> bool:
        """Whether another replica is known to want the session's live deltas."""
        return ("default", session_id) in self._orchestrator._relay._watched


class Replicas:
    """Starts orchestrators on the test's database and stops them all in the end."""

    def __init__(self, database_url: str, executor_addrs: str) -> None:
        self._settings = {"database_url": database_url, "executor_addrs": executor_addrs}
        self._started: list[Replica] = []

    async def start(self, **settings: Any) -> Replica:
        wanted = {"grpc_addr": "127.0.0.1:0", "stop_grace_seconds": 0.2, **self._settings, **settings}
        replica = Replica(bootstrap.Orchestrator(Settings(**wanted)))
        await replica.start()
        self._started.append(replica)
        return replica

    async def stop(self) -> None:
        for replica in self._started:
            await replica.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what sets no event that a test could wait on."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while True:
            if condition():
                return
            await asyncio.sleep(0.005)


def tell_callers_apart(patch: pytest.MonkeyPatch) -> None:
    """Let every call say who makes it, as authentication will."""
    patch.setattr(bootstrap, "Server", partial(Server, authenticate=principal_of))


COUNTED = (
    "session",
    "message",
    "run",
    "plan",
    "subtask",
    "attempt",
    "step",
    "artifact",
    "content",
    "approval",
    "session_grant",
    "event",
    "request",
    "audit",
    "counter",
    "erasing",
)
UNCOUNTED = ("lease", "artifact", "content", "delivery")


class Tables:
    """The database as it is, seen from beside the orchestrator."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str) -> AsyncIterator["Tables"]:
        connection = await asyncpg.connect(url)
        try:
            yield cls(connection)
        finally:
            await connection.close()

    async def counts(self) -> dict[str, int]:
        """Rows by table, and the sum of the sessions' last sequences."""
        counts = {name: await self._connection.fetchval(f'SELECT count(*) FROM "{name}"') for name in COUNTED}
        counts["sequences"] = await self._connection.fetchval("SELECT coalesce(sum(last_sequence), 0) FROM session")
        return counts

    async def count(self, of: str) -> int:
        """Rows of a table, as the text after FROM says."""
        found: int = await self._connection.fetchval(f"SELECT count(*) FROM {of}")
        return found

    async def audited(self) -> list[asyncpg.Record]:
        """The refusals on record, oldest first."""
        return list(await self._connection.fetch("SELECT * FROM audit ORDER BY create_time, id"))

    async def session(self, session_id: str) -> asyncpg.Record:
        row = await self._connection.fetchrow("SELECT * FROM session WHERE id = $1", session_id)
        assert row is not None
        return row

    async def open_transactions(self) -> int:
        """Transactions that others hold open without doing anything in them."""
        found: int = await self._connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        return found

    async def end_listening(self, connections: int) -> None:
        """Cut the connections that replicas hear one another on, once all are there, as a server that restarts does."""
        hearing = (
            "FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notify(%')"
        )
        async with asyncio.timeout(LIMIT_SECONDS):
            while await self._connection.fetchval(f"SELECT count(*) {hearing}") < connections:  # noqa: ASYNC110  # theirs
                await asyncio.sleep(0.01)
        await self._connection.execute(f"SELECT pg_terminate_backend(pid) {hearing}")

    async def clear(self) -> None:
        """As new, for the next test."""
        await self._connection.execute(";".join(f'DELETE FROM "{name}"' for name in (*COUNTED, *UNCOUNTED)))
        await self.pass_time(0)

    async def pass_time(self, seconds: float) -> None:
        """Move the only clock that leases go by."""
        await self._connection.execute(
            "CREATE OR REPLACE FUNCTION assent_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS "
            f"$$ SELECT ((extract(epoch FROM statement_timestamp()) + {seconds}) * 1000000)::bigint $$"
        )


def driving() -> list[asyncio.Task[Any]]:
    """The tasks of this process that drive a session."""
    return [t for t in asyncio.all_tasks() if getattr(t.get_coro(), "__qualname__", "") == "Engine._drive"]


async def all_let_go() -> None:
    """Wait for every task that drives a session to end."""
    if tasks := driving():
        _, pending = await asyncio.wait(tasks, timeout=LIMIT_SECONDS)
        assert not pending, "a session is still held"


async def one_let_go(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for one of these tasks to end."""
    ended, _ = await asyncio.wait(tasks, timeout=LIMIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    assert ended, "all sessions are still held"
