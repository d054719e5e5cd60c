"""Reading the limits that a request names; those this version does not keep are refused by name."""

from gen.assent.v1 import budget_pb2
from orchestrator.domain.budgets import LIMITS
from orchestrator.domain.records import Budget
from orchestrator.servicers.later import refuse_later

_LATER = [field.name for field in budget_pb2.Budget.DESCRIPTOR.fields if field.name not in LIMITS]


def read_budget(said: budget_pb2.Budget, path: str) -> Budget:
    """Raises InvalidInput."""
    refuse_later((f"{path}.", said, _LATER))
    # Rounded up: what is less than a microsecond is a limit all the same, and 0 would be none.
    work_duration = -(-said.work_duration.ToNanoseconds() // 1000)
    return Budget(total_tokens=said.total_tokens, calls=said.calls, work_duration=work_duration)
