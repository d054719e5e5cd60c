"""Playing many seeds in processes of their own, and what came of them all.

Processes, because the order of Python's sets depends on a number that must be the same each time: PYTHONHASHSEED.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TRACE_LINES = 400
STUCK, DOUBLE = "it does not come to rest", "must not happen twice"


@dataclass
class Summary:
    """Of all seeds that were played; `failures` are what was wrong, by seed, `traces` the last of what led to it."""

    seeds: int = 0
    failures: dict[int, list[str]] = field(default_factory=dict)
    traces: dict[int, list[str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def violations(self) -> int:
        return sum(len(words) for words in self.failures.values())

    @property
    def stuck(self) -> int:
        """Seeds in which something did not come to rest."""
        return sum(any(STUCK in words for words in found) for found in self.failures.values())

    @property
    def double_starts(self) -> int:
        return sum(DOUBLE in words for found in self.failures.values() for words in found)

    def take(self, report: dict[str, Any]) -> None:
        self.seeds += 1
        self.counts.update(report["counts"])
        self.faults.update(report["faults"])
        if report["violations"]:
            self.failures[report["seed"]] = report["violations"]
            self.traces[report["seed"]] = report["trace"]

    def __str__(self) -> str:
        lines = [
            f"{self.seeds} seeds, {self.violations} violations, {self.double_starts} double starts, {self.stuck} stuck",
            ", ".join(f"{count} {what}" for what, count in self.counts.items()),
            "faults: " + ", ".join(f"{count} {fault}" for fault, count in self.faults.most_common()),
        ]
        for seed, found in self.failures.items():
            lines += [f"seed {seed}:", *(f"    {words}" for words in found)]
            lines += [f"    to see it: python -m tests.simulator {seed}"]
        return "\n".join(lines)


def run(seeds: Sequence[int], workers: int = 1, database_url: str = "", only: Sequence[str] = ()) -> Summary:
    """Play these seeds, of `only` these kinds of faults if any; without a database each worker starts a server."""
    summary = Summary()
    shares = [share for n in range(workers) if (share := list(seeds[n::workers]))]
    with ThreadPoolExecutor(len(shares)) as pool:
        for reports in pool.map(lambda share: list(reports_of(share, database_url, only=only)), shares):
            for report in reports:
                summary.take(report)
    return summary


def replay(seed: int, only: Sequence[str] = ()) -> Summary:
    """One seed, with all that happened in it."""
    summary = Summary()
    for report in reports_of([seed], "", "--trace", only=only):
        summary.take(report)
        summary.traces[seed] = report["trace"]
    return summary


def reports_of(
    seeds: Sequence[int], database_url: str, *options: str, only: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Each seed's report, from a worker process."""
    command = [sys.executable, "-m", "tests.simulator.worker", *options]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    asked = json.dumps({"seeds": list(seeds), "database_url": database_url, "only": list(only)})
    done = subprocess.run(command, input=asked, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    yield from reports
    if done.returncode or len(reports) < len(seeds):
        missing = seeds[len(reports)] if len(reports) < len(seeds) else "the end"
        raise RuntimeError(f"the worker failed at seed {missing}:\n{done.stderr[-4000:]}")
