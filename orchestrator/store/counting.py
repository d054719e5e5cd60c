"""The counters of each tenant's RUNNING runs, where their number is limited: the rows, and putting them right.

The statement that writes change sets counts (statement.py); here are only the rows it counts in. Without a limit
nothing is counted, as a row per tenant that every commit writes makes commits wait for one another.
"""

from collections.abc import Iterable

import asyncpg

from orchestrator.store.database import Database

_BEGIN = """
INSERT INTO counter (tenant, name, used)
SELECT tenant, 'running', (SELECT count(*) FROM run WHERE run.tenant = new.tenant AND state = 'RUNNING')
FROM unnest($1::text[]) AS new(tenant) ORDER BY tenant ON CONFLICT DO NOTHING"""

_WRONG = """
SELECT tenant FROM (SELECT tenant, used FROM counter WHERE name = 'running') AS counted
FULL JOIN (SELECT tenant, count(*) AS found FROM run WHERE state = 'RUNNING' GROUP BY tenant) AS running USING (tenant)
WHERE coalesce(used, 0) <> coalesce(found, 0) ORDER BY tenant"""

_LOCK = "SELECT used FROM counter WHERE tenant = $1 AND name = 'running' FOR UPDATE"

_COUNT = """
UPDATE counter SET used = (SELECT count(*) FROM run WHERE run.tenant = $1 AND state = 'RUNNING')
WHERE tenant = $1 AND name = 'running'"""


class Counters:
    """The limit, and which tenants' counters are known to be there. 0: no limit, nothing is counted."""

    def __init__(self, runs_per_tenant: int) -> None:
        self.runs_per_tenant = runs_per_tenant
        self._there: set[str] = set()
        self._met: set[str] = set()

    async def begin(self, connection: asyncpg.Connection, tenants: Iterable[str]) -> None:
        """Make sure that each of these tenants has a counter, before the first of its runs is counted."""
        new = sorted(set(tenants) - self._there)
        if new and self.runs_per_tenant:
            await connection.fetch(_BEGIN, new)
            self._there.update(new)

    def met_limit(self, tenant: str) -> None:
        """A run of the tenant found no room."""
        self._met.add(tenant)

    def may_be_waited_for(self, tenant: str) -> bool:
        """Whether runs of the tenant have been found to wait for room, since this process began."""
        return tenant in self._met


async def recount(database: Database) -> list[str]:
    """Put right every counter that is not the number of its tenant's RUNNING runs; the tenants it was wrong for.

    Counting is exact while all replicas have a limit; this is for when the limit is new, or was not everywhere.
    """
    wrong = [row["tenant"] for row in await database.fetch(_WRONG)]
    if not wrong:
        return []
    connection = await database.connect()
    try:
        await connection.fetch(_BEGIN, wrong)
        return [tenant for tenant in wrong if await _corrected(connection, tenant)]
    finally:
        connection.terminate()


async def _corrected(connection: asyncpg.Connection, tenant: str) -> bool:
    """Whether its counter was wrong; nobody counts for the tenant meanwhile, and what was counted before is seen."""
    async with connection.transaction():
        before = await connection.fetchval(_LOCK, tenant)
        await connection.execute(_COUNT, tenant)
        return bool(before != await connection.fetchval(_LOCK, tenant))
