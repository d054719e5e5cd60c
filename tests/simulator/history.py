"""What happened in a world, as far as the checks need it: plain data, so that tests can spoil it."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Approval, Artifact, Attempt, Grant, Message, Plan, Run, Session, Step, Subtask

Key = tuple[str, str]


@dataclass
class Written:
    """A change set as the server answered it; `owner` and `epoch` are what it claimed to hold, `by` the process."""

    time: float
    by: str
    session_id: str
    expected_sequence: int
    owner: str
    epoch: int
    claim_for: str
    release: bool
    outcome: str
    epoch_after: int
    sequence_after: int


@dataclass
class Started:
    """A tool that an executor really began to run."""

    time: float
    instance: str
    step_id: str
    epoch: int
    dispatch: int
    tool: str
    arguments_json: str


@dataclass
class Command:
    """What a client asked for under one request id, and every answer it got."""

    request_id: str
    path: str
    who: str
    request: Any
    answers: list[Any] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    uncertain: bool = False  # at least one try had no answer


@dataclass
class View:
    """What a watcher saw of a session: (sequence, payload) in the order they came."""

    session_id: str
    after: int
    events: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Rows:
    """The tables as they were left."""

    sessions: list[Session] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    subtasks: list[Subtask] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    session_grants: list[Grant] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    contents: set[tuple[str, str]] = field(default_factory=set)  # session, SHA-256
    messages: list[Message] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # caller, request id, answer
    logs: dict[str, list[LoggedEvent]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class History:
    seed: int
    written: list[Written] = field(default_factory=list)
    started: list[Started] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    rows: Rows = field(default_factory=Rows)
    unrest: list[str] = field(default_factory=list)  # what had not come to rest long after the last fault
    open_transactions: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)  # errors that the services logged, or that nobody planned
    not_idle: list[str] = field(default_factory=list)  # what the rules would still do at rest
    miscounted: list[str] = field(default_factory=list)  # what does not go by the tenant's limit of runs
    trace: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: float = 0.0  # of the world's time
