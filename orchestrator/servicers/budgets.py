"""Reading the limits that a request names; those this version does not keep are refused by name."""

from gen.assent.v1 import budget_pb2
from orchestrator.domain.errors import InvalidInput, Violation
from orchestrator.domain.records import Budget


def read_budget(said: budget_pb2.Budget, path: str) -> Budget:
    """Raises InvalidInput."""
    if later := [field.name for field, _ in said.ListFields() if field.name != "work_duration"]:
        raise InvalidInput([Violation(f"{path}.{name}", "is not supported by this version") for name in later])
    # Rounded up: what is less than a microsecond is a limit all the same, and 0 would be none.
    return Budget(work_duration=-(-said.work_duration.ToNanoseconds() // 1000))
