"""`python -m bench.waiting`: what runs that wait cost an orchestrator: nothing but their rows, if all is well.

Two databases of one server, one empty and one with so many runs that wait for a person, the half of them with a timer
far ahead; an orchestrator of its own for each, in turns. Prints one JSON line for each turn and a summary.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bench import meter
from bench.driver import Driver
from bench.services import database, directory, migrate, services
from bench.steps import percentile
from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1.session_service_pb2_grpc import SessionServiceStub
from orchestrator.store.database import Database
from orchestrator.store.leases import Lease
from rpc.channel import connect

TABLES = ("session", "run", "message", "attempt", "step", "approval")
AT_ONCE = 5_000
LOOKS = 200
FAR_AHEAD = 30 * 24 * 3600 * 1_000_000
REST_SECONDS = 3.0

_IDS = """
SELECT id FROM session UNION SELECT id FROM run UNION SELECT id FROM message UNION SELECT id FROM attempt
UNION SELECT id FROM step UNION SELECT id FROM approval"""
_COLUMNS = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position"""


async def _made(url: str, name: str) -> str:
    """The URL of a new migrated database on the server."""
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    made = urlsplit(url)._replace(path=f"/{name}").geturl()
    await asyncio.to_thread(migrate, made)
    return made


async def _fill(data: Path, url: str, runs: int) -> float:
    """One run goes to the point where it waits, and is copied with everything but its log; how long it took."""
    async with services(data, url) as running, connect(str(running.address)) as channel:
        sessions = SessionServiceStub(channel)
        session = (await sessions.CreateSession(pb.CreateSessionRequest(agent="bench"))).session
        said = pb.UserMessage(text="with approval")
        async for _ in sessions.Converse(pb.ConverseRequest(session_id=session.id, user_message=said)):
            pass
    began = time.perf_counter()
    connection = await asyncpg.connect(url)
    ids = [row["id"] for row in await connection.fetch(_IDS)]
    for table in TABLES:
        statement = await _copying(connection, table, ids)
        for first in range(1, runs, AT_ONCE):
            await connection.execute(statement, first, min(runs - 1, first + AT_ONCE - 1))
    timer = (
        "UPDATE session SET due_time = assent_now() + $1 WHERE right(id, 1) IN ('0', '2', '4', '6', '8', 'a', 'c', 'e')"
    )
    await connection.execute(timer, FAR_AHEAD)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return time.perf_counter() - began


async def _copying(connection: asyncpg.Connection, table: str, ids: list[str]) -> str:
    """A statement that copies the rows of the run there is; of every id the last digits are the copy's number."""
    columns = []
    for name, kind in await connection.fetch(_COLUMNS, table):
        value = f"was.{name}"
        if kind == "text":
            for id in ids:
                value = f"replace({value}, '{id}', '{id[:-12]}' || lpad(to_hex(n), 12, '0'))"
        columns.append((name, value))
    names, values = (", ".join(part) for part in zip(*columns, strict=True))
    these = ", ".join(f"'{id}'" for id in ids)
    return f"""
        INSERT INTO {table} ({names}) SELECT {values}
        FROM {table} AS was CROSS JOIN generate_series($1::int, $2::int) AS n WHERE was.id IN ({these})"""


async def _turn(data: Path, url: str, name: str, seconds: float) -> dict[str, Any]:
    """An orchestrator at rest over this database, and then one that has a little to do."""
    database = await Database.open(url)
    async with services(data, url) as running, connect(str(running.address)) as channel:
        await asyncio.sleep(REST_SECONDS)
        cpu = meter.cpu_nanoseconds(running.orchestrator)
        await asyncio.sleep(seconds)
        idle = (meter.cpu_nanoseconds(running.orchestrator) - cpu) / seconds / 1e6
        rss = meter.rss_bytes([running.orchestrator]) / 1e6
        looks = await _looks(database)
        timings = await Driver(SessionServiceStub(channel), per_session=10).run("straight", 1, 3.0)
    await database.close()
    return {
        "runs_waiting": name,
        "rss_mb": round(rss, 1),
        "idle_cpu_ms_per_s": round(idle, 3),
        "claim_p50_ms": percentile(looks, 50),
        "claim_p99_ms": percentile(looks, 99),
        "workflow_p50_ms": percentile(timings.workflows, 50),
    }


async def _looks(database: Database) -> list[float]:
    """How long it takes to find what can be claimed, in microseconds."""
    lease = Lease(database, "bench")
    times = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        await lease.claimable(200)
        times.append((time.perf_counter() - began) * 1e6)
    return times


def _summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of both, and how much more the second is."""
    names = list(dict.fromkeys(turn["runs_waiting"] for turn in turns))
    summary: dict[str, Any] = {}
    for figure in (name for name in turns[0] if name != "runs_waiting"):
        values = {name: [turn[figure] for turn in turns if turn["runs_waiting"] == name] for name in names}
        medians = {name: statistics.median(found) for name, found in values.items()}
        empty, full = medians.values()
        spread = {f"{name} from to": [min(found), max(found)] for name, found in values.items()}
        summary[figure] = {**medians, "more_percent": round(100 * (full / empty - 1), 1), **spread}
    return summary


async def _measure(url: str, data: Path, options: argparse.Namespace) -> None:
    empty, full = await _made(url, "bench_empty"), await _made(url, "bench_full")
    print(json.dumps({"runs": options.waiting, "fill_seconds": round(await _fill(data, full, options.waiting), 1)}))
    turns = []
    for _ in range(options.turns):
        for name, of in (("0", empty), (str(options.waiting), full)):
            turns.append(await _turn(data, of, name, options.seconds))
            print(json.dumps(turns[-1]), flush=True)
    print(json.dumps(_summary(turns)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.waiting", description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000, help="how many runs wait")
    parser.add_argument("--turns", type=int, default=3, help="of each database")
    parser.add_argument("--seconds", type=float, default=20, help="at rest in each turn")
    options = parser.parse_args()
    os.environ.pop("ASSENT_DATABASE_URL", None)  # it needs a server on which it may make databases
    with directory() as data, database(data) as url:
        asyncio.run(_measure(url, data, options))


if __name__ == "__main__":
    main()
