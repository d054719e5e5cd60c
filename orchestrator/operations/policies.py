"""What a policy would say of a call that nobody has made: read, judged, and nothing written."""

from dataclasses import dataclass

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import Policy, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import common_tools, offered_tools
from orchestrator.domain.errors import InvalidJson, NotFound, UnknownAgent, Violation
from orchestrator.domain.grants import use_grant
from orchestrator.domain.policy import ANY_AGENT, Call, Look, Verdict, explain
from orchestrator.domain.records import Run, Session, Step
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import RunState, StepState
from orchestrator.operations.context import Caller, Context
from orchestrator.store import queries
from orchestrator.store.paging import MAX_PAGE_SIZE, Paging


@dataclass(frozen=True, slots=True)
class Question:
    """A call, and what it would be judged by: empty parts are left to the session, or to the defaults."""

    tool: str
    arguments_json: str = ""
    agent: str = ""
    policy: str = ""
    digest: str = ""
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """What would happen, and every rule that was looked at; the verdict is before a grant, where one allows it."""

    policy: Policy
    verdict: Verdict
    looks: list[Look]
    grant_id: str = ""


async def explain_call(ctx: Context, caller: Caller, asked: Question) -> Explained:
    """Raises NotFound for the session or the policy, UnknownAgent, InvalidJson."""
    session = await _session(ctx, caller, asked.session_id)
    policy = _policy(ctx, session, asked)
    agent = ctx.catalog.agents.get(asked.agent) if asked.agent else ANY_AGENT
    if agent is None:
        raise UnknownAgent(
            [Violation("agent", f"no agent {asked.agent!r}; there are: {', '.join(ctx.catalog.agents)}")]
        )
    try:
        arguments = parse_object(asked.arguments_json)
    except BadJson as error:
        raise InvalidJson([Violation("arguments_json", str(error))]) from None
    tools = offered_tools(session, ctx.catalog) if session else common_tools(ctx.catalog)
    labels = session.labels if session else {}
    call = Call(asked.tool, arguments, agent, tools.get(asked.tool), asked.arguments_json, labels)
    looks = list(explain(policy, call))
    verdict = looks[-1].verdict
    assert verdict is not None
    grant_id = ""
    if session is not None and verdict.effect == "ASK" and verdict.may_remember and call.tool is not None:
        grant_id = await _grant(ctx, caller, session, _as_step(session, call, call.tool, verdict), policy)
    return Explained(policy, verdict, looks, grant_id)


async def _session(ctx: Context, caller: Caller, session_id: str) -> Session | None:
    if not session_id:
        return None
    session = await queries.get_session(ctx.database, caller.tenant, session_id)
    if session is None:
        raise NotFound("session", session_id)
    return session


def _policy(ctx: Context, session: Session | None, asked: Question) -> Policy:
    if session is not None and not asked.policy:
        policy: Policy | None = ctx.catalog.policy_of(session)
    else:
        policy = ctx.catalog.policy_named(asked.policy)
    if policy is None or (asked.digest and asked.digest != policy.digest):
        raise NotFound("policy", asked.policy or asked.digest)
    return policy


async def _grant(ctx: Context, caller: Caller, session: Session, step: Step, policy: Policy) -> str:
    """The grant that would allow the call in a run of the caller's; empty: none."""
    page = await queries.list_grants(ctx.database, caller.tenant, session.id, paging=Paging(MAX_PAGE_SIZE, ""))
    run = Run(session.tenant, "", session.id, RunState.RUNNING, "MESSAGE", "", "", requester=caller.subject)
    snapshot = Snapshot(session, runs={run.id: run}, grants={grant.id: grant for grant in page.items})
    allowed = use_grant(Change(snapshot, ctx.clock(), ctx.new_id, policy=policy), step, policy)
    return allowed.grant_id if allowed else ""


def _as_step(session: Session, call: Call, tool: Tool, verdict: Verdict) -> Step:
    """The call as it would be proposed."""
    return Step(
        session.tenant,
        "",
        session.id,
        "",
        "",
        "",
        "TOOL",
        StepState.PROPOSED,
        call.agent.name,
        0,
        tool=call.name,
        arguments_json=call.arguments_json,
        side_effect=tool.side_effect,
        schema_digest=tool.schema_digest,
        policy_rule=verdict.rule,
    )
