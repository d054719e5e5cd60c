import json

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc.aio import AioRpcError, Metadata

from gateway import errors
from gateway.errors import HTTP_STATUS, answer, answer_rpc_error, answer_status, invalid
from rpc.problem import DETAILS_KEY, Problem

# AIP-193 and google/rpc/code.proto.
EXPECTED = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


def rpc_error(code: grpc.StatusCode, details: str = "", *trailing: tuple[str, bytes]) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), details)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_each_code_has_its_http_status(code: grpc.StatusCode) -> None:
    assert HTTP_STATUS[code] == EXPECTED[code.name]
    assert answer_status(status_pb2.Status(code=code.value[0])).http_status == EXPECTED[code.name]


def test_the_table_has_every_code_there_is() -> None:
    assert set(EXPECTED) == set(code_pb2.Code.keys())


def test_a_status_is_json_with_its_details_decoded() -> None:
    problem = Problem(
        grpc.StatusCode.FAILED_PRECONDITION,
        "WRONG_STATE",
        "the run is COMPLETED",
        metadata={"state": "COMPLETED"},
        fields=[("run_id", "names a finished run")],
        preconditions=[("STATE", "run", "COMPLETED")],
    )
    told = answer(problem)
    assert told.http_status == 400
    assert json.loads(told.body) == {
        "code": 9,
        "message": "the run is COMPLETED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "WRONG_STATE",
                "domain": "assent",
                "metadata": {"state": "COMPLETED", "disposition": "FATAL"},
            },
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [{"field": "run_id", "description": "names a finished run"}],
            },
            {
                "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
                "violations": [{"type": "STATE", "subject": "run", "description": "COMPLETED"}],
            },
        ],
    }


def test_a_detail_of_an_unknown_type_is_shown_as_bytes() -> None:
    status = status_pb2.Status(code=5, details=[any_pb2.Any(type_url="type.googleapis.com/x.Y", value=b"\x01")])
    shown = json.loads(answer_status(status).body)
    assert shown["details"] == [{"@type": "type.googleapis.com/x.Y", "value": "AQ=="}]


@pytest.mark.parametrize(("delay", "seconds"), [(0, b"0"), (0.2, b"1"), (1, b"1"), (61.5, b"62")])
def test_retry_after_rounds_the_delay_up(delay: float, seconds: bytes) -> None:
    problem = Problem(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", "later", retry_after=delay)
    assert (b"retry-after", seconds) in answer(problem).headers


def test_a_negative_delay_is_no_delay() -> None:
    status = status_pb2.Status(code=14)
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=-3)))
    assert (b"retry-after", b"0") in answer_status(status).headers


def test_an_unauthenticated_caller_is_told_how_to_authenticate() -> None:
    assert (b"www-authenticate", b"Bearer") in answer_status(status_pb2.Status(code=16)).headers


def test_the_status_a_service_sent_passes_through_unchanged() -> None:
    sent = Problem(grpc.StatusCode.ABORTED, "STALE_VERSION", "read it again").to_status()
    error = rpc_error(grpc.StatusCode.ABORTED, "read it again", (DETAILS_KEY, sent.SerializeToString()))
    assert answer_rpc_error(error) == answer_status(sent)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
@pytest.mark.parametrize("trailing", [b"", b"\xff\xff", status_pb2.Status(code=99).SerializeToString()])
def test_the_transport_s_own_words_never_leave(code: grpc.StatusCode, trailing: bytes) -> None:
    secret = "failed to connect to ipv4:10.0.0.7:50051"
    told = answer_rpc_error(rpc_error(code, secret, (DETAILS_KEY, trailing)))
    shown = json.loads(told.body)
    assert told.http_status == EXPECTED[code.name]
    assert "10.0.0.7" not in told.body.decode()
    assert shown["message"]
    assert shown["details"][0]["reason"]


def test_an_unreachable_orchestrator_is_worth_a_retry() -> None:
    told = answer_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE))
    info = json.loads(told.body)["details"][0]
    assert (info["reason"], info["metadata"]["disposition"]) == ("UPSTREAM_UNAVAILABLE", "RETRYABLE")
    assert (b"retry-after", b"1") in told.headers


def test_text_that_is_not_unicode_can_be_quoted_in_an_answer() -> None:
    told = answer(invalid([("\ud800", "bad \udfff")]))
    assert "\\ud800: bad \\udfff" in json.loads(told.body)["message"]


def test_every_reason_given_here_is_in_the_contract() -> None:
    from gen.assent.v1 import error_reason_pb2

    known = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}
    problems = [
        errors.malformed("x"),
        invalid([("f", "d")]),
        errors.route_not_found("/"),
        errors.method_not_allowed("GET", ["POST"]),
        errors.unsupported_media_type(""),
        errors.too_large(1),
        errors.forbidden("x"),
        errors.unauthenticated("x"),
        errors.too_slow(1),
        errors.shutting_down("x"),
    ]
    reasons = {problem.reason for problem in problems}
    for code in grpc.StatusCode:
        reasons.add(json.loads(answer_rpc_error(rpc_error(code)).body)["details"][0]["reason"])
    assert reasons <= known
