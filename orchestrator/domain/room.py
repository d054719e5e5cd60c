"""A step that finds no room on any executor: it waits, burns nothing, and says so once that takes more than a moment.

Who of many that wait gets the next room is the engine's to choose (engine/room.py).
"""

from orchestrator.domain.catalog import SECOND
from orchestrator.domain.change import Change
from orchestrator.domain.events import StepWaiting
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Session, Step, WaitingFor, Workspace

SAID_AFTER = 2 * SECOND
MIXED_LOOK = 60 * SECOND  # where the session also waits for a time of its own
# A due time that never comes, in the year 9892: looked for by itself, in the order in which sessions began to wait.
WHEN_THERE_IS_ROOM = 250_000_000_000 * SECOND


def wait_for_room(change: Change, step: Step, reason: str) -> None:
    """The step stays as it is. The session is looked at when executors have room, and until then costs no commit."""
    change.blocked = True
    since = step.waiting_for.since_time if step.waiting_for else _due_since(change, step)
    change.waits_since.append(since)
    if step.waiting_for is not None or change.now - since < SAID_AFTER:
        return
    waiting_for = WaitingFor(reason, _needs(step, change.session.workspace), since)
    change.emit(
        StepWaiting(
            step.id, step.run_id, step.subtask_id, step.attempt_id, step.kind, step.agent, step.tool, waiting_for
        )
    )
    change.put(replace(step, waiting_for=waiting_for))


def look_again(change: Change, due: list[int]) -> int:
    """When a session whose steps wait for room is looked at even if there is none; `due` are its other due times."""
    if unsaid := [since for since in change.waits_since if change.now - since < SAID_AFTER]:
        return min(unsaid) + SAID_AFTER
    return change.now + MIXED_LOOK if any(due) else WHEN_THERE_IS_ROOM + min(change.waits_since) // 1000


def only_waits_for_room(session: Session) -> bool:
    return session.due_time >= WHEN_THERE_IS_ROOM


def _due_since(change: Change, step: Step) -> int:
    approval = change.snapshot.approvals.get(step.approval_id)
    made = step.create_time
    if made == change.now and not change.events:  # made at every look, and not written: for nothing happens
        made = min(made, change.session.last_event_time)
    return max(made, step.not_before_time, approval.resolve_time if approval else 0)


def _needs(step: Step, workspace: Workspace) -> str:
    if step.kind == "MODEL":
        return f"the model {step.model}" if step.model else "a model"
    root = f" and the workspace root {workspace.root_id}" if workspace.root_id else ""
    return f"the tool {step.tool}{root}"
