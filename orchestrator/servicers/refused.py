"""Decisions and results that break a constraint of the contract: no operation sees them; they are audited like any
refused one."""

from dataclasses import replace

from gen.assent.v1 import approval_pb2, approval_service_pb2, session_service_pb2
from orchestrator.operations.approvals import record_refusal
from orchestrator.operations.context import Context
from orchestrator.servicers.convert import enum_word
from orchestrator.servicers.requests import reader
from rpc.serving import OnInvalid
from rpc.validation import InvalidRequest

_INPUTS = ("tool_decision", "plan_decision", "tool_result")


def audited(ctx: Context) -> OnInvalid:
    """What a server does with invalid requests: one row for each that is a decision or the result of a call."""

    async def audit(refusal: InvalidRequest) -> None:
        said, method = refusal.request, "DecideApproval"
        if isinstance(said, session_service_pb2.ConverseRequest) and said.WhichOneof("input") in _INPUTS:
            said, method = getattr(said, said.WhichOneof("input") or ""), "Converse"
        if isinstance(said, session_service_pb2.SubmitToolResultRequest | session_service_pb2.ClientToolResult):
            who = replace(reader(), method=method if method == "Converse" else "SubmitToolResult")
            await record_refusal(ctx, who, "", "", "", refusal, step_id=said.step_id)
        if isinstance(said, approval_service_pb2.DecideApprovalRequest | session_service_pb2.DecisionInput):
            who = replace(reader(), method=method)
            await record_refusal(ctx, who, said.approval_id, _action(said.action), said.digest, refusal)

    return audit


def _action(number: int) -> str:
    """In words, where it is one."""
    actions = approval_pb2.DecisionAction.DESCRIPTOR
    return enum_word(actions, number) if number in actions.values_by_number else str(number)
