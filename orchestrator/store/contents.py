"""The bytes of artifacts, by session and SHA-256: kept once, read in part, gone with their session.

They are written before the change set that speaks of them, on a connection of its own: large ones take a while.
"""

import asyncio

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.database import Database
from orchestrator.store.failures import UNAVAILABLE, storage_errors

KEEP_SECONDS = 30.0

# The lock keeps a session that is being deleted from leaving bytes behind.
_KEEP = """
INSERT INTO content (tenant, session_id, sha256, data, create_time)
SELECT s.tenant, s.id, $3, $4, assent_now() FROM session AS s WHERE s.tenant = $1 AND s.id = $2 FOR KEY SHARE
ON CONFLICT DO NOTHING"""

_READ = """
SELECT substring(data FROM $4::int FOR $5::int) AS part FROM content
WHERE tenant = $1 AND session_id = $2 AND sha256 = $3"""


async def keep(database: Database, tenant: str, session_id: str, sha256: str, data: bytes) -> None:
    """Once for the same bytes of a session; nothing where the session is gone. Raises StorageUnavailable."""
    try:
        async with asyncio.timeout(KEEP_SECONDS):
            with storage_errors():
                connection = await database.connect(statement_timeout=f"{KEEP_SECONDS:.0f}s")
                try:
                    await connection.execute(_KEEP, tenant, session_id, sha256, data, timeout=KEEP_SECONDS)
                finally:
                    await connection.close()
    except TimeoutError:
        raise StorageUnavailable(UNAVAILABLE) from None


async def read(database: Database, tenant: str, session_id: str, sha256: str, offset: int, length: int) -> bytes | None:
    """So many bytes from there on, fewer at the end; None: they are not kept."""
    rows = await database.fetch(_READ, tenant, session_id, sha256, offset + 1, length)
    return bytes(rows[0]["part"]) if rows else None
