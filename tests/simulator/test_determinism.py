"""The same seed is the same history, to the letter, whatever was played before it."""

from tests.simulator.seeds import reports_of

SEEDS = [3, 11, 42, 57]


def test_a_seed_is_the_same_history_every_time(database_url: str) -> None:
    first = {report["seed"]: report["trace"] for report in reports_of(SEEDS, database_url, "--trace")}
    again = {report["seed"]: report["trace"] for report in reports_of(SEEDS[::-1], database_url, "--trace")}
    assert all(len(trace) > 20 for trace in first.values())
    for seed in SEEDS:
        assert first[seed] == again[seed], f"seed {seed}"
