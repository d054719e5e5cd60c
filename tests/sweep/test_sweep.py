"""Whatever dies at whichever place, every scenario keeps every promise; `make torture` goes through all arrivals."""

import pytest

from tests.sweep.processes import NAMES, run
from tests.sweep.sweeping import Findings

_OF_PEOPLE = ("votes", "review", "replan", "grants", "gates", "question")
ARRIVALS = dict.fromkeys(("retry", "handover", "crowd", "hammer", *_OF_PEOPLE), 1)
"""Where a play takes long: one at each failpoint; elsewhere two."""


@pytest.fixture(scope="module")
def found() -> dict[str, Findings]:
    """What this module's tests have found so far, by scenario."""
    return {}


def find(found: dict[str, Findings], name: str, database_url: str) -> Findings:
    if name not in found:
        found[name] = run([name], arrivals=ARRIVALS.get(name, 2), actions=["crash"], database_url=database_url)
    return found[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_that_dies_anywhere_keeps_every_promise(
    name: str, found: dict[str, Findings], database_url: str
) -> None:
    findings = find(found, name, database_url)
    assert not findings.wrong, "\n".join(next(iter(findings.traces.values())))
    assert findings.plays > 25


def test_there_is_no_failpoint_that_nobody_comes_to(found: dict[str, Findings], database_url: str) -> None:
    everything = Findings()
    for name in NAMES:
        everything.take(find(found, name, database_url))
    assert everything.never_fired == []
