"""`python -m tests.torture`, or `make torture`: all that Assent is put through, and one table of what came of it.

SEEDS=10000   worlds of the simulator, from FIRST=0 on; fewer than 1000 make everything else short too
SEED=n        play this one again, with all that happened in it, and nothing else
ARRIVALS=n    how often a failpoint is come to before the crash sweep leaves it
DEATHS=n      real processes that die at failpoints
KILLS=n       kill -9 of an orchestrator whose recovery is timed
RESTARTS=n    restarts of PostgreSQL under load
MINUTES=90    after which no more seeds are played
WORKERS=n     processes at once, for the sweep and the seeds
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rpc import failpoints
from tests import simulator, sweep
from tests.simulator.seeds import replay
from tests.sweep.processes import NAMES
from tests.torture.deaths import EVERY_DEATH, die_often
from tests.torture.recovery import kill_often
from tests.torture.restarts import restart_often
from tests.torture.tally import RECOVERY_LIMIT_SECONDS, Tally

T = TypeVar("T")

EVERY_ARRIVAL = 1_000
CHUNK = 100  # seeds between two words of progress, for each worker


@dataclass(frozen=True)
class Measure:
    """How much of each; what is not told follows from the seeds."""

    seeds: int
    first: int
    arrivals: int
    actions: tuple[str, ...]
    deaths: int
    kills: int
    restarts: int
    minutes: float
    workers: int

    @classmethod
    def told(cls) -> "Measure":
        seeds = int(os.environ.get("SEEDS") or 10_000)
        short = seeds < 1_000

        def of(name: str, long: int, brief: int) -> int:
            return int(os.environ.get(name) or (brief if short else long))

        return cls(
            seeds,
            int(os.environ.get("FIRST") or 0),
            of("ARRIVALS", EVERY_ARRIVAL, 1),
            ("crash",) if short else ("crash", "lose"),
            min(of("DEATHS", len(EVERY_DEATH), 5), len(EVERY_DEATH)),
            of("KILLS", 10, 2),
            of("RESTARTS", 50, 5),
            float(os.environ.get("MINUTES") or 90),
            of("WORKERS", os.cpu_count() or 1, os.cpu_count() or 1),
        )


def main() -> int:
    """0: nothing was wrong."""
    if len(sys.argv) > 1:  # everything is told by the environment; nobody who asks for help wants an hour of it
        print(__doc__)
        return 2
    for name in [name for name in os.environ if name.startswith(("ASSENT_", "OTEL_"))]:
        del os.environ[name]  # what the developer has set for their own services
    if seed := os.environ.get("SEED"):
        return _replay(int(seed))
    measure, tally, began = Measure.told(), Tally(), time.monotonic()
    _sweep(measure, tally)
    _deaths(measure, tally)
    _kills(measure, tally)
    _restarts(measure, tally)
    _seeds(measure, tally, until=began + measure.minutes * 60)
    for line in tally.wrong:
        print(f"WRONG  {line}")
    print(f"\n{tally.table()}\n\nin {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if tally.wrong else 0


def _replay(seed: int) -> int:
    summary = replay(seed)
    print("\n".join(summary.traces[seed]), summary, sep="\n")
    return 1 if summary.failures else 0


def _sweep(measure: Measure, tally: Tally) -> None:
    def tell(name: str, findings: sweep.Findings) -> None:
        _say(f"crash sweep: {name}, {findings.plays} plays, {len(findings.wrong)} wrong")

    findings = sweep.run(arrivals=measure.arrivals, actions=measure.actions, workers=measure.workers, tell=tell)
    tally.scenarios, tally.plays, tally.pairs = len(NAMES), findings.plays, len(findings.fired)
    tally.failpoints_known = len(failpoints.POINTS)
    tally.failpoints = tally.failpoints_known - len(findings.never_fired)
    tally.wrong += [f"sweep {played}: {words}" for played, wrong in findings.wrong.items() for words in wrong]
    tally.wrong += [f"sweep: no scenario came to {point}" for point in findings.never_fired]


def _deaths(measure: Measure, tally: Tally) -> None:
    step = len(EVERY_DEATH) / max(1, measure.deaths)
    deaths = [EVERY_DEATH[int(n * step)] for n in range(measure.deaths)]
    wrong = _run(lambda directory: die_often(deaths, directory, _say))
    tally.deaths_wanted, tally.deaths = len(deaths), len(deaths) - len(wrong)
    tally.wrong += wrong


def _kills(measure: Measure, tally: Tally) -> None:
    tally.recovery_seconds, wrong = _run(lambda directory: kill_often(measure.kills, directory, _say))
    tally.kills = measure.kills
    tally.wrong += wrong
    if tally.recovery(0.99) >= RECOVERY_LIMIT_SECONDS:
        tally.wrong.append(f"kill -9: recovery took {tally.recovery(0.99):.2f} s (p99)")


def _restarts(measure: Measure, tally: Tally) -> None:
    toll = _run(lambda directory: restart_often(measure.restarts, directory, _say))
    tally.restarts, tally.acknowledged, tally.lost = toll.restarts, toll.acknowledged, toll.lost
    if toll.violations or toll.restarts < measure.restarts:
        tally.wrong.append(f"restarts of the database: {toll}")


def _seeds(measure: Measure, tally: Tally, until: float) -> None:
    tally.seeds_wanted = measure.seeds
    last = measure.first + measure.seeds
    for first in range(measure.first, last, CHUNK * measure.workers):
        if time.monotonic() > until:
            _say(f"seeds: the {measure.minutes:.0f} minutes are over")
            return
        summary = simulator.run(range(first, min(last, first + CHUNK * measure.workers)), measure.workers)
        tally.seeds += summary.seeds
        tally.wrong += [f"seed {seed}: {words}" for seed, found in summary.failures.items() for words in found]
        _say(f"seeds: {tally.seeds:,} of {measure.seeds:,}, {summary.violations} violations in these")


def _run(work: Callable[[Path], Coroutine[Any, Any, T]]) -> T:
    """In a loop and a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="assent-torture-") as directory:
        return asyncio.run(work(Path(directory)))


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
