"""Looking for claims reads what it finds and little more, however many sessions wait, are due, or stand in line."""

import re

import pytest

from orchestrator.store.database import Database
from orchestrator.store.leases import MOST_CLAIMS, claimable_text
from orchestrator.store.writer import Writer
from tests.integration.store.making import new_session

SESSIONS = 20_000
ALL_PAGES = 2_500  # until it was first analyzed, a full table may be taken for a small one, and sorted whole, once
# What all sessions are, how many a look finds, and how many pages it may touch for that. Each that is found
# costs three: its own, and its owner's lease by its key.
CASES = {
    "wait for a person": ("due_time = 0", 0, 100),
    "have a timer far ahead": ("due_time = 900000000000000000", 0, 100),
    "are due": ("runnable = true", MOST_CLAIMS, 1_200),
    "are due, with all priorities": ("runnable = true, priority = n % 21 - 10", MOST_CLAIMS, 21 * 1_000),
    "wait for room": ("queue_time = n", MOST_CLAIMS, 1_200),
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
    explained = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {claimable_text(0)}")
    await connection.close()

    plan = "\n".join(line[0] for line in explained)
    whole = re.search(r"^Limit .*rows=([\d.]+) loops=1\)\n +Buffers: shared( hit=(\d+))?( read=(\d+))?", plan)
    assert whole, plan
    assert float(whole[1]) == found, plan
    allowed = most_pages if statistics == "known" else max(most_pages, ALL_PAGES)
    assert int(whole[3] or 0) + int(whole[5] or 0) <= allowed, plan


_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = 'session'::regclass AND attnum > 0 AND NOT attisdropped"
