"""Leases: how long a replica owns sessions without saying so again, and which sessions nobody alive owns.

The database's clock decides, through assent_now() alone. Sessions are taken and given up by change sets, not here.
"""

from orchestrator.store.database import Database
from orchestrator.store.failures import storage_errors
from rpc import failpoints

Key = tuple[str, str]  # tenant, session id

LEASE_SECONDS = 15.0
FORGET_SECONDS = 24 * 3600.0  # when the row of a replica that ended without a word is dropped

# The conditions repeat the text of the partial index session_wake (tables.py), which serves both.

_RENEW = """
WITH renewed AS (
    INSERT INTO lease (owner, address, expire_time) VALUES ($1, $2, assent_now() + $3)
    ON CONFLICT (owner) DO UPDATE SET expire_time = excluded.expire_time, address = excluded.address
)
SELECT tenant, id, last_sequence FROM session
WHERE (runnable OR due_time > 0) AND (CASE WHEN runnable THEN 0 ELSE due_time END) <= assent_now() AND owner = $1"""

_CLAIMABLE = """
SELECT s.tenant, s.id FROM session AS s
LEFT JOIN lease ON lease.owner = s.owner AND lease.expire_time > assent_now()
WHERE (runnable OR due_time > 0) AND (CASE WHEN runnable THEN 0 ELSE due_time END) <= assent_now()
    AND lease.owner IS NULL
ORDER BY (CASE WHEN runnable THEN 0 ELSE due_time END), s.id LIMIT $1"""

_RELEASE = "DELETE FROM lease WHERE owner = $1 OR expire_time < assent_now() - $2 RETURNING owner"


class Lease:
    """One replica's lease, under an owner id that is new at each start of the process."""

    def __init__(self, database: Database, owner: str, address: str = "", *, seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._owner = owner
        self._address = address
        self._length = int(seconds * 1_000_000)

    async def register(self) -> None:
        """Begin to live."""
        await self.renew()

    async def renew(self) -> dict[Key, int]:
        """Live on for the lease's length; the last sequences of the sessions this replica owns and has work in.

        A lease that had lapsed lives again; the sessions somebody else has claimed meanwhile are lost all the same.
        """
        with storage_errors():
            if failpoints.on:
                await failpoints.reach("lease.renew.before")
            rows = await self._database.fetch(_RENEW, self._owner, self._address, self._length)
            if failpoints.on:
                await failpoints.reach("lease.renew.after")
        return {(row["tenant"], row["id"]): row["last_sequence"] for row in rows}

    async def claimable(self, limit: int) -> list[Key]:
        """Sessions that want the engine and that nobody alive owns, the longest due first. Locks nothing."""
        rows = await self._database.fetch(_CLAIMABLE, limit)
        return [(row["tenant"], row["id"]) for row in rows]

    async def release(self) -> None:
        """Give up everything at once: what is still owned can be claimed by others now."""
        with storage_errors():
            if failpoints.on:
                await failpoints.reach("lease.release.before")
            await self._database.fetch(_RELEASE, self._owner, int(FORGET_SECONDS * 1_000_000))
            if failpoints.on:
                await failpoints.reach("lease.release.after")
