"""Gathering what a run's report is made of."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator.domain.records import Run
from orchestrator.domain.report import Report, make_report
from orchestrator.operations.context import Caller, Context
from orchestrator.store import queries
from orchestrator.store.paging import MAX_PAGE_SIZE, Page, Paging

T = TypeVar("T")


async def of_run(ctx: Context, caller: Caller, run: Run) -> Report:
    """The report as far as the run has come."""
    database, tenant = ctx.database, caller.tenant
    plan = await queries.get_plan(database, tenant, run.plan_id) if run.plan_id else None
    subtasks = await queries.subtasks_of(database, tenant, plan.id) if plan else []
    message = await queries.get_message(database, tenant, run.final_message_id) if run.final_message_id else None
    steps = await _all(lambda paging: queries.list_steps(database, tenant, run.id, paging=paging))
    approvals = await _all(lambda paging: queries.list_approvals(database, tenant, run_id=run.id, paging=paging))
    grants = await _all(lambda paging: queries.list_grants(database, tenant, run.session_id, paging=paging))
    used = {step.grant_id for step in steps}
    used_grants = [grant for grant in grants[::-1] if grant.id in used]
    left = await _all(lambda paging: queries.list_artifacts(database, tenant, run.id, paging=paging))
    return make_report(run, message, plan, subtasks, steps, approvals[::-1], used_grants, left[::-1])


async def _all(read: Callable[[Paging], Awaitable[Page[T]]]) -> list[T]:
    """Every page; runs are bounded, so this is."""
    items: list[T] = []
    token = ""
    while True:
        page = await read(Paging(MAX_PAGE_SIZE, token))
        items += page.items
        token = page.next_page_token
        if not token:
            return items
