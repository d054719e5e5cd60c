"""What can be wrong with a request or a state: one class per meaning, no codes, no protobuf.

The servicers' error table turns each class into a gRPC code and a reason of the contract.
"""

from dataclasses import dataclass, field
from typing import Self


class DomainError(Exception):
    """A refusal the caller can understand. Nothing was written."""


@dataclass
class NotFound(DomainError):
    """The tenant has no such thing (another tenant's thing is not found either)."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"no {self.kind} {self.id!r}"


@dataclass
class WrongState(DomainError):
    """A machine has no such transition from the state it is in."""

    machine: str
    id: str
    state: str
    trigger: str
    accepting: tuple[str, ...]

    def __str__(self) -> str:
        would = ", ".join(self.accepting) or "none"
        return f"{self.machine} {self.id} is {self.state}; {self.trigger} is possible in: {would}"


@dataclass(frozen=True)
class Violation:
    """One thing wrong with one field of a request; `field` is a path such as subtasks[2].depends_on."""

    field: str
    description: str


@dataclass
class InvalidInput(DomainError):
    """Fields of a request that break a rule the contract's constraints cannot say."""

    violations: list[Violation]

    def __str__(self) -> str:
        return "; ".join(f"{v.field}: {v.description}" for v in self.violations)

    def within(self, part: str) -> Self:
        """The same of a request that holds what was checked as its field `part`."""
        return type(self)([Violation(f"{part}.{v.field}", v.description) for v in self.violations])


@dataclass
class InvalidJson(InvalidInput):
    """A text that must be JSON is not, or is JSON that two readers could understand differently."""


@dataclass
class UnknownAgent(InvalidInput):
    """The catalog has no such agent, or none that may be addressed."""


@dataclass
class UnknownPolicy(InvalidInput):
    """The catalog has no such policy."""


@dataclass
class InvalidPageToken(InvalidInput):
    """The page token is not one that this list gave for this filter."""


@dataclass
class WorkspaceNotAllowed(InvalidInput):
    """The directory or root is not one that sessions may work in."""


@dataclass
class InvalidPlan(InvalidInput):
    """A plan whose graph is broken: cycle, unknown key, duplicate, too deep, too large."""


@dataclass
class StaleVersion(DomainError):
    """The request names a version that is not the newest: somebody changed the thing meanwhile."""

    kind: str
    newest_id: str
    newest_version: int
    newest_digest: str

    def __str__(self) -> str:
        return f"the newest {self.kind} is version {self.newest_version}, {self.newest_id}: look at it first"


@dataclass
class RequestIdReused(DomainError):
    """The request id was used before by this caller with other content."""

    request_id: str

    def __str__(self) -> str:
        return f"request_id {self.request_id} was used before with other content"


@dataclass
class DigestMismatch(DomainError):
    """The decision names another digest than the approval's: something else was seen than would run."""

    approval_id: str
    expected: str
    given: str

    def __str__(self) -> str:
        return f"approval {self.approval_id} is about digest {self.expected}, not {self.given or 'an empty one'}"


@dataclass
class ApprovalAlreadyResolved(DomainError):
    """Somebody (or expiry, cancel, a newer version) settled the approval first."""

    approval_id: str
    state: str
    action: str
    decided_by: str
    decide_time: int

    def __str__(self) -> str:
        who = f" by {self.decided_by}" if self.decided_by else ""
        what = f" with {self.action}" if self.action else ""
        return f"approval {self.approval_id} is already {self.state}{what}{who}"


@dataclass
class ActionNotAllowed(DomainError):
    """The approval's kind does not take this action."""

    approval_id: str
    action: str
    allowed: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        return f"approval {self.approval_id} does not take {self.action}; it takes {', '.join(self.allowed)}"


@dataclass
class DeciderNotAllowed(DomainError):
    """The approval's terms let only people of other roles decide."""

    approval_id: str
    decider: str
    roles: tuple[str, ...]

    def __str__(self) -> str:
        may = ", ".join(self.roles)
        return f"approval {self.approval_id} is not {self.decider}'s to decide; that takes one of the roles: {may}"


@dataclass
class SelfApproval(DomainError):
    """Whoever asked for it, or wrote the plan that it is about, may not decide on it."""

    approval_id: str
    decider: str
    wrote_it: bool = False

    def __str__(self) -> str:
        did = "wrote the plan that" if self.wrote_it else "asked for what"
        return f"{self.decider} {did} approval {self.approval_id} is about: somebody else must decide"


@dataclass
class GrantNotOffered(DomainError):
    """The decision asks to remember, and of this approval nothing may be remembered."""

    approval_id: str
    why: str = "this call is to be asked about each time"

    def __str__(self) -> str:
        return f"nothing can be remembered of approval {self.approval_id}: {self.why}"


@dataclass
class ClaimedByAnother(DomainError):
    """Another client has taken the tool call, and its lease lives."""

    step_id: str
    client_id: str

    def __str__(self) -> str:
        return f"tool call {self.step_id} is claimed by client {self.client_id!r}"


@dataclass
class SessionBusy(DomainError):
    """The session refuses messages while a run is active (its busy policy is REJECT)."""

    session_id: str
    run_id: str

    def __str__(self) -> str:
        return f"session {self.session_id} is busy with run {self.run_id}"


@dataclass
class LimitExceeded(DomainError):
    """A bound of the system was reached: queue, approvals, steps, bytes."""

    limit: str
    maximum: int
    field: str = ""

    def __str__(self) -> str:
        return f"{self.limit} is limited to {self.maximum}"


@dataclass
class NotYetSupported(DomainError):
    """The contract has it, this version of the orchestrator does not do it yet."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} is not supported by this version"


class StorageUnavailable(DomainError):
    """The database did not answer in time; whether anything was written is settled by repeating the request id."""
