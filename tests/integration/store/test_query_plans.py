"""What is read and written all the time goes through the keys, also where it was planned on empty tables."""

import re
from collections.abc import AsyncIterator

import asyncpg
import pytest

from orchestrator.store import queries, snapshots
from orchestrator.store.codec import CODECS
from orchestrator.store.database import Database
from orchestrator.store.statement import text_for

EVERY_TABLE = tuple(codec.table.name for codec in CODECS.values())
STATEMENTS = {
    "writing": text_for(EVERY_TABLE, requests=True),
    "writing without requests": text_for((), requests=False),
    "writing and counting": text_for(EVERY_TABLE, requests=True, counted=True),
    "writing for a webhook": text_for(("approval",), requests=True, delivers=True),
    "loading": snapshots._LOAD,
    "standings": queries._STANDINGS,
    "events": queries._EVENTS_AFTER,
}


@pytest.fixture
async def writers_connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await database.connect_writer()
    yield connection
    await connection.close()


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_statement_reads_more_of_a_table_than_it_asks_for(
    writers_connection: asyncpg.Connection, name: str
) -> None:
    plan = await _generic_plan(writers_connection, STATEMENTS[name], is_read=not name.startswith("writing"))
    assert "Index Cond" in plan
    assert re.search(r"using \w+ on .*\n *Index Cond", plan), "the plan is not written as expected"
    assert not re.search(r"Seq Scan on (?!lease)", plan), plan
    found = re.findall(r"using (\w+) on .*\n *Index Cond: \(tenant = [^)]*\)$", plan, re.MULTILINE)
    assert set(found) <= {"session_queue"}, plan  # which holds none but those that wait, and any one will do


async def _generic_plan(connection: asyncpg.Connection, statement: str, *, is_read: bool) -> str:
    """The plan that the connection would keep; reads have the planner as it comes."""
    if is_read:
        await connection.execute("SET enable_seqscan TO on")
    count = max(int(number) for number in re.findall(r"\$(\d+)", statement))
    await connection.execute(f"PREPARE tried AS {statement}")
    lines = await connection.fetch(f"EXPLAIN EXECUTE tried({', '.join(['NULL'] * count)})")
    return "\n".join(line[0] for line in lines)
