"""ApprovalService: the inbox across sessions, and deciding."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from gen.assent.v1 import approval_pb2, grant_pb2, session_service_pb2
from gen.assent.v1 import approval_service_pb2 as pb
from orchestrator.domain.errors import NotFound
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Approval, Decision, Remember
from orchestrator.domain.terms import Decider, may_decide
from orchestrator.operations import approvals, grants
from orchestrator.operations.approvals import Decided
from orchestrator.operations.context import Caller, Context
from orchestrator.operations.looking import Looking
from orchestrator.servicers.budgets import read_budget
from orchestrator.servicers.convert import enum_word, event_to_proto, item_to_proto, to_proto
from orchestrator.servicers.later import the_rest_later
from orchestrator.servicers.requests import caller, reader
from orchestrator.store import queries
from orchestrator.store.paging import Paging
from orchestrator.streaming.feed import Heartbeat
from orchestrator.streaming.inbox import Filter, Inboxes, Snapshot, everything
from rpc.errors import Context as RpcContext


@the_rest_later(pb.DESCRIPTOR.services_by_name["ApprovalService"])
class Approvals:
    def __init__(self, ctx: Context, inboxes: Inboxes, looking: Looking) -> None:
        self._ctx = ctx
        self._inboxes = inboxes
        self._looking = looking

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: RpcContext) -> pb.ListApprovalsResponse:
        who = reader()
        page = await queries.list_approvals(
            self._ctx.database,
            who.tenant,
            state=enum_word(approval_pb2.ApprovalState.DESCRIPTOR, request.state),
            kind=enum_word(approval_pb2.ApprovalKind.DESCRIPTOR, request.kind),
            session_id=request.session_id,
            run_id=request.run_id,
            tool=request.tool,
            paging=Paging(request.page_size, request.page_token),
            keep=decidable_by(who) if request.decidable else None,
            kept_for=("decidable", who.subject, sorted(who.roles)) if request.decidable else (),
        )
        return pb.ListApprovalsResponse(
            approvals=await self._looked_at(page.items), next_page_token=page.next_page_token
        )

    async def GetApproval(self, request: pb.GetApprovalRequest, context: RpcContext) -> pb.GetApprovalResponse:
        approval = await queries.get_approval(self._ctx.database, reader().tenant, request.approval_id)
        if approval is None:
            raise NotFound("approval", request.approval_id)
        [shown] = await self._looked_at([approval])
        return pb.GetApprovalResponse(approval=shown)

    async def DecideApproval(self, request: pb.DecideApprovalRequest, context: RpcContext) -> pb.DecideApprovalResponse:
        who = caller("DecideApproval", request)
        decided = await decide_as_said(self._ctx, who, request, edited_artifact=request.edited_artifact)
        return pb.DecideApprovalResponse(approval=to_proto(approval_pb2.Approval, decided.approval))

    async def WatchApprovals(
        self, request: pb.WatchApprovalsRequest, context: RpcContext
    ) -> AsyncIterator[pb.WatchApprovalsResponse]:
        who = reader()
        kind = enum_word(approval_pb2.ApprovalKind.DESCRIPTOR, request.kind)
        wanted = Filter(who.tenant, kind, request.session_id, request.run_id, request.tool)
        with self._inboxes.join(wanted, decidable_by(who) if request.decidable else everything) as watch:
            async for part in watch.parts():
                yield await self._shown(part)

    async def ListGrants(self, request: pb.ListGrantsRequest, context: RpcContext) -> pb.ListGrantsResponse:
        tenant = reader().tenant
        if await queries.get_session(self._ctx.database, tenant, request.session_id) is None:
            raise NotFound("session", request.session_id)
        paging = Paging(request.page_size, request.page_token)
        page = await queries.list_grants(self._ctx.database, tenant, request.session_id, paging=paging)
        found = [to_proto(grant_pb2.Grant, g) for g in page.items]
        return pb.ListGrantsResponse(grants=found, next_page_token=page.next_page_token)

    async def RevokeGrant(self, request: pb.RevokeGrantRequest, context: RpcContext) -> pb.RevokeGrantResponse:
        who = caller("RevokeGrant", request)
        grant = await grants.revoke(self._ctx, who, request.grant_id, request.reason)
        return pb.RevokeGrantResponse(grant=to_proto(grant_pb2.Grant, grant))

    async def _looked_at(self, found: Sequence[Approval]) -> list[approval_pb2.Approval]:
        return [to_proto(approval_pb2.Approval, each) for each in await self._looking.at(found)]

    async def _shown(self, part: Snapshot | list[LoggedEvent] | Heartbeat) -> pb.WatchApprovalsResponse:
        if isinstance(part, Snapshot):
            found = await self._looked_at(part.approvals)
            return pb.WatchApprovalsResponse(approvals=found, snapshot_complete=part.is_complete)
        if isinstance(part, Heartbeat):
            return pb.WatchApprovalsResponse(events=[item_to_proto("", part, self._ctx.clock())])
        return pb.WatchApprovalsResponse(events=[event_to_proto(event) for event in part])


def decidable_by(who: Caller) -> Callable[[Approval], bool]:
    """Which approvals the caller may decide."""
    decider = Decider(who.subject, who.roles)
    return lambda approval: may_decide(approval, decider)


Said = pb.DecideApprovalRequest | session_service_pb2.DecisionInput


async def decide_as_said(ctx: Context, who: Caller, said: Said, **where: Any) -> Decided:
    """`where` is what decide_approval takes of it. Raises as that does, and what is wrong with the words themselves."""
    action = enum_word(approval_pb2.DecisionAction.DESCRIPTOR, said.action)
    async with approvals.audited(ctx, who, said.approval_id, action, said.digest):
        return await approvals.decide_approval(ctx, who, said.approval_id, decision_of(said, who), **where)


def decision_of(said: Said, who: Caller) -> Decision:
    """What was answered. Raises InvalidInput."""
    action = enum_word(approval_pb2.DecisionAction.DESCRIPTOR, said.action)
    return Decision(
        action,
        who.subject,
        0,
        said.digest,
        said.feedback,
        response_json=said.response_json,
        edited_arguments_json=said.edited_arguments_json,
        new_limit=read_budget(said.new_limit, "new_limit") if said.HasField("new_limit") else None,
        remember=_remember(said.remember) if said.HasField("remember") else None,
    )


def _remember(said: grant_pb2.Remember) -> Remember:
    if not said.HasField("lifetime"):
        return Remember(said.constraint)
    return Remember(said.constraint, said.lifetime.ToMicroseconds())
