"""What is known of one session while something is decided about it: the session, its open runs, the active run whole.

A snapshot is private to one decision (or to the engine's hold on the session). It is changed only through
`Change`; when a write is refused the snapshot is thrown away and loaded again.
"""

from dataclasses import dataclass, field

from orchestrator.domain.records import Approval, Artifact, Attempt, Grant, Message, Plan, Run, Session, Step, Subtask
from orchestrator.domain.states import ApprovalState, StepState


@dataclass(slots=True)
class Snapshot:
    """What is loaded: the open runs with their plans and subtasks (a queued run may bring a client's plan along), the
    active run's attempts, steps, approvals and artifacts, the session's grants that stand, the newest first,
    and the latest messages, oldest first.
    """

    session: Session
    runs: dict[str, Run] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    subtasks: dict[str, Subtask] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)

    @property
    def run(self) -> Run | None:
        """The active run."""
        return self.runs.get(self.session.active_run_id)

    def tries(self, run_id: str, purpose: str, subtask_id: str) -> list[Attempt]:
        """All attempts at one piece of work, the first one first."""
        work = (run_id, purpose, subtask_id)
        found = [a for a in self.attempts.values() if (a.run_id, a.purpose, a.subtask_id) == work]
        return sorted(found, key=lambda a: a.number)

    @property
    def pending(self) -> list[Approval]:
        """The questions that wait for an answer."""
        return [a for a in self.approvals.values() if a.state == ApprovalState.PENDING]

    def steps_of(self, attempt: Attempt) -> list[Step]:
        """In their order."""
        return sorted((s for s in self.steps.values() if s.attempt_id == attempt.id), key=lambda s: s.ordinal)

    def next_ordinal(self, attempt_id: str) -> int:
        """The place of the attempt's next step."""
        return 1 + max((s.ordinal for s in self.steps.values() if s.attempt_id == attempt_id), default=0)

    @property
    def plan(self) -> Plan | None:
        """The active run's current plan version."""
        return self.plans.get(self.run.plan_id) if self.run else None


def is_flying(snapshot: Snapshot) -> bool:
    """Whether an executor has a step of the active run in hand."""
    return any(step.state == StepState.DISPATCHED for step in snapshot.steps.values())
