"""Looking for claims reads what it finds and little more, however many sessions wait, are due, or stand in line."""

import re

import pytest

from orchestrator.store.database import Database
from orchestrator.store.leases import _CLAIMABLE
from orchestrator.store.writer import Writer
from tests.integration.store.making import new_session

SESSIONS = 20_000
LIMIT = 50
# What all sessions are, how many a look finds, and how many pages it may touch for that. Each that is found
# costs three: its own, and its owner's lease by its key.
CASES = {
    "wait for a person": ("due_time = 0", 0, 100),
    "have a timer far ahead": ("due_time = 900000000000000000", 0, 100),
    "are due": ("runnable = true", LIMIT, 300),
    "are due, with all priorities": ("runnable = true, priority = n % 21 - 10", LIMIT, 21 * 200),
    "wait for room": ("queue_time = n", LIMIT, 300),
}


@pytest.mark.parametrize("all_sessions", CASES)
@pytest.mark.parametrize("statistics", ["unknown", "known"])
async def test_a_look_for_claims_touches_few_pages(
    writer: Writer, database: Database, all_sessions: str, statistics: str
) -> None:
    values, found, most_pages = CASES[all_sessions]
    await new_session(writer)
    connection = await database.connect()
    columns = [row["attname"] for row in await connection.fetch(_COLUMNS)]
    copied = ", ".join("lpad(to_hex(n), 8, '0')" if name == "id" else name for name in columns)
    await connection.execute(
        f"INSERT INTO session ({', '.join(columns)}) SELECT {copied} FROM session, generate_series(1, {SESSIONS}) AS n"
    )
    await connection.execute("DELETE FROM session WHERE length(id) > 8")
    values = re.sub(r"\bn\b", "('x' || id)::bit(32)::int", values)
    await connection.execute(f"UPDATE session SET {values}")
    await connection.execute("VACUUM ANALYZE session" if statistics == "known" else "VACUUM session")
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE look AS {_CLAIMABLE}")
    explained = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) EXECUTE look({LIMIT}, 0)")
    await connection.close()

    plan = "\n".join(line[0] for line in explained)
    whole = re.search(r"^Limit .*rows=([\d.]+) loops=1\)\n +Buffers: shared( hit=(\d+))?( read=(\d+))?", plan)
    assert whole, plan
    assert float(whole[1]) == found, plan
    assert int(whole[3] or 0) + int(whole[5] or 0) <= most_pages, plan


_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = 'session'::regclass AND attnum > 0 AND NOT attisdropped"
