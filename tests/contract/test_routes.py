"""The RPCs and their HTTP routes are those that clients were promised: changing one here is breaking them."""

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import MethodDescriptor

from tests.contract import descriptors as contracts

_SESSIONS = """
CreateSession           POST   /v1/sessions
GetSession              GET    /v1/sessions/{session_id}
ListSessions            GET    /v1/sessions
SendMessage             POST   /v1/sessions/{session_id}/messages
ListMessages            GET    /v1/sessions/{session_id}/messages
ClaimToolCall           POST   /v1/steps/{step_id}:claim
SubmitToolResult        POST   /v1/sessions/{session_id}/toolResults
SwitchAgent             POST   /v1/sessions/{session_id}:switchAgent
Converse                POST   /v1/sessions/{session_id}:converse              stream
StreamSession           GET    /v1/sessions/{session_id}:stream                stream
ListEvents              GET    /v1/sessions/{session_id}/events
CloseSession            POST   /v1/sessions/{session_id}:close
DeleteSession           DELETE /v1/sessions/{session_id}
"""
_PLANS = """
CreatePlan              POST   /v1/sessions/{session_id}/plans
GetPlan                 GET    /v1/plans/{plan_id}
ListPlans               GET    /v1/sessions/{session_id}/plans
RevisePlan              POST   /v1/plans/{plan_id}:revise
"""
_RUNS = """
StartRun                POST   /v1/runs
ExecuteRun              POST   /v1/runs:execute                                stream
GetRun                  GET    /v1/runs/{run_id}
ListRuns                GET    /v1/runs
PauseRun                POST   /v1/runs/{run_id}:pause
ResumeRun               POST   /v1/runs/{run_id}:resume
CancelRun               POST   /v1/runs/{run_id}:cancel
ForkRun                 POST   /v1/runs/{run_id}:fork
ListSteps               GET    /v1/runs/{run_id}/steps
ListArtifacts           GET    /v1/runs/{run_id}/artifacts
GetArtifact             GET    /v1/artifacts/{artifact_id}
GetRunReport            GET    /v1/runs/{run_id}/report
"""
_APPROVALS = """
ListApprovals           GET    /v1/approvals
GetApproval             GET    /v1/approvals/{approval_id}
DecideApproval          POST   /v1/approvals/{approval_id}:decide
WatchApprovals          GET    /v1/approvals:watch                             stream
ListGrants              GET    /v1/sessions/{session_id}/grants
RevokeGrant             POST   /v1/grants/{grant_id}:revoke
"""
_CATALOG = """
ListAgents              GET    /v1/agents
GetAgent                GET    /v1/agents/{name}
RegisterAgent           POST   /v1/agents
ListWorkflows           GET    /v1/workflows
GetWorkflow             GET    /v1/workflows/{name}
RegisterWorkflow        POST   /v1/workflows
ListPolicies            GET    /v1/policies
GetPolicy               GET    /v1/policies/{name}
RegisterPolicy          POST   /v1/policies
ListSchemas             GET    /v1/schemas
GetSchema               GET    /v1/schemas/{name}
RegisterSchema          POST   /v1/schemas
ListTools               GET    /v1/tools
GetTool                 GET    /v1/tools/{name}
ListModels              GET    /v1/models
GetModel                GET    /v1/models/{name}
CheckWorkflow           POST   /v1/workflows:check
ExplainPolicy           POST   /v1/policies:explain
"""
_USAGE = """
GetUsage                GET    /v1/usage
"""
_PROMISED = {
    "SessionService": _SESSIONS,
    "PlanService": _PLANS,
    "RunService": _RUNS,
    "ApprovalService": _APPROVALS,
    "CatalogService": _CATALOG,
    "UsageService": _USAGE,
}
_SERVICES = {service.name: service for service in contracts.services(contracts.PUBLIC)}


def test_the_services_are_those_promised() -> None:
    assert _SERVICES.keys() == _PROMISED.keys()


@pytest.mark.parametrize("service", _PROMISED)
def test_the_routes_of_a_service_are_those_promised(service: str) -> None:
    promised = sorted(" ".join(line.split()) for line in _PROMISED[service].strip().splitlines())
    offered = sorted(_route(method) for method in _SERVICES[service].methods)
    assert offered == promised


def test_no_two_rpcs_share_a_route() -> None:
    routes = [_route(method).split(" ", 1)[1] for method in contracts.methods(contracts.PUBLIC)]
    assert len(set(routes)) == len(routes)


def test_everything_but_what_travels_in_the_path_may_travel_in_a_body() -> None:
    for method in contracts.methods(contracts.PUBLIC):
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        assert rule.body == ("*" if rule.WhichOneof("pattern") == "post" else "")


def test_the_executor_has_its_three_rpcs() -> None:
    (service,) = contracts.services(contracts.EXECUTOR)
    shapes = {each.name: (each.client_streaming, each.server_streaming) for each in service.methods}
    assert shapes == {"PerformSteps": (True, True), "RunStep": (False, True), "Describe": (False, False)}


def _route(method: MethodDescriptor) -> str:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    stream = " stream" if method.server_streaming else ""
    return f"{method.name} {verb.upper()} {getattr(rule, verb)}{stream}"
