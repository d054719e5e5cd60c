"""Routing and planning: who does a request, and the draft of a plan with the question about it."""

from collections.abc import Sequence

from orchestrator.domain.asking import ask_about_failure, ask_about_plan
from orchestrator.domain.attempts import begin_unless_open
from orchestrator.domain.carrying import as_draft, carried_into, done_of, subtasks_of, with_what_stays
from orchestrator.domain.catalog import ARCHITECT, ROUTER
from orchestrator.domain.change import Change
from orchestrator.domain.digests import plan_preimage, sha256
from orchestrator.domain.drafts import PlanDraft, Route, read_plan, read_route, route_by_words
from orchestrator.domain.events import PlanDrafted
from orchestrator.domain.frozen import replace
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.records import Attempt, Plan, Run, Subtask
from orchestrator.domain.retries import policy_of, schedule_retry
from orchestrator.domain.starting import World
from orchestrator.domain.states import AttemptState, SessionState
from orchestrator.domain.transitions import move_session


def begin_routing(change: Change, run: Run, world: World) -> bool:
    router = world.catalog.by_role(ROUTER)
    if router is None:
        _route(change, run, route_by_words(run.goal, world.catalog), world)
        return True
    return begin_unless_open(change, "ROUTING", router.name)


def conclude_routing(change: Change, run: Run, attempt: Attempt, world: World) -> None:
    """A routing model that fails costs nothing: keywords decide."""
    if attempt.state == AttemptState.SUCCEEDED:
        route = read_route(attempt.result, world.catalog)
    else:
        route = route_by_words(run.goal, world.catalog)
    _route(change, run, route, world)


def _route(change: Change, run: Run, route: Route, world: World) -> None:
    architect = world.catalog.by_role(ARCHITECT)
    complex_ = route.complexity == "COMPLEX" and architect is not None
    agents = world.catalog.subtask_agents()
    if complex_ and architect is not None:
        agent = architect.name
    elif route.agent in agents or not agents:
        agent = route.agent
    else:
        agent = agents[0]
    change.put(
        replace(
            run,
            route="COMPLEX" if complex_ else "ATOMIC",
            route_agent=agent,
            route_reason=route.reason[:2000],
        )
    )
    move_session(change, "is_complex" if complex_ else "is_atomic", actor=ROUTER.lower(), reason=route.reason[:500])


def begin_planning(change: Change, run: Run, world: World) -> bool:
    if change.session.state == SessionState.PLAN_REQUIRED:
        move_session(change, "routed_to_architect")
    architect = world.catalog.by_role(ARCHITECT)
    return begin_unless_open(change, "PLANNING", architect.name if architect else run.route_agent)


def conclude_planning(change: Change, run: Run, attempt: Attempt, world: World) -> None:
    if attempt.state == AttemptState.SUCCEEDED:
        done = done_of(change.snapshot, change.snapshot.plan)
        draft = read_plan(attempt.result, world.catalog, [as_draft(subtask) for subtask in done])
        before = change.snapshot.plan
        earlier = {s.key: s for s in subtasks_of(change.snapshot, before)} if before else {}
        subtasks = tuple(with_what_stays(d, earlier) for d in draft.subtasks)
        draft = PlanDraft(draft.title, draft.summary, subtasks, draft.parallel_limit)
        plan = store_draft(change, run, draft, attempt.agent, done)
        ask_about_plan(change, plan, world.catalog)
        move_session(change, "plan_drafted", actor=attempt.agent)
        return
    if schedule_retry(change, attempt, policy_of(world.catalog.agents.get(attempt.agent))):
        return
    ask_about_failure(change, attempt, attempt.failure, None, world.catalog)
    move_session(change, "planning_failed", actor=attempt.agent, reason=attempt.failure.message)


def store_draft(change: Change, run: Run, draft: PlanDraft, author: str, done: Sequence[Subtask] = ()) -> Plan:
    """The run's next version of a plan, with what an earlier one has `done`. It is born DRAFT, whoever wrote it."""
    plan = Plan(
        run.tenant,
        change.new_id(),
        run.session_id,
        run.id,
        version=1 + sum(1 for p in change.snapshot.plans.values() if p.run_id == run.id),
        title=draft.title,
        summary=draft.summary,
        author=author,
        parallel_limit=draft.parallel_limit,
        create_time=change.now,
    )
    carried = [change.put(subtask) for subtask in carried_into(plan, done, change.new_id)]
    keys = {subtask.key for subtask in carried}
    left = [d for d in draft.subtasks if d.key not in keys]
    subtasks = carried + [
        change.put(_new_subtask(plan, change.new_id(), position, d))
        for position, d in enumerate(left, start=1 + len(carried))
    ]
    plan = change.put(replace(plan, digest=sha256(plan_preimage(plan, subtasks, run.goal))))
    change.put(replace(run, plan_id=plan.id))
    change.emit(PlanDrafted(plan, subtasks))
    return plan


def _new_subtask(plan: Plan, id: str, position: int, draft: SubtaskDraft) -> Subtask:
    return Subtask(
        plan.tenant,
        id,
        plan.session_id,
        plan.run_id,
        plan.id,
        draft.key,
        draft.title,
        draft.instructions,
        draft.agent,
        position,
        list(draft.depends_on),
        retry_policy=draft.retry_policy,
        artifacts=list(draft.artifacts),
        gates=list(draft.gates),
    )
