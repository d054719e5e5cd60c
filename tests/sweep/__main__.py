"""`python -m tests.sweep [SCENARIO [FAILPOINTS]]`: sweeps all, sweeps one, or plays one with these failpoints."""

import argparse
import os
import sys

from tests.simulator.worker import physical_at
from tests.sweep.processes import NAMES, report_of, run
from tests.sweep.scenarios import SCENARIOS
from tests.sweep.sweeping import Findings, play, sweep


def main() -> int:
    """0: nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.sweep", description=__doc__)
    parser.add_argument("scenario", nargs="?", choices=NAMES)
    parser.add_argument("failpoints", nargs="?", help="NAME:N:ACTION, comma-separated; none: without any fault")
    parser.add_argument("--arrivals", type=int, default=1_000, help="how many of each failpoint at most")
    parser.add_argument("--actions", default="crash,lose", help="what happens at them")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes to sweep in")
    parser.add_argument("--database", default="", help="the URL of one to use; none: one of its own")
    parser.add_argument("--report", action="store_true", help="print one scenario's findings as JSON")
    given = parser.parse_args()
    actions = given.actions.split(",")
    if given.scenario is None:
        findings = run(arrivals=given.arrivals, actions=actions, workers=given.workers, tell=_tell)
        print(f"never fired: {', '.join(findings.never_fired) or 'none'}")
        return 1 if findings.wrong or findings.never_fired else 0
    [scenario] = [each for each in SCENARIOS if each.name == given.scenario]
    with physical_at(given.database) as physical:
        physical.prepare()
        if given.failpoints is not None:
            findings, history = play(physical, scenario, given.failpoints)
            print("\n".join(history.trace))
        else:
            findings = sweep(physical, scenario, arrivals=given.arrivals, actions=actions)
    if given.report:
        print(report_of(findings))
        return 0
    _tell(scenario.name, findings)
    return 1 if findings.wrong else 0


def _tell(name: str, findings: Findings) -> None:
    points = {point for _, point in findings.fired}
    print(f"{name}: {findings.plays} plays, {len(points)} failpoints, {len(findings.wrong)} wrong", flush=True)
    for played, wrong in findings.wrong.items():
        print(f"  {played}", *wrong, sep="\n    ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
