"""What is worth telling of an event, as lines: the same for a terminal and for a file.

Pure: an event and the view it was folded into give lines. How a line looks is cli/live.py's and cli/plain.py's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli.view import SessionView, StepView, SubtaskView
from cli.words import consumed, one_line, plural, printable, seconds, state_of
from gen.assent.v1 import event_pb2 as events
from gen.assent.v1.message_pb2 import MESSAGE_ROLE_USER
from gen.assent.v1.plan_pb2 import SUBTASK_STATE_PENDING
from gen.assent.v1.step_pb2 import STEP_KIND_TOOL, WAITING_REASON_NO_SLOT

ENGINE = "engine"
SAID = 54
"""How much of arguments and results is told: with what stands around it, a line of a terminal."""


@dataclass(frozen=True)
class Line:
    """One line; `tone` names what it is, for whoever colours it."""

    text: str
    tone: str = ""


def tell(event: events.SessionEvent, view: SessionView) -> list[Line]:
    """The lines of an event that was just folded into the view; none for what only matters to a screen."""
    name = event.WhichOneof("payload")
    if name is None or name not in _TELL:
        return []
    return _TELL[name](view, getattr(event, name))


def _session_created(view: SessionView, event: events.SessionCreated) -> list[Line]:
    directory = event.workspace.directory
    where = f" in {printable(directory)}" if directory not in ("", view.session_id) else ""
    return [Line(f"session {view.session_id}{where}", "quiet")]


def _session_state_changed(view: SessionView, event: events.SessionStateChanged) -> list[Line]:
    why = f"  ({one_line(event.reason)})" if event.reason else ""
    return [Line(f"{state_of(event, 'from_state')} → {state_of(event, 'to_state')}{why}", "state")]


def _session_closed(view: SessionView, event: events.SessionClosed) -> list[Line]:
    return [Line(f"the session was closed by {event.actor}{_because(event.reason)}", "notice")]


def _message_created(view: SessionView, event: events.MessageCreated) -> list[Line]:
    message = event.message
    from_user = message.role == MESSAGE_ROLE_USER
    who = (message.author or "user") if from_user else message.agent
    first, *rest = printable(message.text).splitlines() or [""]
    indent = " " * (len(who) + 2)
    tone = "user" if from_user else "agent"
    return [Line(f"{who}: {first}", tone), *(Line(indent + line, tone) for line in rest)]


def _agent_switched(view: SessionView, event: events.AgentSwitched) -> list[Line]:
    return [Line(f"the agent is {event.to_agent} now, no longer {event.from_agent}", "notice")]


def _run_queued(view: SessionView, event: events.RunQueued) -> list[Line]:
    ahead = f"behind run {event.behind_run_id}" if event.behind_run_id else "until fewer runs are being worked on"
    return [Line(f"run {event.run_id} waits {ahead}", "notice")]


def _run_started(view: SessionView, event: events.RunStarted) -> list[Line]:
    return [Line(f"run {event.run_id} started", "quiet")]


def _run_state_changed(view: SessionView, event: events.RunStateChanged) -> list[Line]:
    state = state_of(event, "to_state")
    if state == "WAITING" and not view.approvals:
        return [Line("the run waits for a client", "quiet")]
    if state == "PAUSED":
        return [Line(f"the run is paused{_by(event.actor)}{_because(event.reason)}", "notice")]
    words = _OF_PAUSES.get((state_of(event, "from_state"), event.trigger))
    return [Line(f"{words}{_by(event.actor)}{_because(event.reason)}", "notice")] if words else []


_OF_PAUSES = {
    ("RUNNING", "pause_requested"): "nothing more starts in the run: a pause was asked",
    ("RUNNING", "pause_withdrawn"): "the pause was withdrawn",
    ("CREATED", "pause_requested"): "a queued run is to be paused when its turn comes: asked",
    ("CREATED", "pause_withdrawn"): "a queued run is not to be paused any more: withdrawn",
    ("PAUSED", "resumed"): "the run was resumed",
}


def _run_finished(view: SessionView, event: events.RunFinished) -> list[Line]:
    state = state_of(event, "state")
    why = _because(event.failure.message or event.reason)
    tone = "ok" if state == "COMPLETED" else "bad"
    counts = {"new attempt": event.retries, "fault": event.faults, "lost executor": event.losses}
    trouble = "".join(f", {plural(n, noun)}" for noun, n in counts.items() if n)
    return [Line(f"run {state}{why}: {consumed(event.usage)}{trouble}", tone)]


def _plan_drafted(view: SessionView, event: events.PlanDrafted) -> list[Line]:
    plan = view.run(event.plan.run_id).plan
    if plan is None:
        return []
    title = f"plan v{plan.version} “{one_line(plan.title)}” is a {plan.state} of "
    lines = [Line(f"{title}{plural(len(plan.subtasks), 'subtask')}, by {event.plan.author}:", "plan")]
    return lines + [Line(f"  {subtask_line(subtask)}", "plan") for subtask in plan.subtasks.values()]


def subtask_line(subtask: SubtaskView) -> str:
    """A subtask in its plan: title, agent, what it comes after."""
    after = f", after {', '.join(subtask.depends_on)}" if subtask.depends_on else ""
    return f"{subtask.key}: {one_line(subtask.title)} ({subtask.agent}{after})"


def _plan_state_changed(view: SessionView, event: events.PlanStateChanged) -> list[Line]:
    change = f"{state_of(event, 'from_state')} → {state_of(event, 'to_state')}"
    return [Line(f"plan v{event.version} {change}{_by(event.actor)}{_because(event.reason)}", "plan")]


def _subtask_state_changed(view: SessionView, event: events.SubtaskStateChanged) -> list[Line]:
    state = state_of(event, "to_state")
    plan = view.run(event.run_id).plan
    if state == "CANCELLED" and event.from_state == SUBTASK_STATE_PENDING and plan and plan.state == "SUPERSEDED":
        return []  # that its version was superseded says it all
    known = view.subtask(event.run_id, event.subtask_id)
    title = f" {one_line(known.title, 60)}" if known else ""
    again = f" (attempt {event.attempt})" if event.attempt > 1 and state == "RUNNING" else ""
    tone = {"SUCCEEDED": "ok", "FAILED": "bad", "CANCELLED": "bad"}.get(state, "subtask")
    why = _because(event.failure.message or event.reason)
    return [Line(f"[{event.key}]{title}: {state}{again}{why}", tone)]


def _attempt_superseded(view: SessionView, event: events.AttemptSuperseded) -> list[Line]:
    return [Line(f"a new attempt; what was said so far no longer counts{_because(event.reason)}", "notice")]


def _step_started(view: SessionView, event: events.StepStarted) -> list[Line]:
    step = view.run(event.run_id).steps[event.step_id]
    if not step.is_tool:
        return []
    again = f" (dispatch {step.dispatch_number})" if step.dispatch_number > 1 else ""
    unasked = f" (by grant {event.grant_id})" if event.grant_id else ""
    return [Line(f"  {step.agent} ▸ {call(step)}{again}{unasked}", "tool")]


def _step_waiting(view: SessionView, event: events.StepWaiting) -> list[Line]:
    waits = event.waiting_for
    why = "a free slot" if waits.reason == WAITING_REASON_NO_SLOT else "an executor"
    return [Line(f"  {event.agent} waits for {why} with {one_line(waits.needs)}", "notice")]


def call(step: StepView) -> str:
    """A tool call on one line."""
    return f"{printable(step.tool)} {one_line(step.arguments_json, SAID)}"


def _step_finished(view: SessionView, event: events.StepFinished) -> list[Line]:
    state = state_of(event, "state")
    name = printable(event.tool) if event.kind == STEP_KIND_TOOL else f"{event.agent}'s model"
    if event.failure.reason or event.failure.message:
        next_try = "; it is tried again" if state in ("PENDING", "APPROVED") else ""
        return [Line(f"  ✗ {name}: {one_line(event.failure.message or event.failure.reason)}{next_try}", "bad")]
    if event.kind != STEP_KIND_TOOL:
        return []
    if state in ("REJECTED", "CANCELLED", "EDITED"):
        return [Line(f"  ✗ {name} {state}", "bad")]
    mark, tone = ("✗", "bad") if event.is_error else ("✓", "ok")
    said = one_line(event.output_preview, SAID) or "done"
    return [Line(f"  {mark} {name}: {said} ({seconds(event.latency)})", tone)]


def _approval_requested(view: SessionView, event: events.ApprovalRequested) -> list[Line]:
    approval = event.approval
    title = one_line(approval.preview.title or approval.tool)
    return [Line(f"? {state_of(approval, 'kind')} {title}  approval {approval.id}", "ask")]


def _vote_recorded(view: SessionView, event: events.VoteRecorded) -> list[Line]:
    action = state_of(event, "action")
    return [Line(f"  {event.voter} votes {action}: {event.votes} of {event.needed} needed", "notice")]


def _approval_resolved(view: SessionView, event: events.ApprovalResolved) -> list[Line]:
    kind, state = state_of(event, "kind"), state_of(event, "state")
    if state != "RESOLVED":
        return [Line(f"  {kind} {state}{_because(event.reason)}", "notice")]
    action = state_of(event, "action")
    tone = "ok" if action in ("APPROVE", "EDIT", "RESPOND", "RETRY") else "notice" if action in _GO_ON else "bad"
    words = f": “{one_line(event.feedback)}”" if event.feedback else ""
    return [Line(f"  {kind} {action}{_by(event.decider)}{words}", tone)]


_GO_ON = ("REQUEST_CHANGES", "SKIP", "REPLAN")  # otherwise than was asked


def _approval_reminder(view: SessionView, event: events.ApprovalReminder) -> list[Line]:
    return [Line(f"{state_of(event, 'kind')} {event.approval_id} still waits for a decision", "ask")]


def _grant_changed(view: SessionView, event: events.GrantChanged) -> list[Line]:
    grant, calls = event.grant, f"calls of {printable(event.grant.tool)}"
    if event.trigger == "made":
        where = one_line(grant.constraint)
        return [Line(f"{printable(event.actor)} lets {calls} run unasked, where {where} (grant {grant.id})", "notice")]
    how = "has run out" if event.trigger == "expired" else f"was {event.trigger}{_by(event.actor)}"
    return [Line(f"grant {grant.id} {how}: {calls} are asked about again", "notice")]


def _tool_call_ready(view: SessionView, event: events.ToolCallReady) -> list[Line]:
    arguments = one_line(event.arguments_json, SAID)
    return [Line(f"  a client must run {printable(event.tool)} {arguments} (step {event.step_id})", "ask")]


def _tool_call_claimed(view: SessionView, event: events.ToolCallClaimed) -> list[Line]:
    return [Line(f"  client {printable(event.client_id)} runs step {event.step_id}", "tool")]


def _tool_result_recorded(view: SessionView, event: events.ToolResultRecorded) -> list[Line]:
    mark, tone = ("✗", "bad") if event.is_error else ("✓", "ok")
    return [Line(f"  {mark} {printable(event.tool)}: {one_line(event.output_preview, SAID)}", tone)]


def _artifact_recorded(view: SessionView, event: events.ArtifactRecorded) -> list[Line]:
    return [Line(f"  artifact {printable(event.artifact.name)} ({event.artifact.media_type})", "ok")]


def _budget_reached(view: SessionView, event: events.BudgetReached) -> list[Line]:
    used, limit = f"{event.used}", f"{event.limit}"
    if event.limit_name == "work_duration":  # in microseconds
        used, limit = f"{event.used / 1e6:.1f} s", f"{event.limit / 1e6:.1f} s"
    return [Line(f"the limit {event.limit_name} is reached: {used} of {limit}", "ask")]


def _by(actor: str) -> str:
    """Who did it, where that is somebody: what the engine does goes without saying."""
    return f" by {printable(actor)}" if actor not in ("", ENGINE) else ""


def _because(reason: str) -> str:
    return f": {one_line(reason)}" if reason else ""


_TELL: dict[str, Callable[[SessionView, Any], list[Line]]] = {
    "session_created": _session_created,
    "session_state_changed": _session_state_changed,
    "session_closed": _session_closed,
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
    "step_waiting": _step_waiting,
    "step_finished": _step_finished,
    "approval_requested": _approval_requested,
    "vote_recorded": _vote_recorded,
    "approval_resolved": _approval_resolved,
    "approval_reminder": _approval_reminder,
    "grant_changed": _grant_changed,
    "tool_call_ready": _tool_call_ready,
    "tool_call_claimed": _tool_call_claimed,
    "tool_result_recorded": _tool_result_recorded,
    "artifact_recorded": _artifact_recorded,
    "budget_reached": _budget_reached,
}
