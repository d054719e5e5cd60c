"""Sweeping in processes of their own, one scenario after another in each.

Processes, because the order of Python's sets depends on a number that must be the same each time: PYTHONHASHSEED.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.sweep.scenarios import SCENARIOS
from tests.sweep.sweeping import Findings

ROOT = Path(__file__).parents[2]
NAMES = tuple(scenario.name for scenario in SCENARIOS)


def run(
    names: Sequence[str] = NAMES,
    *,
    arrivals: int = 1_000,
    actions: Sequence[str] = ("crash", "lose"),
    workers: int = 1,
    database_url: str = "",
    tell: Callable[[str, Findings], None] = lambda _name, _findings: None,
) -> Findings:
    """Sweep these scenarios, up to so many arrivals at each failpoint; `tell` hears of each that is done."""
    everything = Findings()
    with ThreadPoolExecutor(workers) as pool:
        sweeps = {pool.submit(_sweep, name, arrivals, actions, database_url): name for name in names}
        for done in as_completed(sweeps):
            findings = done.result()
            tell(sweeps[done], findings)
            everything.take(findings)
    return everything


def _sweep(name: str, arrivals: int, actions: Sequence[str], database_url: str) -> Findings:
    asked = ["--report", "--arrivals", str(arrivals), "--actions", ",".join(actions), "--database", database_url]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.sweep", name, *asked], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the sweep of {name} failed:\n{done.stderr[-4000:]}")
    report = json.loads(done.stdout)
    fired = Counter({(name, point): times for point, times in report["fired"].items()})
    return Findings(report["plays"], fired, report["wrong"], report["traces"])


def report_of(findings: Findings) -> str:
    """One scenario's findings, as `_sweep` reads them."""
    fired = {point: times for (_, point), times in findings.fired.items()}
    report = {"plays": findings.plays, "fired": fired, "wrong": findings.wrong, "traces": findings.traces}
    return json.dumps(report)
