"""One try by one agent."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records.failure import Failure
from orchestrator.domain.states import AttemptState


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try by one agent: a conversation of steps until a final answer."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    purpose: str  # ROUTING, PLANNING, SUBTASK or ANSWER
    agent: str
    number: int
    subtask_id: str = ""
    state: str = AttemptState.RUNNING
    feedback: str = ""  # what the agent is told about the try before: errors, or a person's words
    result: str = ""
    failure: Failure = field(default_factory=Failure)
    create_time: int = 0
    end_time: int = 0
    losses: int = 0  # executors that died under its steps
    retry_time: int = 0  # failed: when the next attempt begins by itself; 0: none does
    heeds_approval_id: str = ""  # the decision that had it begin, whose words its feedback has; empty: none did
