"""The first seeds keep every promise; `make torture` plays many more."""

import pytest

from tests.simulator import run

SEEDS, CHUNK = 200, 50


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds_keep_every_promise(first: int, database_url: str) -> None:
    summary = run(range(first, first + CHUNK), database_url=database_url)
    assert not summary.failures, f"{summary}\n\n" + "\n".join(summary.traces[min(summary.failures)])
    assert summary.seeds == CHUNK
