"""A version of a plan; its nodes are subtasks."""

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.states import PlanState


@dataclass(frozen=True, slots=True)
class Plan:
    """A versioned graph of subtasks; a DRAFT until a person approves exactly this digest."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    version: int
    title: str
    summary: str
    author: str  # an agent's name or a principal
    parallel_limit: int = 1
    state: str = PlanState.DRAFT
    digest: str = ""
    create_time: int = 0
    approve_time: int = 0
    start_time: int = 0
    end_time: int = 0
