"""A model call or a tool call, and what came of it."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records.failure import Failure
from orchestrator.domain.records.usage import Usage
from orchestrator.domain.states import StepState


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as a model's reply proposed it: the exact argument text."""

    call_id: str
    tool: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model call came to."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to; `content` is what the model reads."""

    content: str = ""
    structured_json: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """What keeps a step that is due from being dispatched."""

    reason: str  # NO_EXECUTOR or NO_SLOT
    needs: str  # what an executor must have for it, in words
    since_time: int


@dataclass(frozen=True, slots=True)
class Step:
    """One model call or one tool call: the unit the executor performs, one line of the ledger."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    attempt_id: str
    subtask_id: str
    kind: str  # MODEL or TOOL
    state: str
    agent: str
    ordinal: int  # in its attempt: 1, 2, 3 …
    # model
    model: str = ""
    reply: ModelReply | None = None
    feedback: str = ""  # what the model is told after this reply: its answer did not do, and why
    # tool
    tool: str = ""
    call_id: str = ""
    model_step_id: str = ""  # the reply that proposed the call
    replaces_step_id: str = ""  # the call as it was before a person edited it
    arguments_json: str = ""
    side_effect: str = ""  # READ_ONLY, IDEMPOTENT or NON_IDEMPOTENT
    schema_digest: str = ""
    policy_rule: str = ""  # the rule that decided: allow, ask or deny, and its name
    approval_id: str = ""
    approval_preimage: str = ""
    grant_id: str = ""  # what allowed it in a person's stead
    result: ToolResult | None = None
    # dispatch
    dispatch_number: int = 0  # rises by one with each dispatch, over the step's life
    executor_instance: str = ""
    executor_address: str = ""
    dispatch_time: int = 0  # of the last dispatch
    deadline_time: int = 0
    doubt_number: int = 0  # the last dispatch that nobody knows the end of; what follows it, a person has allowed
    faults: int = 0  # transient faults so far
    refusals: int = 0  # how often an executor did not take it
    losses: int = 0  # how often its executor died, or was silent past the deadline
    not_before_time: int = 0
    waiting_for: WaitingFor | None = None  # said once it has waited for more than a moment
    # a client's tool
    client_id: str = ""  # which client has claimed the call, or handed in its result
    claimer: str = ""  # the principal that client speaks for
    lease_expire_time: int = 0  # until when nobody else may take it
    # outcome
    failure: Failure = field(default_factory=Failure)
    usage: Usage = field(default_factory=Usage)
    latency: int = 0  # microseconds
    provider_request_id: str = ""
    create_time: int = 0
    start_time: int = 0
    end_time: int = 0


_DONE = frozenset((StepState.SUCCEEDED, StepState.FAILED, StepState.REJECTED, StepState.EDITED, StepState.CANCELLED))


def is_done(step: Step) -> bool:
    """Terminal: the step has its one final result."""
    return step.state in _DONE
