"""Errors as HTTP answers: `google.rpc.Status` in JSON, with the HTTP status that AIP-193 gives each code.

Also what the gateway itself refuses, before any RPC. What the services refuse is decided by them and passes
through unchanged; what the transport below them says is replaced, for it names addresses and libraries.
"""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import grpc
import msgspec
from google.protobuf import any_pb2, json_format
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from rpc.problem import DETAILS_KEY, Problem

JSON = b"application/json"
Header = tuple[bytes, bytes]

HTTP_STATUS: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
}

_BY_NUMBER = {code.value[0]: status for code, status in HTTP_STATUS.items()}

# What a call that ended without a status of ours is answered with, whatever the transport's own words were.
_TRANSPORT: Mapping[grpc.StatusCode, tuple[str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        "UPSTREAM_UNAVAILABLE",
        "the orchestrator cannot be reached at the moment; a command may have been carried out all the same, "
        "and repeating it with its request_id is safe",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (
        "DEADLINE_EXCEEDED",
        "the orchestrator did not answer in time; a command may have been carried out all the same, "
        "and repeating it with its request_id is safe",
    ),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        "LIMIT_EXCEEDED",
        "the request, or its answer, is larger than one message may be",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        "NOT_IMPLEMENTED",
        "the orchestrator does not know this method; it may be of another version than the gateway",
    ),
    grpc.StatusCode.CANCELLED: ("CANCELLED", "the call was cancelled"),
}
_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class Refusal(Problem):
    """What the gateway itself answers, with an HTTP status that says more than the code's own."""

    http_status: int | None = None
    headers: tuple[Header, ...] = ()

    def over_http(self, http_status: int, *headers: Header) -> "Refusal":
        """The same refusal under another HTTP status."""
        self.http_status = http_status
        self.headers = headers
        return self


class ErrorAnswer(msgspec.Struct, frozen=True):
    """An error ready to be sent: as a response of its own, or inside a stream."""

    http_status: int
    headers: Sequence[Header]
    body: bytes


def answer(problem: Problem) -> ErrorAnswer:
    """The answer to a problem that this process found itself."""
    status = answer_status(problem.to_status())
    if isinstance(problem, Refusal) and problem.http_status is not None:
        return ErrorAnswer(problem.http_status, [*status.headers, *problem.headers], status.body)
    return status


def answer_rpc_error(error: grpc.aio.AioRpcError) -> ErrorAnswer:
    """The answer to a call that failed: the service's own status, or a plain one where only transport spoke."""
    return answer_status(_sent_status(error) or _transport_problem(error.code()).to_status())


def answer_status(status: status_pb2.Status) -> ErrorAnswer:
    """The answer that a status makes."""
    headers: list[Header] = []
    seconds = _retry_seconds(status.details)
    if seconds is not None:
        headers.append((b"retry-after", str(seconds).encode()))
    if status.code == grpc.StatusCode.UNAUTHENTICATED.value[0]:
        headers.append((b"www-authenticate", b"Bearer"))
    body = msgspec.json.encode(status_json(status))
    return ErrorAnswer(_BY_NUMBER.get(status.code, 500), headers, body)


def status_json(status: status_pb2.Status) -> dict[str, Any]:
    """A status in protobuf's JSON mapping; a detail of a type unknown here is shown as its bytes."""
    return {
        "code": status.code,
        "message": status.message,
        "details": [_detail_json(detail) for detail in status.details],
    }


def malformed(message: str) -> Refusal:
    """400: what cannot be read at all."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST", printable(message))


def invalid(fields: Sequence[tuple[str, str]]) -> Refusal:
    """400: what can be read, with fields that do not fit; worded as the services word theirs."""
    shown = [(printable(field), printable(description)) for field, description in fields]
    said = "; ".join(f"{field}: {description}" if field else description for field, description in shown)
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", f"the request is not valid: {said}", fields=shown
    )


def range_not_satisfiable(size: int) -> Refusal:
    """416: the file has none of the bytes that are asked for."""
    refusal = Refusal(grpc.StatusCode.OUT_OF_RANGE, "INVALID_REQUEST", f"Range: there are {size} bytes")
    return refusal.over_http(416, (b"content-range", f"bytes */{size}".encode()))


def route_not_found(path: str) -> Refusal:
    """404: nothing is served under this path."""
    return Refusal(
        grpc.StatusCode.NOT_FOUND,
        "ROUTE_NOT_FOUND",
        "there is no route for this path",
        metadata={"path": printable(path)},
    )


def method_not_allowed(http_method: str, allowed: Iterable[str]) -> Refusal:
    """405: the path exists, with other methods."""
    allow = ", ".join(allowed)
    return Refusal(
        grpc.StatusCode.UNIMPLEMENTED,
        "METHOD_NOT_ALLOWED",
        f"this path does not take {http_method}, it takes {allow}",
        metadata={"method": http_method, "allow": allow},
    ).over_http(405, (b"allow", allow.encode()))


def unsupported_media_type(found: str) -> Refusal:
    """415: a body that is not announced as JSON."""
    said = f"not {found}" if found else "and the request names none"
    return Refusal(
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
        f"a body must have the content type application/json, {said}",
    ).over_http(415)


def too_large(limit: int) -> Refusal:
    """413: a body over the limit."""
    return Refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        f"the body is larger than the {limit} bytes that a request may have",
        metadata={"limit": "request_bytes", "maximum": str(limit)},
    ).over_http(413, (b"connection", b"close"))


def too_slow(seconds: float) -> Refusal:
    """408: a body that did not arrive in time."""
    return Refusal(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "DEADLINE_EXCEEDED",
        f"the body did not arrive within {seconds:g} s",
    ).over_http(408, (b"connection", b"close"))


def forbidden(message: str) -> Refusal:
    """403: the request may not come from where it comes from."""
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", message)


def unauthenticated(message: str) -> Refusal:
    """401: the request does not say who it is from in a way that can be read."""
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", message)


def shutting_down(message: str, metadata: Mapping[str, str] | None = None) -> Refusal:
    """503: this gateway is stopping, others or its successor will answer."""
    return Refusal(
        grpc.StatusCode.UNAVAILABLE,
        "SHUTTING_DOWN",
        message,
        disposition="RETRYABLE",
        metadata=metadata,
        retry_after=1,
    )


def printable(text: str) -> str:
    """Text from a stranger, fit for an answer: lone surrogates are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _sent_status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                return None
            return status if status.code == error.code().value[0] else None
    return None


def _transport_problem(code: grpc.StatusCode) -> Problem:
    reason, message = _TRANSPORT.get(code, ("INTERNAL", "the call to the orchestrator failed"))
    if code in _RETRYABLE:
        return Problem(code, reason, message, disposition="RETRYABLE", retry_after=1)
    return Problem(code, reason, message)


def _retry_seconds(details: Iterable[any_pb2.Any]) -> int | None:
    retry = error_details_pb2.RetryInfo()
    for detail in details:
        if detail.Unpack(retry):
            delay: timedelta = retry.retry_delay.ToTimedelta()
            return max(0, math.ceil(delay.total_seconds()))
    return None


def _detail_json(detail: any_pb2.Any) -> dict[str, Any]:
    try:
        shown: dict[str, Any] = json_format.MessageToDict(detail)
    except (TypeError, DecodeError):
        return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode()}
    return shown
