"""What a command does to a session, before the engine's rules go on: messages, client plans, another agent.

Decisions are in `deciding`, what ends or holds runs in `control`. Every function works on a Change and returns the row
the caller asked for.
"""

from collections.abc import Callable

from orchestrator.domain.catalog import ARCHITECT, ROUTER, Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.drafts import PlanDraft, faults_of
from orchestrator.domain.ending import cancel_run
from orchestrator.domain.errors import (
    InvalidPlan,
    LimitExceeded,
    SessionBusy,
    UnknownAgent,
    UnknownPolicy,
    Violation,
    WrongState,
)
from orchestrator.domain.events import AgentSwitched, MessageCreated, RunQueued, SessionCreated
from orchestrator.domain.frozen import replace
from orchestrator.domain.planning import store_draft
from orchestrator.domain.reconcile import activate
from orchestrator.domain.records import Budget, Message, Plan, Run, Session, is_open
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import RunState, SessionState

MAX_QUEUED_RUNS = 32
NO_LIMITS = Budget()


def create_session(session: Session, now: int, new_id: Callable[[], str]) -> Change:
    change = Change(Snapshot(replace(session, create_time=now, update_time=now)), now, new_id)
    change.emit(SessionCreated(session.title, session.agent, session.creator, session.labels, session.workspace))
    return change


def check_agent(name: str, catalog: Catalog) -> str:
    """The name of an agent a person may address. Raises UnknownAgent."""
    if name == "auto":
        return name
    agent = catalog.agents.get(name)
    if agent is None or agent.role == ROUTER:
        may = ["auto", *(a.name for a in catalog.agents.values() if a.role != ROUTER)]
        raise UnknownAgent([Violation("agent", f"no agent {name!r}; there are: {', '.join(may)}")])
    return name


def switch_agent(change: Change, agent: str, actor: str, catalog: Catalog) -> Session:
    """Whom messages to come without an agent go to; also to the one it has, as a choice that is on record.

    What was said keeps whom it was addressed to, and a subtask its agent. Raises UnknownAgent, and WrongState for a
    closed session.
    """
    _check_open(change, "agent_switched")
    check_agent(agent, catalog)
    change.emit(AgentSwitched(change.session.agent, agent, actor))
    change.put_session(agent=agent)
    return change.session


def check_policy(name: str, catalog: Catalog) -> str:
    """The name of a policy that there is; empty: the default's. Raises UnknownPolicy."""
    if catalog.policy_named(name) is None:
        there_are = ", ".join(sorted(catalog.policies))
        raise UnknownPolicy([Violation("settings.policy", f"no policy {name!r}; there are: {there_are}")])
    return name


def receive_message(
    change: Change, text: str, agent: str, author: str, catalog: Catalog, *, traceparent: str = ""
) -> tuple[Message, Run]:
    """A user's message starts a run, queues one behind those before it, or cancels those: as the session wants it."""
    _check_open(change)
    addressed = check_agent(agent or change.session.agent, catalog)
    _check_room(change)
    run_id = change.new_id()
    message = Message(
        change.session.tenant,
        change.new_id(),
        change.session.id,
        run_id,
        "USER",
        addressed,
        text,
        author,
        sequence=change.next_sequence,
        create_time=change.now,
    )
    change.put(message)
    change.emit(MessageCreated(message))
    run = _new_run(change, run_id, "MESSAGE", addressed, text, author, traceparent=traceparent, message_id=message.id)
    return message, _enter(change, _routed(run, addressed, catalog), catalog)


def submit_plan(
    change: Change,
    draft: PlanDraft,
    goal: str,
    author: str,
    catalog: Catalog,
    *,
    budget: Budget = NO_LIMITS,
    traceparent: str = "",
) -> tuple[Plan, Run]:
    """A client's own plan: a DRAFT like any other, reviewed when its run's turn comes."""
    _check_open(change)
    if problems := faults_of(draft, catalog):
        raise InvalidPlan(problems)
    _check_room(change)
    run = _new_run(
        change,
        change.new_id(),
        "PLAN",
        "",
        goal or draft.title,
        author,
        traceparent=traceparent,
        route="COMPLEX",
    )
    run = change.put(replace(run, budget=budget))
    plan = store_draft(change, run, draft, author)
    run = _enter(change, change.snapshot.runs[run.id], catalog)
    return plan, run


def _check_open(change: Change, trigger: str = "message") -> None:
    session = change.session
    if session.state == SessionState.CLOSED:
        open_states = tuple(s.value for s in SessionState if s != SessionState.CLOSED)
        raise WrongState("session", session.id, session.state, trigger, open_states)


def _check_room(change: Change) -> None:
    waiting = [r for r in change.snapshot.runs.values() if is_open(r)]
    if waiting and change.session.when_busy == "REJECT":
        raise SessionBusy(change.session.id, change.session.active_run_id)
    if len(waiting) > MAX_QUEUED_RUNS:
        raise LimitExceeded("queued runs per session", MAX_QUEUED_RUNS)


def _new_run(
    change: Change,
    run_id: str,
    kind: str,
    agent: str,
    goal: str,
    author: str,
    *,
    message_id: str = "",
    route: str = "",
    traceparent: str = "",
) -> Run:
    session = change.session
    last = max((r.queue_number for r in change.snapshot.runs.values()), default=0)
    return Run(
        session.tenant,
        run_id,
        session.id,
        RunState.CREATED,
        kind,
        agent,
        goal,
        message_id,
        author,
        route=route,
        traceparent=traceparent,
        queue_number=max(last, session.last_sequence) + 1,
        create_time=change.now,
    )


def _routed(run: Run, agent: str, catalog: Catalog) -> Run:
    """A message to a named agent needs no routing."""
    if agent == "auto":
        return run
    route = "COMPLEX" if catalog.agents[agent].role == ARCHITECT else "ATOMIC"
    return replace(run, route=route, route_agent=agent, route_reason="the message names the agent")


def _enter(change: Change, run: Run, catalog: Catalog) -> Run:
    ahead = [r for r in change.snapshot.runs.values() if is_open(r) and r.id != run.id]
    if change.session.when_busy == "INTERRUPT":
        _interrupt(change, ahead, run)
        ahead = []
    if not ahead:
        return activate(change, change.put(run), catalog)
    behind = max(ahead, key=lambda r: r.queue_number)
    run = change.put(replace(run, queued_behind_run_id=behind.id))
    change.emit(RunQueued(run.id, run.message_id, behind.id, run.agent))
    return run


def _interrupt(change: Change, ahead: list[Run], run: Run) -> None:
    """Every open run ends: the active one, and what was queued before the session's runs interrupted one another."""
    words = "a message" if run.kind == "MESSAGE" else "a plan"
    for each in sorted(ahead, key=lambda r: r.queue_number):
        cancel_run(change, each, actor=run.requester, reason=f"interrupted by {words} of {run.requester}")
