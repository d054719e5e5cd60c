"""Leases: how long a replica owns sessions without saying so again, and which sessions nobody alive owns.

The database's clock decides, through assent_now() alone. Sessions are taken and given up by change sets, not here.
"""

from orchestrator.domain.records import PRIORITIES, Key
from orchestrator.domain.room import WHEN_THERE_IS_ROOM
from orchestrator.store.database import Database
from orchestrator.store.failures import storage_errors
from orchestrator.store.tables import CLAIM_TIME
from rpc import failpoints

LEASE_SECONDS = 15.0
MOST_CLAIMS = 200
FORGET_SECONDS = 24 * 3600.0  # when the row of a replica that ended without a word is dropped

# The conditions repeat the text of the partial indexes session_wake, session_claim and session_queue (tables.py).

_RENEW = """
WITH renewed AS (
    INSERT INTO lease (owner, address, expire_time) VALUES ($1, $2, assent_now() + $3)
    ON CONFLICT (owner) DO UPDATE SET expire_time = excluded.expire_time, address = excluded.address
)
SELECT tenant, id, last_sequence FROM session
WHERE (runnable OR due_time > 0) AND (CASE WHEN runnable THEN 0 ELSE due_time END) <= assent_now() AND owner = $1"""

# tables.CLAIM_TIME: the text of session_claim, which session_wake does not have, so that it cannot be mistaken for it.
_SINCE = f"({CLAIM_TIME})"

# By priority, and of each the longest due: one short look into the index per priority, however many are not due.
# Then who waits for room among the tenant's runs (session_queue), as many as there is room for, the longest first.
_CLAIMABLE = """
WITH RECURSIVE waiting AS (
    (SELECT tenant FROM session WHERE queue_time > 0 ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT s.tenant FROM session AS s WHERE queue_time > 0 AND s.tenant > waiting.tenant
        ORDER BY s.tenant LIMIT 1)
    FROM waiting WHERE waiting.tenant IS NOT NULL
),
due AS (
    SELECT found.* FROM generate_series({lowest}, {highest}) AS level(priority)
    CROSS JOIN LATERAL (
        SELECT s.tenant, s.id, s.priority, {_SINCE} AS since FROM session AS s
        LEFT JOIN lease ON lease.owner = s.owner AND lease.expire_time > assent_now()
        WHERE s.priority = level.priority AND (runnable OR due_time > 0)
            AND {_SINCE} <= assent_now() AND lease.owner IS NULL
        ORDER BY {_SINCE} LIMIT {most}
    ) AS found
),
queued AS (
    SELECT found.* FROM waiting LEFT JOIN counter ON counter.tenant = waiting.tenant AND counter.name = 'running'
    CROSS JOIN LATERAL (
        SELECT s.tenant, s.id, s.priority, s.queue_time AS since FROM session AS s
        LEFT JOIN lease ON lease.owner = s.owner AND lease.expire_time > assent_now()
        WHERE s.tenant = waiting.tenant AND queue_time > 0 AND lease.owner IS NULL
        ORDER BY s.priority DESC, s.queue_time
        LIMIT CASE WHEN {runs} > 0 THEN greatest(0, {runs} - coalesce(counter.used, 0)) ELSE {most} END
    ) AS found
)
SELECT tenant, id FROM (SELECT * FROM due UNION SELECT * FROM queued) AS candidate
ORDER BY priority DESC, since LIMIT {most}"""


def claimable_text(runs_per_tenant: int) -> str:
    """Without parameters, so that it is planned once: for any limit it seems dearer than planned anew at each look."""
    bounds = {"lowest": PRIORITIES.start, "highest": PRIORITIES.stop - 1, "most": MOST_CLAIMS}
    return _CLAIMABLE.format(_SINCE=_SINCE, runs=runs_per_tenant, **bounds)


_WAITING_FOR_ROOM = """
SELECT tenant, id, due_time FROM session
WHERE (runnable OR due_time > 0) AND (CASE WHEN runnable THEN 0 ELSE due_time END) >= $1 AND owner = ''
    AND (due_time, id) > ($1, $2)
ORDER BY (CASE WHEN runnable THEN 0 ELSE due_time END), id LIMIT $3"""

_RELEASE = "DELETE FROM lease WHERE owner = $1 OR expire_time < assent_now() - $2 RETURNING owner"


class Lease:
    """One replica's lease, under an owner id that is new at each start of the process."""

    def __init__(
        self,
        database: Database,
        owner: str,
        address: str = "",
        *,
        seconds: float = LEASE_SECONDS,
        runs_per_tenant: int = 0,
    ) -> None:
        self._database = database
        self._owner = owner
        self._address = address
        self._length = int(seconds * 1_000_000)
        self._claimable = claimable_text(runs_per_tenant)

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
        """Sessions that want the engine and that nobody alive owns: by priority, then the longest due. No locks.

        At most `limit` of them, and MOST_CLAIMS.
        """
        rows = await self._database.fetch(self._claimable)
        return [(row["tenant"], row["id"]) for row in rows[:limit]]

    async def waiting_for_room(self, after: tuple[int, str], limit: int) -> dict[Key, int]:
        """Sessions that nobody owns and that wait for an executor with room, and their due times: the longest wait
        first, beginning after this due time and id."""
        due_time, session_id = max(after, (WHEN_THERE_IS_ROOM, ""))
        rows = await self._database.fetch(_WAITING_FOR_ROOM, due_time, session_id, limit)
        return {(row["tenant"], row["id"]): row["due_time"] for row in rows}

    async def release(self) -> None:
        """Give up everything at once: what is still owned can be claimed by others now."""
        with storage_errors():
            if failpoints.on:
                await failpoints.reach("lease.release.before")
            await self._database.fetch(_RELEASE, self._owner, int(FORGET_SECONDS * 1_000_000))
            if failpoints.on:
                await failpoints.reach("lease.release.after")
