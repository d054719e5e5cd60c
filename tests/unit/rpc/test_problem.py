"""A Problem survives the wire, in one shape, within the size that clients accept."""

import ast
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

import rpc
from gen.assent.v1 import error_reason_pb2
from rpc.problem import DETAILS_KEY, Problem


def wrong_state() -> Problem:
    return Problem(
        grpc.StatusCode.FAILED_PRECONDITION,
        "APPROVAL_ALREADY_DECIDED",
        "the approval has been decided",
        disposition="HUMAN_REQUIRED",
        metadata={"winner": "developer"},
        fields=[("digest", "is of another version"), ("plan.subtasks[2].key", "is used twice")],
        preconditions=[("APPROVAL_STATE", "approvals/1", "it is RESOLVED; PENDING would do")],
        retry_after=1.5,
    )


def as_rpc_error(status: status_pb2.Status, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=status.message)


def test_status_has_exactly_one_error_info_in_the_domain_with_its_disposition() -> None:
    status = wrong_state().to_status()
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo()
    assert len(infos) == 1
    assert infos[0].Unpack(info)
    assert (info.reason, info.domain) == ("APPROVAL_ALREADY_DECIDED", "assent")
    assert dict(info.metadata) == {"winner": "developer", "disposition": "HUMAN_REQUIRED"}
    assert status.code == 9


def test_bare_problem_carries_no_detail_but_its_error_info() -> None:
    status = Problem(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", "no such session").to_status()
    assert [detail.TypeName() for detail in status.details] == ["google.rpc.ErrorInfo"]


def test_client_reads_back_all_that_was_said() -> None:
    sent = wrong_state()
    read = Problem.from_rpc_error(as_rpc_error(sent.to_status(), sent.code))
    assert vars(read) == vars(sent)


@pytest.mark.parametrize(
    ("code", "disposition"),
    [(grpc.StatusCode.UNAVAILABLE, "RETRYABLE"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "FATAL")],
)
def test_transport_error_without_details_has_an_empty_reason(code: grpc.StatusCode, disposition: str) -> None:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="connection refused")
    read = Problem.from_rpc_error(error)
    assert (read.code, read.reason, read.message) == (code, "", "connection refused")
    assert read.disposition == disposition


def test_details_that_are_no_status_are_ignored() -> None:
    trailing = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), trailing, details="oops")
    assert Problem.from_rpc_error(error).message == "oops"


def test_thousand_violations_are_cut_to_what_clients_accept_and_counted() -> None:
    fields = [(f"plan.subtasks[{index}].instructions", "должно быть не длиннее " * 20) for index in range(1000)]
    status = Problem(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "я" * 5000, fields=fields).to_status()
    read = Problem.from_status(status)
    assert status.ByteSize() <= 3072
    assert read.fields[0].field == "plan.subtasks[0].instructions"
    assert read.fields[-1].description == f"and {1000 - (len(read.fields) - 1)} more violations"


def test_every_reason_that_rpc_gives_is_in_the_contract() -> None:
    given = {
        str(ast.literal_eval(call.args[1]))
        for path in Path(rpc.__path__[0]).glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Problem"
    }
    assert "MALFORMED_REQUEST" in given
    assert {f"ERROR_REASON_{reason}" for reason in given} <= set(error_reason_pb2.ErrorReason.keys())
