"""The real PostgreSQL behind the simulated one: statements that run to their end while everything else stands still.

Virtual connections borrow a real one for a statement or a transaction; what becomes of them is in postgres.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import asyncpg

from orchestrator.store import tables
from tests.postgres import migrate

T = TypeVar("T")
Options = tuple[tuple[str, str], ...]

LOCK_MILLISECONDS = 10  # the world stands still: who does not get a lock at once does not get it now

_CLOCK = """
CREATE OR REPLACE FUNCTION assent_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT current_setting('assent.now')::bigint $$"""


class Physical:
    """One migrated database on a real server, used by one world at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._idle: dict[Options, list[asyncpg.Connection]] = {}
        self._all: list[asyncpg.Connection] = []
        self._tables = ""

    def prepare(self) -> None:
        """Migrate it and put its clock into our hands."""
        self.run(migrate(self._url))
        connection = self.take(())
        self.run(connection.execute(_CLOCK))
        self._tables = ", ".join(f'"{name}"' for name in tables.metadata.tables if name != "probe")
        self.give_back((), connection)

    def clear(self) -> None:
        """As new, for the next seed."""
        connection = self.take(())
        self.run(connection.execute(f"TRUNCATE {self._tables}"))
        self.give_back((), connection)

    def close(self) -> None:
        for connection in self._all:
            connection.terminate()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to its end, whatever loop this is called from; nothing of that loop moves meanwhile."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(work)
        finally:
            asyncio._set_running_loop(outer)

    def take(self, options: Options) -> asyncpg.Connection:
        idle = self._idle.setdefault(options, [])
        return idle.pop() if idle else self.run(self._connect(dict(options)))

    def give_back(self, options: Options, connection: asyncpg.Connection) -> None:
        """A transaction that is still open is rolled back, as the server does when its client is gone."""
        if connection.is_in_transaction():
            self.run(connection.execute("ROLLBACK"))
        self._idle[options].append(connection)

    def ask(self, connection: asyncpg.Connection, now: int, query: str, statement: Callable[[Any], Awaitable[T]]) -> T:
        """One statement; in a transaction one that fails can be tried again. Raises what asyncpg raises."""
        return self.run(self._ask(connection, now, query, statement))

    @staticmethod
    async def _ask(connection: asyncpg.Connection, now: int, query: str, statement: Callable[[Any], Awaitable[T]]) -> T:
        if "assent_now" in query:
            await connection.fetchval("SELECT set_config('assent.now', $1, false)", str(now))
        if not connection.is_in_transaction():
            return await statement(connection)
        await connection.execute("SAVEPOINT before_it")
        try:
            return await statement(connection)
        except asyncpg.LockNotAvailableError:
            await connection.execute("ROLLBACK TO SAVEPOINT before_it")
            raise

    async def _connect(self, options: Mapping[str, str]) -> asyncpg.Connection:
        fixed = {"jit": "off", "lock_timeout": str(LOCK_MILLISECONDS), "assent.now": "0"}
        connection = await asyncpg.connect(
            self._url, statement_cache_size=1024, server_settings={**options, **fixed, "statement_timeout": "0"}
        )
        self._all.append(connection)
        return connection
