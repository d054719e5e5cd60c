"""Commands on plans."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.domain.carrying import subtasks_of
from orchestrator.domain.change import Change
from orchestrator.domain.commands import submit_plan
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.errors import NotFound, WrongState
from orchestrator.domain.records import Budget, Plan, Subtask
from orchestrator.domain.revising import DRAFTS, revise_plan
from orchestrator.operations.commanding import NotInSnapshot, command
from orchestrator.operations.context import Caller, Context
from orchestrator.store import queries


@dataclass(frozen=True, slots=True)
class PlanWithSubtasks:
    plan: Plan
    subtasks: list[Subtask]


async def create(
    ctx: Context, caller: Caller, session_id: str, draft: PlanDraft, goal: str, budget: Budget
) -> PlanWithSubtasks:
    """A client's own graph, born DRAFT. Raises InvalidPlan with every fault and its field."""

    def decide(change: Change) -> Callable[[], PlanWithSubtasks]:
        plan, _ = submit_plan(
            change, draft, goal, caller.subject, ctx.catalog, budget=budget, traceparent=caller.traceparent
        )
        return lambda: _as_it_is(change, plan)

    return await command(ctx, caller, session_id, PlanWithSubtasks, decide)


async def revise(
    ctx: Context, caller: Caller, plan_id: str, draft: PlanDraft, goal: str, digest: str
) -> PlanWithSubtasks:
    """The draft's next version, as somebody has edited it. Raises NotFound, WrongState for what is no draft,
    StaleVersion when `digest` is not the newest version's, InvalidPlan."""
    stored = await _stored(ctx, caller, plan_id)

    def decide(change: Change) -> Callable[[], PlanWithSubtasks]:
        plan = change.snapshot.plans.get(plan_id)
        if plan is None:
            raise _Ended
        revised = revise_plan(change, plan, draft, goal, digest, caller.subject, ctx.catalog)
        return lambda: _as_it_is(change, revised)

    try:
        return await command(ctx, caller, stored.session_id, PlanWithSubtasks, decide)
    except _Ended:
        ended = await _stored(ctx, caller, plan_id)
        raise WrongState("plan", ended.id, ended.state, "revised", DRAFTS) from None


def _as_it_is(change: Change, plan: Plan) -> PlanWithSubtasks:
    return PlanWithSubtasks(change.snapshot.plans[plan.id], subtasks_of(change.snapshot, plan))


async def _stored(ctx: Context, caller: Caller, plan_id: str) -> Plan:
    stored = await queries.get_plan(ctx.database, caller.tenant, plan_id)
    if stored is None:
        raise NotFound("plan", plan_id)
    return stored


class _Ended(NotInSnapshot):
    """The plan's run is not open any more."""
