"""Commands on plans."""

from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.domain.change import Change
from orchestrator.domain.commands import submit_plan
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.records import Budget, Plan, Subtask
from orchestrator.operations.commanding import command
from orchestrator.operations.context import Caller, Context


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

        def answer() -> PlanWithSubtasks:
            subtasks = [s for s in change.snapshot.subtasks.values() if s.plan_id == plan.id]
            return PlanWithSubtasks(change.snapshot.plans[plan.id], subtasks)

        return answer

    return await command(ctx, caller, session_id, PlanWithSubtasks, decide)
