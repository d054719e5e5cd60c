"""`python -m bench.steps`: how fast Assent does workflows of five steps that do nothing, and what they cost.

Prints one JSON line per workload, concurrency and run. README.md beside this file says how to read them.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import meter
from bench.driver import WORKFLOWS, Driver, Timings
from bench.services import Services, database, directory, services
from gen.assent.v1.session_service_pb2_grpc import SessionServiceStub
from rpc import memory
from rpc.channel import connect

WARM_UP_SECONDS = 1.0
FLUSH_SECONDS = 1.2  # PostgreSQL's backends report their counters at most once a second


def main() -> None:
    options = _options()
    profile: Path | None = options.profile
    with directory() as data, database(data) as url:
        asyncio.run(_measure(options, data, url, profile.absolute() if profile else None))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.steps", description=__doc__)
    parser.add_argument("--workload", choices=(*WORKFLOWS, "both"), default="both")
    parser.add_argument("--concurrency", type=_numbers, default=(1, 16, 64), help="for example 1,16,64")
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--runs", type=int, default=1, help="of each kind; with several a summary line follows")
    parser.add_argument("--per-session", type=int, default=10, help="workflows in one session before the next one")
    parser.add_argument("--profile", type=Path, help="write a cProfile of the orchestrator to this file")
    return parser.parse_args()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


async def _measure(options: argparse.Namespace, data: Path, url: str, profile: Path | None) -> None:
    workloads = WORKFLOWS if options.workload == "both" else (options.workload,)
    async with services(data, url, profile=profile) as running, connect(str(running.address)) as channel:
        driver = Driver(SessionServiceStub(channel), per_session=options.per_session)
        cluster = await meter.Cluster.connect(url)
        for workload in workloads:
            await driver.run(workload, 8, WARM_UP_SECONDS)
            memory.tend()
            for concurrency in options.concurrency:
                lines = []
                for _ in range(options.runs):
                    lines.append(await _run(driver, cluster, running, workload, concurrency, options.seconds))
                    print(json.dumps(lines[-1]), flush=True)
                if options.runs > 1:
                    print(json.dumps(_summary(lines)), flush=True)
        await cluster.close()


async def _run(
    driver: Driver, cluster: meter.Cluster, running: Services, workload: str, concurrency: int, seconds: float
) -> dict[str, Any]:
    pids = {
        "driver": os.getpid(),
        "orchestrator": running.orchestrator,
        "executor": running.executor,
        "postgres": cluster.postmaster,
    }
    await asyncio.sleep(FLUSH_SECONDS)
    counters = await cluster.counters()
    cpu = {name: _cpu(name, pid) for name, pid in pids.items()}
    timings = await driver.run(workload, concurrency, seconds)
    cpu = {name: _cpu(name, pid) - cpu[name] for name, pid in pids.items()}
    await asyncio.sleep(FLUSH_SECONDS)
    done = await cluster.counters() - counters
    count = len(timings.workflows)
    return {
        "contestant": "assent",
        "workload": workload,
        "concurrency": concurrency,
        "seconds": round(timings.seconds, 2),
        "completed": count,
        "workflows_s": round(count / timings.seconds, 1),
        **_latencies(timings),
        "cpu_ms_per_wf": round(1e3 * sum(cpu.values()) / count, 3),
        **{f"cpu_ms_{name}": round(1e3 * spent / count, 3) for name, spent in cpu.items()},
        "change_sets_per_wf": round(timings.change_sets / count, 2),
        "pg_commits_per_wf": round(done.commits / count, 2),
        "pg_rows_per_wf": round(done.rows / count, 2),
        "pg_wal_bytes_per_wf": round(done.wal_bytes / count),
        "pg_fsyncs_per_wf": round(done.fsyncs / count, 2),
        "rss_mb": {name: round(meter.rss_bytes([pid]) / 1e6) for name, pid in pids.items() if name != "postgres"},
        "pg_version": cluster.version,
    }


def _cpu(name: str, pid: int) -> float:
    """The driver is its own process without children, so it knows better than in ticks of 10 ms."""
    return time.process_time() if name == "driver" else meter.cpu_seconds([pid])


def _latencies(timings: Timings) -> dict[str, float | None]:
    kinds = {"": timings.workflows, "step_": timings.steps, "resume_": timings.resumes}
    return {
        f"{prefix}p{percent}_ms": percentile(values, percent)
        for prefix, values in kinds.items()
        for percent in (50, 99)
    }


def percentile(micros: Sequence[float], percent: int) -> float | None:
    """In milliseconds."""
    if not micros:
        return None
    ordered = sorted(micros)
    return round(ordered[round(percent / 100 * (len(ordered) - 1))] / 1e3, 3)


def _summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median, minimum and maximum over the runs of what judges them."""
    kept = {name: lines[0][name] for name in ("contestant", "workload", "concurrency")}
    judged = ("workflows_s", "p50_ms", "p99_ms", "step_p50_ms", "resume_p50_ms", "cpu_ms_per_wf", "cpu_ms_orchestrator")
    for name in judged:
        values = [line[name] for line in lines if line[name] is not None]
        if values:
            kept[name] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {**kept, "runs": len(lines)}


if __name__ == "__main__":
    main()
