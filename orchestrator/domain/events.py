"""The durable events of a session's log, and how the log is chained; nothing here decides when one is due.

Each class is named as its field in the oneof of SessionEvent (CamelCase to snake_case) and has its fields.
"""

import hashlib
import re

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records import (
    Approval,
    Artifact,
    Failure,
    Grant,
    Message,
    Plan,
    Subtask,
    Usage,
    WaitingFor,
    Workspace,
)


@dataclass(frozen=True, slots=True)
class SessionCreated:
    title: str
    agent: str
    creator: str
    labels: dict[str, str]
    workspace: Workspace


@dataclass(frozen=True, slots=True)
class SessionStateChanged:
    from_state: str
    trigger: str
    to_state: str
    run_id: str = ""
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MessageCreated:
    message: Message


@dataclass(frozen=True, slots=True)
class AgentSwitched:
    from_agent: str
    to_agent: str
    actor: str


@dataclass(frozen=True, slots=True)
class RunQueued:
    run_id: str
    message_id: str
    behind_run_id: str
    agent: str
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class RunStarted:
    run_id: str
    message_id: str
    agent: str
    goal: str


@dataclass(frozen=True, slots=True)
class RunStateChanged:
    run_id: str
    from_state: str
    trigger: str
    to_state: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RunFinished:
    run_id: str
    from_state: str
    trigger: str
    state: str
    final_message_id: str
    usage: Usage
    actor: str = ""
    reason: str = ""
    failure: Failure | None = None
    retries: int = 0
    faults: int = 0
    losses: int = 0


@dataclass(frozen=True, slots=True)
class PlanDrafted:
    plan: Plan
    subtasks: list[Subtask]


@dataclass(frozen=True, slots=True)
class PlanStateChanged:
    plan_id: str
    run_id: str
    version: int
    from_state: str
    trigger: str
    to_state: str
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SubtaskStateChanged:
    subtask_id: str
    key: str
    plan_id: str
    run_id: str
    agent: str
    attempt: int
    from_state: str
    trigger: str
    to_state: str
    actor: str = ""
    reason: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class AttemptSuperseded:
    run_id: str
    subtask_id: str
    attempt_id: str
    reason: str
    not_before_time: int = 0


@dataclass(frozen=True, slots=True)
class StepStarted:
    step_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    kind: str
    agent: str
    dispatch_number: int
    executor_instance: str
    model: str = ""
    tool: str = ""
    arguments_json: str = ""
    approval_id: str = ""
    grant_id: str = ""


@dataclass(frozen=True, slots=True)
class StepWaiting:
    step_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    kind: str
    agent: str
    tool: str
    waiting_for: WaitingFor


@dataclass(frozen=True, slots=True)
class StepFinished:
    step_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    kind: str
    agent: str
    dispatch_number: int
    trigger: str
    state: str  # the state it is left in; PENDING or APPROVED: it will be tried again
    tool: str = ""
    model: str = ""
    usage: Usage | None = None
    latency: int = 0
    is_error: bool = False
    output_preview: str = ""  # the first 2,000 characters of the tool's or the model's words
    actor: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class BudgetReached:
    run_id: str
    limit_name: str
    limit: int
    used: int
    approval_id: str


@dataclass(frozen=True, slots=True)
class ApprovalRequested:
    approval: Approval


@dataclass(frozen=True, slots=True)
class ApprovalResolved:
    approval_id: str
    kind: str
    run_id: str
    state: str
    trigger: str
    action: str = ""
    decider: str = ""
    digest: str = ""
    feedback: str = ""
    plan_id: str = ""
    step_id: str = ""
    subtask_id: str = ""
    reason: str = ""
    response_json: str = ""
    edited_arguments_json: str = ""


@dataclass(frozen=True, slots=True)
class VoteRecorded:
    approval_id: str
    kind: str
    run_id: str
    voter: str
    action: str
    feedback: str
    votes: int
    needed: int


@dataclass(frozen=True, slots=True)
class ApprovalReminder:
    approval_id: str
    kind: str
    run_id: str
    number: int
    expire_time: int


@dataclass(frozen=True, slots=True)
class GrantChanged:
    grant: Grant
    trigger: str  # made, revoked or expired
    actor: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactRecorded:
    artifact: Artifact


@dataclass(frozen=True, slots=True)
class ToolCallReady:
    step_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    agent: str
    tool: str
    arguments_json: str
    approval_id: str
    deadline_time: int
    grant_id: str = ""


@dataclass(frozen=True, slots=True)
class ToolCallClaimed:
    step_id: str
    run_id: str
    client_id: str
    actor: str
    lease_expire_time: int


@dataclass(frozen=True, slots=True)
class ToolResultRecorded:
    step_id: str
    run_id: str
    client_id: str
    actor: str
    tool: str
    is_error: bool
    output_preview: str  # the first 2,000 characters of the result


Event = (
    SessionCreated
    | SessionStateChanged
    | SessionClosed
    | MessageCreated
    | AgentSwitched
    | RunQueued
    | RunStarted
    | RunStateChanged
    | RunFinished
    | PlanDrafted
    | PlanStateChanged
    | SubtaskStateChanged
    | AttemptSuperseded
    | StepStarted
    | StepWaiting
    | StepFinished
    | BudgetReached
    | ApprovalRequested
    | ApprovalResolved
    | VoteRecorded
    | ApprovalReminder
    | GrantChanged
    | ArtifactRecorded
    | ToolCallReady
    | ToolCallClaimed
    | ToolResultRecorded
)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as the log holds it; `payload_json` is `{"<event_name>":{…}}`, the exact text that was hashed."""

    tenant: str
    session_id: str
    sequence: int
    event_time: int
    trace_id: str
    payload_json: str
    hash: str
    previous_hash: str


def event_name(event_class: type[Event]) -> str:
    """The event's field in the contract's oneof."""
    return _NAMES[event_class]


def chain_hash(previous_hash: str, sequence: int, event_time: int, payload_json: str) -> str:
    """The hash that chains an event to the one before it; anyone can recompute it from the API alone."""
    text = f"{previous_hash}\n{sequence}\n{event_time}\n{payload_json}"
    return hashlib.sha256(text.encode()).hexdigest()


_NAMES: dict[type, str] = {cls: re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower() for cls in Event.__args__}
