"""Starting a step: where it can run, until when, and that its approval is a yes to exactly these bytes."""

from collections.abc import Callable
from typing import Protocol

from orchestrator.domain.budgets import hold_back
from orchestrator.domain.catalog import SECOND, Agent, Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.digests import allows
from orchestrator.domain.frozen import dataclass, replace
from orchestrator.domain.records import Failure, Step, ToolResult, Workspace
from orchestrator.domain.room import wait_for_room
from orchestrator.domain.transitions import dispatch_step, finish_step

OVERDUE_GRACE = 10 * SECOND  # so long after its deadline a call that nothing is heard of is surely over


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step will be performed: an executor instance, how it is reached, and its first workspace root."""

    instance: str
    address: str
    root_id: str = ""


@dataclass(frozen=True, slots=True)
class NoPlace:
    """Why there is none: NO_EXECUTOR or NO_SLOT."""

    reason: str


class Placement(Protocol):
    def __call__(self, step: Step, workspace: Workspace) -> Place | NoPlace:
        """An executor that offers what the step needs and has a free slot, counted as taken."""


@dataclass(frozen=True, slots=True)
class World:
    """What the rules may know of the outside."""

    catalog: Catalog
    place: Placement
    may_read: Callable[[Workspace], bool] = lambda workspace: True  # an executor that offers it is there


def start(change: Change, step: Step, world: World) -> bool:
    """Dispatch it if it is due and there is room. True when the step changed."""
    if step.not_before_time > change.now or hold_back(change, step.run_id):
        return False
    agent = permitted(change, step, world.catalog)
    if agent is None:
        return True
    place = world.place(step, change.session.workspace)
    if isinstance(place, NoPlace):
        wait_for_room(change, step, place.reason)
        return False
    use_up(change, step)
    if step.kind == "TOOL" and not change.session.workspace.root_id:
        # The session was made while no executor was connected; from here on its files are under this root.
        change.put_session(workspace=replace(change.session.workspace, root_id=place.root_id))
    dispatch_step(
        change,
        step,
        executor_instance=place.instance,
        executor_address=place.address,
        deadline_time=change.now + (agent.model_timeout if step.kind == "MODEL" else agent.tool_timeout),
    )
    return True


def permitted(change: Change, step: Step, catalog: Catalog) -> Agent | None:
    """The step's agent, if the step may begin; otherwise it has ended, and the model reads why."""
    agent = catalog.agents.get(step.agent)
    if agent is None:
        _drop(change, step, "AGENT_NOT_FOUND", f"The catalog has no agent {step.agent!r} any more.")
        return None
    approval = change.snapshot.approvals.get(step.approval_id)
    # Policy may have allowed the call without a person; that it runs again after a doubt only a person allows.
    if (step.approval_id or step.doubt_number) and (approval is None or not allows(approval, step)):
        _drop(change, step, "DIGEST_MISMATCH", "The approval does not match this call.")
        return None
    return agent


def use_up(change: Change, step: Step) -> None:
    """The step begins: its approval, if it has one, is good for nothing else."""
    approval = change.snapshot.approvals.get(step.approval_id)
    if approval is not None and approval.consume_time == 0:
        change.put(replace(approval, consume_time=change.now))


def _drop(change: Change, step: Step, reason: str, words: str) -> None:
    """A step that may never run: its approval is not a yes to exactly these bytes, or it has lost its agent."""
    result = ToolResult(words, is_error=True) if step.kind == "TOOL" else None
    failure = Failure(reason, words, "HUMAN_REQUIRED")
    finish_step(change, replace(step, result=result, failure=failure), "cancelled")
