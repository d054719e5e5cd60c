"""CatalogService: reading what is registered; what registers it comes with the files of the catalog directory."""

from gen.assent.v1 import agent_pb2, policy_pb2, tool_pb2
from gen.assent.v1 import catalog_service_pb2 as pb
from orchestrator.domain.catalog import Agent, Policy
from orchestrator.domain.client_tools import common_tools
from orchestrator.domain.errors import NotFound
from orchestrator.operations.context import Context
from orchestrator.servicers.convert import to_proto
from orchestrator.servicers.later import the_rest_later
from rpc.errors import Context as RpcContext


@the_rest_later(pb.DESCRIPTOR.services_by_name["CatalogService"])
class Catalogs:
    """Lists are short: they are the files of one directory, and come whole in one page."""

    def __init__(self, ctx: Context) -> None:
        self._catalog = ctx.catalog

    async def ListAgents(self, request: pb.ListAgentsRequest, context: RpcContext) -> pb.ListAgentsResponse:
        return pb.ListAgentsResponse(agents=[_agent(a) for a in self._catalog.agents.values()])

    async def GetAgent(self, request: pb.GetAgentRequest, context: RpcContext) -> pb.GetAgentResponse:
        agent = self._catalog.agents.get(request.name)
        if agent is None or (request.digest and request.digest != agent.digest):
            raise NotFound("agent", request.name)
        return pb.GetAgentResponse(agent=_agent(agent))

    async def ListPolicies(self, request: pb.ListPoliciesRequest, context: RpcContext) -> pb.ListPoliciesResponse:
        return pb.ListPoliciesResponse(policies=[_policy(self._catalog.policy)])

    async def GetPolicy(self, request: pb.GetPolicyRequest, context: RpcContext) -> pb.GetPolicyResponse:
        policy = self._catalog.policy
        if request.name != policy.name or (request.digest and request.digest != policy.digest):
            raise NotFound("policy", request.name)
        return pb.GetPolicyResponse(policy=_policy(policy))

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


def _policy(policy: Policy) -> policy_pb2.Policy:
    return to_proto(policy_pb2.Policy, policy, current=True, default_effect=policy_pb2.POLICY_EFFECT_ASK)
