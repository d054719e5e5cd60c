"""From an agent's answer to its subtask's end: the files it leaves are read, then pass the gates, in order, each by a
person's yes to exactly these bytes.

A gate asks about every artifact at once and the next gate comes when all have passed. An artifact that changed, by its
agent's hand or a person's, is another one: it passes every gate anew, but for the one whose decision made it. What a
decision does is in reviewing.py.
"""

from orchestrator.domain.artifacts import current, take_files, withdraw
from orchestrator.domain.asking import ask_about_artifact
from orchestrator.domain.calls import advance_call
from orchestrator.domain.change import Change
from orchestrator.domain.reading import Reading, of_nothing
from orchestrator.domain.records import Approval, Artifact, Attempt, Failure, Step, Subtask, is_done
from orchestrator.domain.starting import World
from orchestrator.domain.states import ApprovalState, StepState, SubtaskState
from orchestrator.domain.transitions import end_attempt, move_subtask


def bring_on(change: Change, attempt: Attempt, answer: Step, world: World) -> bool | None:
    """What comes between an agent's answer and its subtask's end: True when something was done, False when somebody
    else's turn it is, None when nothing is left to do."""
    subtask = change.snapshot.subtasks.get(attempt.subtask_id)
    if subtask is None or not subtask.artifacts:
        return None
    if (written := _write_edits(change, attempt, world)) is not None or answer.feedback:
        return written
    if attempt.failure.reason:  # a person has rejected what it left
        end_attempt(change, attempt, "failed", failure=attempt.failure)
        return True
    if subtask.state == SubtaskState.RUNNING:
        move_subtask(change, subtask, "answered")
        return True
    if subtask.state == SubtaskState.VALIDATING:
        return _have_read(change, subtask, answer, world)
    return _pass_gates(change, attempt, subtask)


def _have_read(change: Change, subtask: Subtask, answer: Step, world: World) -> bool:
    """Wanted anew at every look, until it is done: what was under way when somebody died is nobody's loss."""
    reading = Reading(subtask.id, answer.id, change.session.workspace, tuple(subtask.artifacts))
    if not reading.workspace.root_id:
        return take_files(change, of_nothing(reading))
    if world.may_read(reading.workspace):
        change.reads[subtask.id] = reading
    else:
        change.blocked = True
        change.waits_since.append(change.session.last_event_time)
    return False


def _write_edits(change: Change, attempt: Attempt, world: World) -> bool | None:
    """Bring on what a person's edit has to write back; None when there is nothing, or all of it is done."""
    edits = [s for s in change.snapshot.steps.values() if s.attempt_id == attempt.id and _is_edit(s)]
    for step in edits:
        if step.state == StepState.APPROVED:
            return advance_call(change, step, world)
        if not is_done(step):
            return False
        if step.state != StepState.SUCCEEDED or step.result is None or step.result.is_error:
            why = step.result.content if step.result else step.failure.message
            words = f"The edited file could not be written back: {why}"
            withdraw(change, attempt.subtask_id, "an edited file could not be written back")
            end_attempt(change, attempt, "failed", failure=Failure("ARTIFACT_INVALID", words[:2000], "HUMAN_REQUIRED"))
            return True
    return None


def _is_edit(step: Step) -> bool:
    """No reply of a model proposed it."""
    return step.kind == "TOOL" and not step.model_step_id


def _pass_gates(change: Change, attempt: Attempt, subtask: Subtask) -> bool | None:
    """Ask about what has not passed the first gate that not all have passed; None when all have passed every one."""
    for gate in subtask.gates:
        behind = [a for a in current(change.snapshot, subtask, attempt) if not _has_passed(change, a, gate)]
        if behind:
            unasked = [a for a in behind if not _is_asked(change, a, gate)]
            for artifact in unasked:
                ask_about_artifact(change, subtask, artifact, gate)
            return bool(unasked)
    return None


def _about(change: Change, artifact: Artifact, gate: str) -> list[Approval]:
    approvals = change.snapshot.approvals.values()
    return [a for a in approvals if a.kind == "ARTIFACT" and a.artifact_id == artifact.id and a.gate == gate]


def _is_asked(change: Change, artifact: Artifact, gate: str) -> bool:
    return any(a.state == ApprovalState.PENDING for a in _about(change, artifact, gate))


def _has_passed(change: Change, artifact: Artifact, gate: str) -> bool:
    """By a yes to it at this gate, or because a person made it there."""
    if any(a.decision is not None and a.decision.action == "APPROVE" for a in _about(change, artifact, gate)):
        return True
    before = change.snapshot.artifacts.get(artifact.replaces_artifact_id)
    edits = [a.decision for a in _about(change, before, gate)] if before else []
    return any(decision is not None and decision.edited_artifact_id == artifact.id for decision in edits)
