"""The table says what was found, and the measure what is asked for."""

import pytest

from tests.simulator.seeds import DOUBLE, STUCK
from tests.torture.__main__ import EVERY_ARRIVAL, Measure
from tests.torture.deaths import EVERY_DEATH
from tests.torture.tally import Tally


def test_a_table_has_what_was_counted() -> None:
    tally = Tally(seeds=1_234, seeds_wanted=10_000, wrong=[f"seed 1: {STUCK}: x", f"sweep a: step y {DOUBLE}"])
    tally.recovery_seconds = [n / 100 for n in range(1, 101)]
    tally.lost, tally.acknowledged = 1, 2_000
    rows = {cells[1].strip(): cells[2].strip() for line in tally.table().splitlines() if (cells := line.split("|"))}
    assert rows["seeds run"] == "1,234 of 10,000"
    assert (rows["violations"], rows["stuck runs"], rows["double starts"]) == ("2", "1", "1")
    assert rows["recovery after kill -9"].startswith("p50 0.51 s, p99 1.00 s")
    assert rows["lost acknowledged commands"].startswith("1 of 2,000")


def test_without_a_word_everything_is_done_at_length(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEEDS", "FIRST", "ARRIVALS", "DEATHS", "KILLS", "RESTARTS", "MINUTES", "WORKERS"):
        monkeypatch.delenv(name, raising=False)
    measure = Measure.told()
    assert (measure.seeds, measure.restarts, measure.deaths) == (10_000, 50, len(EVERY_DEATH))
    assert (measure.arrivals, measure.actions) == (EVERY_ARRIVAL, ("crash", "lose"))


def test_few_seeds_make_everything_short_but_what_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDS", "50")
    monkeypatch.setenv("RESTARTS", "7")
    measure = Measure.told()
    assert (measure.seeds, measure.restarts, measure.arrivals, measure.actions) == (50, 7, 1, ("crash",))
