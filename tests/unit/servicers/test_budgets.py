"""A limit that a request names is kept as it is said, however small."""

import pytest
from google.protobuf.duration_pb2 import Duration

from gen.assent.v1.budget_pb2 import Budget
from orchestrator.servicers.budgets import read_budget


@pytest.mark.parametrize(("nanos", "micros"), [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (10**18, 10**15)])
def test_a_limit_below_a_microsecond_is_not_none(nanos: int, micros: int) -> None:
    said = Duration()
    said.FromNanoseconds(nanos)
    assert read_budget(Budget(work_duration=said), "budget").work_duration == micros
