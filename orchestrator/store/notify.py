"""LISTEN and NOTIFY, on a connection that does nothing else and is made again whenever it was lost.

Never inside a writing transaction: a NOTIFY makes commits wait for one another across the whole server.
"""

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import structlog

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.database import Database
from orchestrator.store.failures import DRIVER_ERRORS, UNAVAILABLE

_log = structlog.get_logger("orchestrator.store")

CHANNEL = "assent"
CHECK_SECONDS = 5.0  # how often an idle connection is tried: a half-open one says nothing by itself
PAUSE_SECONDS = 0.5

# What is lost with a crash of the server is no loss: everybody looks when they are back.
_OPTIONS = {"synchronous_commit": "off"}
_NOTIFY = "SELECT pg_notify($1, text) FROM unnest($2::text[]) WITH ORDINALITY AS given (text, n) ORDER BY n"


class Notices:
    """What replicas say to all replicas. Texts under 8,000 bytes; each hears its own, too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def send(self, texts: Sequence[str]) -> None:
        """In this order, in one short transaction. Raises StorageUnavailable."""
        connection = self._connection
        if connection is None or connection.is_closed():
            raise StorageUnavailable(UNAVAILABLE)
        try:
            async with self._one_at_a_time:
                await connection.execute(_NOTIFY, CHANNEL, list(texts))
        except DRIVER_ERRORS as error:
            connection.terminate()
            raise StorageUnavailable(UNAVAILABLE) from error

    async def listen(self, hear: Callable[[str], None], hearing: Callable[[bool], None]) -> None:
        """For as long as it runs: `hear` gets every text; `hearing` is told when that begins and when it ends."""
        while True:
            try:
                await self._listen_once(hear, hearing)
            except DRIVER_ERRORS as error:
                _log.warning("other replicas cannot be heard", error=type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen_once(self, hear: Callable[[str], None], hearing: Callable[[bool], None]) -> None:
        connection = await self._database.connect(**_OPTIONS)
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            await connection.add_listener(CHANNEL, lambda _connection, _pid, _channel, text: hear(text))
            self._connection = connection
            hearing(True)
            while not await _set_within(ended, CHECK_SECONDS):
                async with self._one_at_a_time:
                    await connection.execute("SELECT 1")
        finally:
            self._connection = None
            connection.terminate()
            hearing(False)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
