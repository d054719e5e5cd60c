"""The way to the database: the options of every connection, and reads that survive a restart of the server.

Nothing here knows a table but `probe`. The writer takes connections of its own from `connect`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, Self, TypeVar

import asyncpg
from sqlalchemy import Executable, Row
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.failures import DRIVER_ERRORS, is_about_connection, storage_errors

T = TypeVar("T")

_PROBE = "UPDATE probe SET probe_time = assent_now() RETURNING id"

CONNECT_SECONDS = 2.0
STATEMENT_SECONDS = 3.0
READ_SECONDS = 4.0  # a read's answer, or the error, comes within this, whatever happens
PATIENT_SECONDS = 2.0  # how long a read tries to find a server that has gone away
PAUSE_SECONDS = 0.05
READY_SECONDS = 2.0
POOL_SIZE = 8


class Reader(Protocol):
    """What a raw read needs: a Database, or the connection of a transaction."""

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]: ...


class Database:
    """One PostgreSQL database, by its `postgresql://` URL (any form that libpq takes, unix sockets included).

    Opening connects to nothing: a database that is away is found by the first use, or by `ready`.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool | None = None
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self.connect,
            isolation_level="AUTOCOMMIT",  # each read is one statement: no BEGIN, nothing left open
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
        )

    @classmethod
    async def open(cls, url: str) -> Self:
        database = cls(url)
        database._pool = await asyncpg.create_pool(
            connect=lambda *_, **__: database.connect(),
            min_size=0,
            max_size=POOL_SIZE,
            reset=_nothing_to_reset,
        )
        return database

    async def connect(self, **options: str) -> asyncpg.Connection:
        """A new connection for its caller alone; `options` are server settings such as lock_timeout."""
        return await asyncpg.connect(
            self._url,
            timeout=CONNECT_SECONDS,
            command_timeout=STATEMENT_SECONDS,
            statement_cache_size=256,
            server_settings={
                "application_name": "assent",
                "jit": "off",  # it would take longer to compile a statement than to run it
                "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
                "lock_timeout": f"{STATEMENT_SECONDS:.0f}s",
                "idle_in_transaction_session_timeout": "10s",
                **options,
            },
        )

    async def connect_writer(self) -> asyncpg.Connection:
        """A connection for the change-set writer: its large statement is planned once, for index lookups."""
        return await self.connect(plan_cache_mode="force_generic_plan", enable_seqscan="off")

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Rows of one read statement in asyncpg's own terms: for the reads that must be fast."""
        pool = self._opened_pool()
        return await _patiently(lambda: pool.fetch(query, *args))

    async def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        """Rows of one SQLAlchemy Core statement, written at once if it writes."""

        async def run() -> Sequence[Row[Any]]:
            async with self._engine.connect() as connection:
                result = await connection.execute(statement)
                return result.all() if result.returns_rows else ()

        return await _patiently(run)

    async def ready(self) -> bool:
        """Whether a write goes through, here and now, in a database that was migrated."""
        try:
            with storage_errors():
                async with asyncio.timeout(READY_SECONDS):
                    return bool(await self._opened_pool().fetch(_PROBE))
        except (StorageUnavailable, asyncpg.PostgresError):
            return False

    async def close(self) -> None:
        """Say goodbye on every connection; a server that is silent is waited for once, not connection by connection."""
        await asyncio.gather(self._close_pool(), self._engine.dispose())

    async def _close_pool(self) -> None:
        if self._pool is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._pool.close(), CONNECT_SECONDS)
            self._pool.terminate()

    def _opened_pool(self) -> asyncpg.Pool:
        if self._pool is None:
            raise RuntimeError("Database.open makes a database that can be read")
        return self._pool


async def _nothing_to_reset(_: object) -> None:
    """Single statements leave nothing behind, so their connections need no clean-up round trip."""


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """Read again on another connection where one was found broken, for as long as a restart may take."""
    patient_until = asyncio.get_running_loop().time() + PATIENT_SECONDS
    with storage_errors():
        async with asyncio.timeout(READ_SECONDS):
            while True:
                try:
                    return await read()
                except (DBAPIError, *DRIVER_ERRORS) as error:
                    if not is_about_connection(error) or asyncio.get_running_loop().time() > patient_until:
                        raise
                await asyncio.sleep(PAUSE_SECONDS)
