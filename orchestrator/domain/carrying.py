"""What of a plan is done already, and how it comes into the plan's next version. Nothing here changes anything.

What has SUCCEEDED or was SKIPPED is never run again: a new version holds it as it ended, may depend on it, and does
not define it anew.
"""

from collections.abc import Callable, Mapping, Sequence

from orchestrator.domain.frozen import replace
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.records import Plan, Subtask
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import SubtaskState

DONE = (SubtaskState.SUCCEEDED, SubtaskState.SKIPPED)


def subtasks_of(snapshot: Snapshot, plan: Plan) -> list[Subtask]:
    """In the plan's order."""
    return sorted((s for s in snapshot.subtasks.values() if s.plan_id == plan.id), key=lambda s: s.position)


def done_of(snapshot: Snapshot, plan: Plan | None) -> list[Subtask]:
    """What a next version of the plan carries on, in the plan's order."""
    return [s for s in subtasks_of(snapshot, plan) if s.state in DONE] if plan else []


def as_draft(subtask: Subtask) -> SubtaskDraft:
    """The subtask as somebody would write it."""
    return SubtaskDraft(
        subtask.key,
        subtask.title,
        subtask.instructions,
        subtask.agent,
        tuple(subtask.depends_on),
        subtask.retry_policy,
        tuple(subtask.artifacts),
        tuple(subtask.gates),
    )


def with_what_stays(draft: SubtaskDraft, earlier: Mapping[str, Subtask]) -> SubtaskDraft:
    """What an architect cannot write of a subtask stays with the one of that key: retries, artifacts, gates."""
    before = earlier.get(draft.key)
    if before is None:
        return draft
    said = (draft.key, draft.title, draft.instructions, draft.agent, draft.depends_on)
    return SubtaskDraft(*said, before.retry_policy, tuple(before.artifacts), tuple(before.gates))


def carried_into(plan: Plan, done: Sequence[Subtask], new_id: Callable[[], str]) -> list[Subtask]:
    """The same subtasks as they ended, as the first ones of the new version."""
    return [
        replace(
            subtask,
            id=new_id(),
            plan_id=plan.id,
            position=position,
            attempts=0,  # those were the one's that it carries on
            losses=0,
            not_before_time=0,
            carried_subtask_id=subtask.carried_subtask_id or subtask.id,
        )
        for position, subtask in enumerate(done, start=1)
    ]
