"""Every state machine of Assent, each as one table; nothing here knows why a transition is due.

A table maps (state, trigger) to the next state. A miss is `WrongState`. A terminal state is one without
exits, so "terminal" is never written down twice. CHECK constraints and the diagrams in docs/ come from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from orchestrator.domain.errors import WrongState


class SessionState(StrEnum):
    IDLE = "IDLE"
    CLASSIFY = "CLASSIFY"
    PLAN_REQUIRED = "PLAN_REQUIRED"
    ARCHITECT_PLANNING = "ARCHITECT_PLANNING"
    PLAN_REVIEW = "PLAN_REVIEW"
    PLAN_EXECUTION = "PLAN_EXECUTION"
    EXECUTION = "EXECUTION"
    ERROR_HANDLING = "ERROR_HANDLING"
    COMPLETED = "COMPLETED"
    CLOSED = "CLOSED"


class RunState(StrEnum):
    CREATED = "CREATED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    RESUMED = "RESUMED"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class PlanState(StrEnum):
    DRAFT = "DRAFT"
    APPROVED = "APPROVED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    SUPERSEDED = "SUPERSEDED"


class SubtaskState(StrEnum):
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    VALIDATING = "VALIDATING"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"


class AttemptState(StrEnum):
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class StepState(StrEnum):
    PENDING = "PENDING"
    PROPOSED = "PROPOSED"
    AWAITING_APPROVAL = "AWAITING_APPROVAL"
    APPROVED = "APPROVED"
    READY = "READY"
    DISPATCHED = "DISPATCHED"
    IN_DOUBT = "IN_DOUBT"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    EDITED = "EDITED"
    CANCELLED = "CANCELLED"


class ApprovalState(StrEnum):
    PENDING = "PENDING"
    RESOLVED = "RESOLVED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True)
class Machine:
    """One state machine: its name and its table of (state, trigger) → state."""

    name: str
    table: Mapping[tuple[str, str], str]

    def advance(self, subject_id: str, state: str, trigger: str) -> str:
        """The state that `trigger` leads to. Raises WrongState where the table has no such row."""
        to = self.table.get((state, trigger))
        if to is None:
            raise WrongState(self.name, subject_id, state, trigger, self.accepting(trigger))
        return to

    def accepting(self, trigger: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for s, t in self.table if t == trigger))

    @cached_property
    def states(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([s for s, _ in self.table] + list(self.table.values())))

    @cached_property
    def triggers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(t for _, t in self.table))

    @cached_property
    def terminal(self) -> frozenset[str]:
        return frozenset(self.states) - {s for s, _ in self.table}


def _machine(name: str, *rows: tuple[tuple[StrEnum, ...], str, StrEnum]) -> Machine:
    """Each row: the states it leaves, the trigger, the state it enters."""
    return Machine(name, {(source.value, trigger): to.value for sources, trigger, to in rows for source in sources})


_S = SessionState
_RESTING = (_S.IDLE, _S.COMPLETED)
_BUSY = (
    _S.CLASSIFY,
    _S.PLAN_REQUIRED,
    _S.ARCHITECT_PLANNING,
    _S.PLAN_REVIEW,
    _S.PLAN_EXECUTION,
    _S.EXECUTION,
    _S.ERROR_HANDLING,
)
SESSION = _machine(
    "session",
    (_RESTING, "message_received", _S.CLASSIFY),
    (_RESTING, "message_to_agent", _S.EXECUTION),
    (_RESTING, "message_to_architect", _S.PLAN_REQUIRED),
    (_RESTING, "plan_submitted", _S.PLAN_REVIEW),
    (_RESTING, "workflow_started", _S.PLAN_EXECUTION),
    ((_S.CLASSIFY,), "is_atomic", _S.EXECUTION),
    ((_S.CLASSIFY,), "is_complex", _S.PLAN_REQUIRED),
    ((_S.CLASSIFY,), "classify_failed", _S.IDLE),
    ((_S.PLAN_REQUIRED,), "routed_to_architect", _S.ARCHITECT_PLANNING),
    ((_S.ARCHITECT_PLANNING,), "plan_drafted", _S.PLAN_REVIEW),
    ((_S.ARCHITECT_PLANNING,), "planning_failed", _S.ERROR_HANDLING),
    ((_S.PLAN_REVIEW,), "plan_approved", _S.PLAN_EXECUTION),
    ((_S.PLAN_REVIEW,), "plan_rejected", _S.IDLE),
    ((_S.PLAN_REVIEW,), "changes_requested", _S.ARCHITECT_PLANNING),
    ((_S.PLAN_REVIEW,), "plan_revised", _S.PLAN_REVIEW),
    ((_S.PLAN_EXECUTION, _S.EXECUTION), "run_completed", _S.COMPLETED),
    ((_S.PLAN_EXECUTION, _S.EXECUTION), "subtask_failed", _S.ERROR_HANDLING),
    ((_S.ERROR_HANDLING,), "planning_retried", _S.ARCHITECT_PLANNING),
    ((_S.ERROR_HANDLING,), "subtasks_resumed", _S.PLAN_EXECUTION),
    ((_S.ERROR_HANDLING,), "execution_resumed", _S.EXECUTION),
    ((_S.ERROR_HANDLING,), "replan", _S.ARCHITECT_PLANNING),
    (_BUSY, "run_cancelled", _S.IDLE),
    (_BUSY, "run_failed", _S.IDLE),
    ((*_RESTING, *_BUSY), "closed", _S.CLOSED),
)

_R = RunState
_RUN_OPEN = (_R.CREATED, _R.RUNNING, _R.WAITING, _R.RESUMED, _R.PAUSED)
RUN = _machine(
    "run",
    ((_R.CREATED,), "started", _R.RUNNING),
    ((_R.RUNNING, _R.RESUMED), "waiting", _R.WAITING),
    ((_R.WAITING, _R.PAUSED), "resumed", _R.RESUMED),
    ((_R.RESUMED,), "running", _R.RUNNING),
    ((_R.CREATED,), "pause_requested", _R.CREATED),
    ((_R.CREATED,), "pause_withdrawn", _R.CREATED),
    ((_R.RUNNING,), "pause_requested", _R.RUNNING),
    ((_R.RUNNING,), "pause_withdrawn", _R.RUNNING),
    ((_R.RUNNING, _R.WAITING, _R.RESUMED), "paused", _R.PAUSED),
    (_RUN_OPEN, "completed", _R.COMPLETED),
    (_RUN_OPEN, "failed", _R.FAILED),
    (_RUN_OPEN, "cancelled", _R.CANCELLED),
)

_P = PlanState
PLAN = _machine(
    "plan",
    ((_P.DRAFT,), "approved", _P.APPROVED),
    ((_P.DRAFT,), "rejected", _P.REJECTED),
    ((_P.DRAFT,), "superseded", _P.SUPERSEDED),
    ((_P.APPROVED,), "started", _P.IN_PROGRESS),
    ((_P.IN_PROGRESS,), "completed", _P.COMPLETED),
    ((_P.IN_PROGRESS,), "failed", _P.FAILED),
    ((_P.IN_PROGRESS,), "replanned", _P.SUPERSEDED),
    ((_P.DRAFT, _P.APPROVED, _P.IN_PROGRESS), "cancelled", _P.CANCELLED),
)

_T = SubtaskState
SUBTASK = _machine(
    "subtask",
    ((_T.PENDING,), "started", _T.RUNNING),
    ((_T.RUNNING,), "answered", _T.VALIDATING),
    ((_T.RUNNING, _T.VALIDATING), "gate_asked", _T.AWAITING_APPROVAL),
    ((_T.RUNNING, _T.VALIDATING, _T.AWAITING_APPROVAL), "succeeded", _T.SUCCEEDED),
    ((_T.VALIDATING, _T.AWAITING_APPROVAL), "changes_requested", _T.RUNNING),
    ((_T.RUNNING,), "retry_scheduled", _T.PENDING),
    ((_T.RUNNING, _T.VALIDATING, _T.AWAITING_APPROVAL), "failed", _T.FAILED),
    ((_T.FAILED,), "retried", _T.PENDING),
    ((_T.FAILED,), "skipped", _T.SKIPPED),
    (
        (_T.PENDING, _T.RUNNING, _T.VALIDATING, _T.AWAITING_APPROVAL, _T.FAILED),
        "cancelled",
        _T.CANCELLED,
    ),
)

_A = AttemptState
ATTEMPT = _machine(
    "attempt",
    ((_A.RUNNING,), "succeeded", _A.SUCCEEDED),
    ((_A.RUNNING,), "failed", _A.FAILED),
    ((_A.RUNNING,), "cancelled", _A.CANCELLED),
)

_X = StepState
MODEL_STEP = _machine(
    "model step",
    ((_X.PENDING,), "dispatched", _X.DISPATCHED),
    ((_X.DISPATCHED,), "lost", _X.PENDING),
    ((_X.DISPATCHED,), "refused", _X.PENDING),
    ((_X.DISPATCHED,), "unknown", _X.PENDING),
    ((_X.DISPATCHED,), "transient", _X.PENDING),
    ((_X.DISPATCHED,), "succeeded", _X.SUCCEEDED),
    ((_X.DISPATCHED,), "failed", _X.FAILED),
    ((_X.PENDING, _X.DISPATCHED), "cancelled", _X.CANCELLED),
)
TOOL_STEP = _machine(
    "tool step",
    ((_X.PROPOSED, _X.APPROVED), "asked", _X.AWAITING_APPROVAL),
    ((_X.PROPOSED,), "allowed", _X.APPROVED),
    ((_X.PROPOSED,), "handed_to_client", _X.READY),
    ((_X.PROPOSED, _X.AWAITING_APPROVAL, _X.APPROVED), "rejected", _X.REJECTED),
    ((_X.AWAITING_APPROVAL,), "approved", _X.APPROVED),
    ((_X.AWAITING_APPROVAL,), "edited", _X.EDITED),
    ((_X.AWAITING_APPROVAL, _X.IN_DOUBT), "responded", _X.SUCCEEDED),
    ((_X.APPROVED,), "dispatched", _X.DISPATCHED),
    ((_X.APPROVED,), "handed_to_client", _X.READY),
    ((_X.READY, _X.DISPATCHED), "succeeded", _X.SUCCEEDED),
    ((_X.READY, _X.DISPATCHED), "failed", _X.FAILED),
    ((_X.DISPATCHED,), "refused", _X.APPROVED),
    ((_X.DISPATCHED,), "unknown", _X.APPROVED),
    ((_X.DISPATCHED,), "lost", _X.APPROVED),
    ((_X.DISPATCHED,), "transient", _X.APPROVED),
    ((_X.READY, _X.DISPATCHED), "doubted", _X.IN_DOUBT),
    ((_X.IN_DOUBT,), "retried", _X.APPROVED),
    ((_X.IN_DOUBT,), "given_up", _X.FAILED),
    (
        (_X.PROPOSED, _X.AWAITING_APPROVAL, _X.APPROVED, _X.READY, _X.DISPATCHED, _X.IN_DOUBT),
        "cancelled",
        _X.CANCELLED,
    ),
)

_V = ApprovalState
APPROVAL = _machine(
    "approval",
    ((_V.PENDING,), "resolved", _V.RESOLVED),
    ((_V.PENDING,), "expired", _V.EXPIRED),
    ((_V.PENDING,), "cancelled", _V.CANCELLED),
    ((_V.PENDING,), "superseded", _V.SUPERSEDED),
)

MACHINES = (SESSION, RUN, PLAN, SUBTASK, ATTEMPT, MODEL_STEP, TOOL_STEP, APPROVAL)
