"""What a run costs: CPU and memory of process trees from /proc, counters of the whole PostgreSQL cluster.

Linux only. Nothing here knows what is being measured.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import asyncpg

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

_COUNTERS = """
SELECT sum(xact_commit)::bigint AS commits, sum(tup_inserted + tup_updated + tup_deleted)::bigint AS rows,
    pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint AS wal_bytes
FROM pg_stat_database"""
_FSYNCS = "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'"
_FSYNCS_BEFORE_18 = "SELECT wal_sync FROM pg_stat_wal"


@dataclass(frozen=True, slots=True)
class Counters:
    """What the cluster has done since it began; reads count as commits, only fsyncs wait for the disk."""

    commits: int
    rows: int
    wal_bytes: int
    fsyncs: int

    def __sub__(self, earlier: "Counters") -> "Counters":
        return Counters(
            self.commits - earlier.commits,
            self.rows - earlier.rows,
            self.wal_bytes - earlier.wal_bytes,
            self.fsyncs - earlier.fsyncs,
        )


class Cluster:
    """The PostgreSQL behind a URL; let nothing else use it meanwhile."""

    def __init__(self, connection: asyncpg.Connection, postmaster: int, version: str) -> None:
        self._connection = connection
        self.version = version
        self.postmaster = postmaster  # 0: it is on another machine

    @classmethod
    async def connect(cls, url: str) -> Self:
        connection = await asyncpg.connect(url)
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        return cls(connection, _parent(backend), await connection.fetchval("SHOW server_version"))

    async def counters(self) -> Counters:
        await self._connection.execute("SELECT pg_stat_clear_snapshot()")
        is_old = self._connection.get_server_version().major < 18
        fsyncs = await self._connection.fetchval(_FSYNCS_BEFORE_18 if is_old else _FSYNCS)
        [row] = await self._connection.fetch(_COUNTERS)
        return Counters(row["commits"], row["rows"], row["wal_bytes"], fsyncs)

    async def close(self) -> None:
        await self._connection.close()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, their living children, and those that have ended."""
    stats = _stats()
    parents = {pid: int(fields[1]) for pid, fields in stats.items()}
    ticks = 0
    for pid in set(pids) & stats.keys():
        ticks += sum(map(int, stats[pid][11:15]))
        ticks += sum(sum(map(int, stats[child][11:15])) for child, parent in parents.items() if parent == pid)
    return ticks / _TICK


def cpu_nanoseconds(pid: int) -> int:
    """CPU time of one process's living threads, finer than in ticks of 10 ms."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def rss_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes, without their children."""
    stats = _stats()
    return sum(int(stats[pid][21]) * _PAGE for pid in pids if pid in stats)


def _parent(pid: int) -> int:
    fields = _stats().get(pid)
    return int(fields[1]) if fields else 0


def _stats() -> dict[int, list[str]]:
    """By process id, the fields of /proc/PID/stat that follow the name, `state` first."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
