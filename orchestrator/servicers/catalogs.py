"""CatalogService: reading what is registered; what registers it comes with the files of the catalog directory."""

from dataclasses import asdict

from gen.assent.v1 import agent_pb2, approval_pb2, policy_pb2, tool_pb2
from gen.assent.v1 import catalog_service_pb2 as pb
from orchestrator.domain.catalog import Agent, Policy
from orchestrator.domain.client_tools import common_tools
from orchestrator.domain.errors import NotFound
from orchestrator.operations import policies
from orchestrator.operations.context import Context
from orchestrator.servicers.convert import to_proto
from orchestrator.servicers.later import the_rest_later
from orchestrator.servicers.requests import reader
from rpc.errors import Context as RpcContext


@the_rest_later(pb.DESCRIPTOR.services_by_name["CatalogService"])
class Catalogs:
    """Lists are short: they are the files of one directory, and come whole in one page."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._catalog = ctx.catalog

    async def ListAgents(self, request: pb.ListAgentsRequest, context: RpcContext) -> pb.ListAgentsResponse:
        return pb.ListAgentsResponse(agents=[_agent(a) for a in self._catalog.agents.values()])

    async def GetAgent(self, request: pb.GetAgentRequest, context: RpcContext) -> pb.GetAgentResponse:
        agent = self._catalog.agents.get(request.name)
        if agent is None or (request.digest and request.digest != agent.digest):
            raise NotFound("agent", request.name)
        return pb.GetAgentResponse(agent=_agent(agent))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: RpcContext) -> pb.ListPoliciesResponse:
        return pb.ListPoliciesResponse(policies=[_policy(p) for _, p in sorted(self._catalog.policies.items())])

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: RpcContext) -> pb.GetPolicyResponse:
        policy = self._catalog.policies.get(request.name)
        if policy is None or (request.digest and request.digest != policy.digest):
            raise NotFound("policy", request.name)
        return pb.GetPolicyResponse(policy=_policy(policy))

    async def ExplainPolicy(self, request: pb.ExplainPolicyRequest, context: RpcContext) -> pb.ExplainPolicyResponse:
        asked = policies.Question(
            request.tool, request.arguments_json, request.agent, request.policy, request.digest, request.session_id
        )
        told = await policies.explain_call(self._ctx, reader(), asked)
        verdict, asks = told.verdict, told.verdict.effect == "ASK"
        effect = "ALLOW" if told.grant_id else verdict.effect
        return pb.ExplainPolicyResponse(
            effect=policy_pb2.PolicyEffect.Value(f"POLICY_EFFECT_{effect}"),
            rule=verdict.rule,
            reason=verdict.reason,
            policy=told.policy.name,
            policy_digest=told.policy.digest,
            grant_id=told.grant_id,
            verdicts=[to_proto(pb.RuleVerdict, look) for look in told.looks],
            terms=to_proto(approval_pb2.ApprovalTerms, verdict.terms) if asks else None,
            may_remember=asks and verdict.may_remember,
        )

    async def ListTools(self, request: pb.ListToolsRequest, context: RpcContext) -> pb.ListToolsResponse:
        return pb.ListToolsResponse(tools=[to_proto(tool_pb2.Tool, t) for t in common_tools(self._catalog).values()])

    async def GetTool(self, request: pb.GetToolRequest, context: RpcContext) -> pb.GetToolResponse:
        tool = common_tools(self._catalog).get(request.name)
        if tool is None:
            raise NotFound("tool", request.name)
        return pb.GetToolResponse(tool=to_proto(tool_pb2.Tool, tool))


def _agent(agent: Agent) -> agent_pb2.Agent:
    limits = {
        "steps": agent.max_steps,
        "attempts": agent.retry_policy.max_attempts,
        "max_output_tokens": agent.max_output_tokens,
        "model_timeout": agent.model_timeout,
        "tool_timeout": agent.tool_timeout,
    }
    return to_proto(agent_pb2.Agent, agent, limits=to_proto(agent_pb2.AgentLimits, limits), current=True)


_OFFERS = {None: "", True: "OFFERED", False: "NOT_OFFERED"}


def _policy(policy: Policy) -> policy_pb2.Policy:
    rules = [{**asdict(rule), "remember": _OFFERS[rule.remember]} for rule in policy.rules]
    shown = {"name": policy.name, "digest": policy.digest, "description": policy.description}
    return to_proto(
        policy_pb2.Policy,
        shown,
        current=True,
        default_effect=policy_pb2.POLICY_EFFECT_ASK,
        rules=[to_proto(policy_pb2.PolicyRule, rule) for rule in rules],
        terms=[to_proto(policy_pb2.KindTerms, {"kind": kind, "terms": terms}) for kind, terms in policy.terms.items()],
    )
