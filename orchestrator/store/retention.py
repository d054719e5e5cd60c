"""Keeping the database small: erased sessions' remains, old requests, dead replicas' leases, finished sessions.

One replica at a time, in small steps, each a statement of a few milliseconds; what is left undone is found by the next
who looks. What counts as finished is said here, how a session is erased in erasing.py.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import asyncpg
import structlog

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store import erasing
from orchestrator.store.counting import recount
from orchestrator.store.database import Database
from orchestrator.store.failures import DRIVER_ERRORS
from orchestrator.store.leases import FORGET_SECONDS

LOCK = 0x61737765657073  # of the one who sweeps
LOOK_SECONDS = 5.0
HOUSEKEEPING_SECONDS = 3600.0
BREATH_SECONDS = 0.01  # between two steps, so that others' writes come between them
REQUEST_DAYS = 7
PAGE_ROWS = 500
DAY = 24 * 3600 * 1_000_000

_log = structlog.get_logger("orchestrator.store")

_OLD_REQUESTS = """
DELETE FROM request WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM request WHERE create_time < assent_now() - $1 ORDER BY create_time LIMIT $2))"""

_DEAD_LEASES = "DELETE FROM lease WHERE expire_time < assent_now() - $1"

# Page by page through all sessions, by their key: an index by update time would cost every write its place on the page.
_FINISHED = """
WITH page AS MATERIALIZED (
    SELECT tenant, id FROM session WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT $3
),
finished AS (
    SELECT s.tenant, s.id FROM page JOIN session AS s ON s.tenant = page.tenant AND s.id = page.id
    WHERE s.state IN ('CLOSED', 'IDLE', 'COMPLETED') AND s.active_run_id = '' AND NOT s.runnable
        AND s.due_time = 0 AND s.queue_time = 0 AND s.update_time < assent_now() - $4
    FOR UPDATE OF s SKIP LOCKED
),
gone AS (
    DELETE FROM session AS s USING finished WHERE s.tenant = finished.tenant AND s.id = finished.id
    RETURNING s.tenant, s.id
),
listed AS (INSERT INTO erasing (tenant, session_id, erase_time) SELECT tenant, id, assent_now() FROM gone)
SELECT tenant, id, (SELECT count(*) FROM gone) AS gone FROM page ORDER BY tenant DESC, id DESC LIMIT 1"""


class Sweeper:
    """Sweeps for as long as `run` does. `days`: how long finished sessions are kept, 0: for ever."""

    def __init__(self, database: Database, *, days: int = 0, runs_limited: bool = False) -> None:
        self._database = database
        self._days = days
        self._runs_limited = runs_limited
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """A session was deleted: erase what it has left soon."""
        self._nudged.set()

    async def run(self) -> None:
        clock = asyncio.get_running_loop().time
        housekeeping = clock() + HOUSEKEEPING_SECONDS / 60
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._nudged.wait()
            self._nudged.clear()
            try:
                if clock() >= housekeeping:
                    await self.keep_house()
                    housekeeping = clock() + HOUSEKEEPING_SECONDS
                elif await erasing.is_due(self._database):
                    await self.erase()
            except (StorageUnavailable, *DRIVER_ERRORS) as error:
                _log.warning("sweeping was interrupted; it goes on later", error=str(error))

    async def erase(self) -> None:
        """Everything of the sessions that are gone, unless another replica does it."""
        async with self._sweeping() as connection:
            if connection is not None:
                await _until_done(partial(erasing.step, connection))

    async def keep_house(self) -> None:
        """All there is to sweep, unless another replica does it."""
        async with self._sweeping() as connection:
            if connection is None:
                return
            if self._days:
                await self._let_finished_go(connection)
            await _until_done(partial(erasing.step, connection))
            age = REQUEST_DAYS * DAY
            await _until_done(partial(_deletes, connection, _OLD_REQUESTS, age, PAGE_ROWS))
            await connection.execute(_DEAD_LEASES, int(FORGET_SECONDS * 1_000_000))
        if self._runs_limited and (wrong := await recount(self._database)):
            _log.warning("runs of tenants were counted wrong; put right", tenants=len(wrong))

    async def _let_finished_go(self, connection: asyncpg.Connection) -> None:
        tenant = session_id = ""
        gone = 0
        while page := await connection.fetchrow(_FINISHED, tenant, session_id, PAGE_ROWS, self._days * DAY):
            tenant, session_id = page["tenant"], page["id"]
            gone += page["gone"]
            await asyncio.sleep(BREATH_SECONDS)
        if gone:
            _log.info("finished sessions are erased", sessions=gone, days=self._days)

    @asynccontextmanager
    async def _sweeping(self) -> AsyncIterator[asyncpg.Connection | None]:
        """A connection that nobody else sweeps on meanwhile; None: somebody does. Closing it gives the turn back."""
        connection = await self._database.connect()
        try:
            yield connection if await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK) else None
        finally:
            connection.terminate()


async def _deletes(connection: asyncpg.Connection, statement: str, *values: int) -> bool:
    return bool(await connection.execute(statement, *values) != "DELETE 0")


async def _until_done(step: Callable[[], Awaitable[bool]]) -> None:
    is_done = False
    while not is_done:
        is_done = not await step()
        await asyncio.sleep(BREATH_SECONDS)
