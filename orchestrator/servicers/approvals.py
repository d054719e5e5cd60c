"""ApprovalService: the inbox across sessions, and deciding."""

from gen.assent.v1 import approval_pb2, session_service_pb2
from gen.assent.v1 import approval_service_pb2 as pb
from orchestrator.domain.errors import InvalidInput, NotFound, Violation
from orchestrator.operations import approvals
from orchestrator.operations.context import Context
from orchestrator.servicers.convert import enum_word, to_proto
from orchestrator.servicers.later import the_rest_later
from orchestrator.servicers.requests import caller, reader
from orchestrator.store import queries
from orchestrator.store.paging import Paging
from rpc.errors import Context as RpcContext


@the_rest_later(pb.DESCRIPTOR.services_by_name["ApprovalService"])
class Approvals:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: RpcContext) -> pb.ListApprovalsResponse:
        page = await queries.list_approvals(
            self._ctx.database,
            reader().tenant,
            state=enum_word(approval_pb2.ApprovalState.DESCRIPTOR, request.state),
            kind=enum_word(approval_pb2.ApprovalKind.DESCRIPTOR, request.kind),
            session_id=request.session_id,
            run_id=request.run_id,
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(approval_pb2.Approval, a) for a in page.items]
        return pb.ListApprovalsResponse(approvals=found, next_page_token=page.next_page_token)

    async def GetApproval(self, request: pb.GetApprovalRequest, context: RpcContext) -> pb.GetApprovalResponse:
        approval = await queries.get_approval(self._ctx.database, reader().tenant, request.approval_id)
        if approval is None:
            raise NotFound("approval", request.approval_id)
        return pb.GetApprovalResponse(approval=to_proto(approval_pb2.Approval, approval))

    async def DecideApproval(self, request: pb.DecideApprovalRequest, context: RpcContext) -> pb.DecideApprovalResponse:
        refuse_what_comes_later(request)
        decided = await approvals.decide_approval(
            self._ctx,
            caller("DecideApproval", request),
            request.approval_id,
            enum_word(approval_pb2.DecisionAction.DESCRIPTOR, request.action),
            request.digest,
            request.feedback,
        )
        return pb.DecideApprovalResponse(approval=to_proto(approval_pb2.Approval, decided.approval))


def refuse_what_comes_later(decision: pb.DecideApprovalRequest | session_service_pb2.DecisionInput) -> None:
    """Nothing a decision says is ignored: what this version does not do is refused by name."""
    if asked := [field.name for field, _ in decision.ListFields() if field.name in _LATER]:
        raise InvalidInput([Violation(name, "is not supported by this version") for name in asked])


_LATER = frozenset(("edited_arguments_json", "edited_artifact", "response_json", "new_limit", "remember"))
