"""What a client knows of a session: its state, folded from its events. No I/O, no clock, no rendering.

A durable event counts once, in order: `apply` says which are new. What is told of an event is cli/story.py's
business, how it looks cli/live.py's and cli/plain.py's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cli.words import state_of
from gen.assent.v1 import event_pb2 as events
from gen.assent.v1.approval_pb2 import Approval
from gen.assent.v1.delta_pb2 import DELTA_KIND_TEXT
from gen.assent.v1.failure_pb2 import Failure
from gen.assent.v1.plan_pb2 import Plan
from gen.assent.v1.step_pb2 import STEP_KIND_TOOL
from gen.assent.v1.usage_pb2 import Usage

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED"})


class Gap(Exception):
    """An event came too early: one before it is missing, and the stream has to begin again."""


@dataclass
class StepView:
    """A model or tool call; `said` is what arrived of it so far."""

    id: str
    agent: str
    subtask_id: str
    attempt_id: str
    is_tool: bool
    tool: str = ""
    arguments_json: str = ""
    dispatch_number: int = 0
    state: str = "DISPATCHED"
    said: str = ""

    @property
    def running(self) -> bool:
        return self.state == "DISPATCHED"


@dataclass
class SubtaskView:
    """A node of the plan."""

    id: str
    key: str
    title: str
    agent: str
    depends_on: tuple[str, ...]
    state: str = "PENDING"
    attempt: int = 0
    trouble: str = ""


@dataclass
class PlanView:
    """The newest version of a run's plan; subtasks by id, in their order."""

    id: str
    version: int
    title: str
    state: str
    subtasks: dict[str, SubtaskView]


@dataclass
class RunView:
    """One run; steps by id, in the order they started."""

    id: str
    agent: str
    goal: str = ""
    state: str = "CREATED"
    plan: PlanView | None = None
    steps: dict[str, StepView] = field(default_factory=dict)
    final_message_id: str = ""
    usage: Usage = field(default_factory=Usage)
    failure: Failure = field(default_factory=Failure)
    reason: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass
class SessionView:
    """One session as its events tell it up to `last_sequence`."""

    session_id: str
    last_sequence: int = 0
    title: str = ""
    state: str = "IDLE"
    agent: str = ""
    workspace: str = ""
    runs: dict[str, RunView] = field(default_factory=dict)
    approvals: dict[str, Approval] = field(default_factory=dict)  # pending, oldest first
    messages: dict[str, str] = field(default_factory=dict)

    def apply(self, event: events.SessionEvent) -> bool:
        """Fold an event in; False for one that was seen before. Gap when one is missing."""
        if event.sequence:
            if event.sequence <= self.last_sequence:
                return False
            if event.sequence != self.last_sequence + 1:
                raise Gap(f"event {event.sequence} came after {self.last_sequence}")
            self.last_sequence = event.sequence
        name = event.WhichOneof("payload")
        fold = _FOLDS.get(name) if name else None
        if fold is not None and name is not None:
            fold(self, getattr(event, name))
        return True

    def run(self, run_id: str) -> RunView:
        """The run of that id, made when it is first heard of: a watcher may join in the middle."""
        return self.runs.setdefault(run_id, RunView(run_id, agent=""))

    def subtask(self, run_id: str, subtask_id: str) -> SubtaskView | None:
        """The subtask, unless its plan was drafted before this watcher joined."""
        plan = self.run(run_id).plan
        return plan.subtasks.get(subtask_id) if plan else None

    @property
    def active_run(self) -> RunView | None:
        """The newest run that is worked on or has been; None before the first."""
        begun = [run for run in self.runs.values() if run.state != "CREATED"]
        return begun[-1] if begun else None


def _session_created(view: SessionView, event: events.SessionCreated) -> None:
    view.title, view.agent, view.workspace = event.title, event.agent, event.workspace.directory


def _session_state_changed(view: SessionView, event: events.SessionStateChanged) -> None:
    view.state = state_of(event, "to_state")


def _message_created(view: SessionView, event: events.MessageCreated) -> None:
    view.messages[event.message.id] = event.message.text


def _agent_switched(view: SessionView, event: events.AgentSwitched) -> None:
    view.agent = event.to_agent


def _run_queued(view: SessionView, event: events.RunQueued) -> None:
    view.run(event.run_id).agent = event.agent


def _run_started(view: SessionView, event: events.RunStarted) -> None:
    run = view.run(event.run_id)
    run.agent, run.goal, run.state = event.agent, event.goal, "RUNNING"


def _run_state_changed(view: SessionView, event: events.RunStateChanged) -> None:
    view.run(event.run_id).state = state_of(event, "to_state")


def _run_finished(view: SessionView, event: events.RunFinished) -> None:
    run = view.run(event.run_id)
    run.state, run.reason = state_of(event, "state"), event.reason
    run.final_message_id = event.final_message_id
    run.usage = event.usage
    run.failure = event.failure


def _plan_drafted(view: SessionView, event: events.PlanDrafted) -> None:
    view.run(event.plan.run_id).plan = plan_view(event.plan, list(event.subtasks))


def plan_view(plan: Plan, subtasks: list[Any]) -> PlanView:
    """A plan as the API gives it, with the subtasks that travel inside or beside it."""
    nodes = {
        subtask.id: SubtaskView(
            subtask.id,
            subtask.key,
            subtask.title or subtask.key,
            subtask.agent,
            tuple(subtask.depends_on),
            state_of(subtask, "state"),
            subtask.attempts,
        )
        for subtask in subtasks
    }
    return PlanView(plan.id, plan.version, plan.title, state_of(plan, "state"), nodes)


def _plan_state_changed(view: SessionView, event: events.PlanStateChanged) -> None:
    plan = view.run(event.run_id).plan
    if plan is not None and plan.id == event.plan_id:
        plan.state = state_of(event, "to_state")


def _subtask_state_changed(view: SessionView, event: events.SubtaskStateChanged) -> None:
    subtask = view.subtask(event.run_id, event.subtask_id)
    if subtask is not None:
        subtask.state, subtask.attempt = state_of(event, "to_state"), event.attempt
        subtask.trouble = event.failure.message or event.failure.reason


def _attempt_superseded(view: SessionView, event: events.AttemptSuperseded) -> None:
    for step in view.run(event.run_id).steps.values():
        if step.attempt_id == event.attempt_id:
            step.said = ""


def _step_started(view: SessionView, event: events.StepStarted) -> None:
    view.run(event.run_id).steps[event.step_id] = StepView(
        event.step_id,
        event.agent,
        event.subtask_id,
        event.attempt_id,
        event.kind == STEP_KIND_TOOL,
        event.tool,
        event.arguments_json,
        event.dispatch_number,
    )


def _step_finished(view: SessionView, event: events.StepFinished) -> None:
    step = view.run(event.run_id).steps.get(event.step_id)
    if step is not None:
        step.state, step.said = state_of(event, "state"), ""


def _approval_requested(view: SessionView, event: events.ApprovalRequested) -> None:
    view.approvals[event.approval.id] = event.approval


def _approval_resolved(view: SessionView, event: events.ApprovalResolved) -> None:
    view.approvals.pop(event.approval_id, None)


def _message_delta(view: SessionView, event: events.MessageDelta) -> None:
    """Only of the dispatch that runs now: an earlier one's words were in vain."""
    step = view.run(event.run_id).steps.get(event.step_id)
    current = step is not None and step.running and step.dispatch_number == event.dispatch_number
    if step is not None and current and event.kind == DELTA_KIND_TEXT:
        step.said += event.text


_FOLDS: dict[str, Callable[[SessionView, Any], None]] = {
    "session_created": _session_created,
    "session_state_changed": _session_state_changed,
    "message_created": _message_created,
    "agent_switched": _agent_switched,
    "run_queued": _run_queued,
    "run_started": _run_started,
    "run_state_changed": _run_state_changed,
    "run_finished": _run_finished,
    "plan_drafted": _plan_drafted,
    "plan_state_changed": _plan_state_changed,
    "subtask_state_changed": _subtask_state_changed,
    "attempt_superseded": _attempt_superseded,
    "step_started": _step_started,
    "step_finished": _step_finished,
    "approval_requested": _approval_requested,
    "approval_resolved": _approval_resolved,
    "message_delta": _message_delta,
}
