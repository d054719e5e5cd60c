"""PlanService: reading plans, a client's own drafts, and the next version of a draft."""

from gen.assent.v1 import plan_pb2, workflow_pb2
from gen.assent.v1 import plan_service_pb2 as pb
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.errors import NotFound
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.records import ExpectedArtifact, RetryPolicy
from orchestrator.operations import plans
from orchestrator.operations.context import Context
from orchestrator.servicers.budgets import read_budget
from orchestrator.servicers.convert import enum_word, plan_to_proto, to_proto
from orchestrator.servicers.later import refuse_later, the_rest_later
from orchestrator.servicers.requests import caller, reader
from orchestrator.store import queries
from orchestrator.store.paging import Paging
from rpc.errors import Context as RpcContext


@the_rest_later(pb.DESCRIPTOR.services_by_name["PlanService"])
class Plans:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def CreatePlan(self, request: pb.CreatePlanRequest, context: RpcContext) -> pb.CreatePlanResponse:
        budget = read_budget(request.budget, "budget")
        who = caller("CreatePlan", request)
        made = await plans.create(self._ctx, who, request.session_id, _draft(request), request.goal, budget)
        return pb.CreatePlanResponse(plan=plan_to_proto(made.plan, made.subtasks))

    async def RevisePlan(self, request: pb.RevisePlanRequest, context: RpcContext) -> pb.RevisePlanResponse:
        who = caller("RevisePlan", request)
        revised = await plans.revise(self._ctx, who, request.plan_id, _draft(request), request.goal, request.digest)
        return pb.RevisePlanResponse(plan=plan_to_proto(revised.plan, revised.subtasks))

    async def GetPlan(self, request: pb.GetPlanRequest, context: RpcContext) -> pb.GetPlanResponse:
        tenant = reader().tenant
        plan = await queries.get_plan(self._ctx.database, tenant, request.plan_id)
        if plan is None:
            raise NotFound("plan", request.plan_id)
        subtasks = await queries.subtasks_of(self._ctx.database, tenant, plan.id)
        return pb.GetPlanResponse(plan=plan_to_proto(plan, subtasks))

    async def ListPlans(self, request: pb.ListPlansRequest, context: RpcContext) -> pb.ListPlansResponse:
        tenant = reader().tenant
        if await queries.get_session(self._ctx.database, tenant, request.session_id) is None:
            raise NotFound("session", request.session_id)
        page = await queries.list_plans(
            self._ctx.database,
            tenant,
            request.session_id,
            run_id=request.run_id,
            state=enum_word(plan_pb2.PlanState.DESCRIPTOR, request.state),
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(plan_pb2.Plan, plan) for plan in page.items]
        return pb.ListPlansResponse(plans=found, next_page_token=page.next_page_token)


def _draft(request: pb.CreatePlanRequest | pb.RevisePlanRequest) -> PlanDraft:
    """The whole graph as somebody has written it. Raises InvalidInput."""
    subtasks = tuple(
        SubtaskDraft(
            said.key,
            said.title or said.key,
            said.instructions,
            said.agent,
            tuple(said.depends_on),
            _retry_policy(said),
            tuple(_expected(each, f"subtasks[{at}].artifacts[{n}].") for n, each in enumerate(said.artifacts)),
            tuple(said.gates),
        )
        for at, said in enumerate(request.subtasks)
    )
    return PlanDraft(request.title, request.summary, subtasks, request.parallel_limit or 1)


def _expected(said: workflow_pb2.ExpectedArtifact, path: str) -> ExpectedArtifact:
    refuse_later((path, said, ("schema",)))
    return ExpectedArtifact(said.name, said.media_type, path=said.path, schema_json=said.schema_json)


def _retry_policy(draft: plan_pb2.SubtaskDraft) -> RetryPolicy | None:
    """What the draft leaves at zero takes the default, so that a person approves numbers."""
    if not draft.HasField("retry_policy"):
        return None
    said, default = draft.retry_policy, RetryPolicy()
    return RetryPolicy(
        said.max_attempts or default.max_attempts,
        said.first_backoff.ToMicroseconds() or default.first_backoff,
        said.longest_backoff.ToMicroseconds() or default.longest_backoff,
        said.factor or default.factor,
        list(said.non_retryable_reasons),
    )
