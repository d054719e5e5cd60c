"""A node of a plan, and what it must leave behind."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records.failure import Failure, RetryPolicy
from orchestrator.domain.states import SubtaskState


@dataclass(frozen=True, slots=True)
class ExpectedArtifact:
    """What a subtask must leave in the workspace."""

    name: str
    media_type: str = ""  # empty: any
    schema: str = ""  # the name of a JSON Schema of the catalog; empty: none
    path: str = ""  # empty: the name
    schema_json: str = ""  # the JSON Schema itself; empty: none


@dataclass(frozen=True, slots=True)
class Subtask:
    """A node of a plan, done by one agent from its first step to its last."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    plan_id: str
    key: str
    title: str
    instructions: str
    agent: str
    position: int
    depends_on: list[str] = field(default_factory=list)  # keys
    state: str = SubtaskState.PENDING
    attempts: int = 0
    not_before_time: int = 0
    result: str = ""
    failure: Failure = field(default_factory=Failure)
    start_time: int = 0
    end_time: int = 0
    retry_policy: RetryPolicy | None = None  # None: its agent's
    losses: int = 0
    artifacts: list[ExpectedArtifact] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    carried_subtask_id: str = ""  # of an earlier version of the plan, whose result this is
    skip_reason: str = ""
