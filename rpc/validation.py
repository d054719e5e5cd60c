"""Bytes in, a request that keeps the contract's constraints out; or a Problem that names the fields.

The constraints themselves are in the contract (protovalidate); rules that need state are the domain's.
"""

from collections.abc import AsyncIterator, Callable

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from rpc.list_limits import ListLimits
from rpc.problem import Problem

_validator = protovalidate.Validator()


class RequestReader:
    """Reads the requests of one RPC from the bytes that came."""

    def __init__(self, decode: Callable[[bytes], Message], max_bytes: int) -> None:
        self._decode = decode
        self._max_bytes = max_bytes
        # An empty message compiles the type's rules now: a constraint that cannot compile stops the start.
        empty = decode(b"")
        _validator.collect_violations(empty, fail_fast=True)
        self._lists = ListLimits.of(empty.DESCRIPTOR)

    def read(self, raw: bytes) -> Message:
        """One request; a Problem when it is too large, no message of its type, or breaks a constraint."""
        if len(raw) > self._max_bytes:
            raise _too_large(self._max_bytes)
        try:
            request = self._decode(raw)
        except DecodeError as error:
            raise Problem(
                grpc.StatusCode.INVALID_ARGUMENT,
                "MALFORMED_REQUEST",
                "the request is not a protobuf message of the type this RPC takes",
            ) from error
        too_long = list(self._lists.exceeded(request))
        if too_long:
            raise invalid_request(too_long)
        violations = _validator.collect_violations(request)
        if violations:
            raise invalid_request([(_path(each), _description(each)) for each in violations])
        return request

    def stream(self, raw_requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        """The requests of a client stream, each read when the handler asks for it."""
        return _Requests(self.read, raw_requests)


class _Requests(AsyncIterator[Message]):
    """An iterator and no generator: a handler that stops reading leaves nothing behind to be closed."""

    __slots__ = ("_raw", "_read")

    def __init__(self, read: Callable[[bytes], Message], raw_requests: AsyncIterator[bytes]) -> None:
        self._read = read
        self._raw = raw_requests

    async def __anext__(self) -> Message:
        return self._read(await anext(self._raw))


def _too_large(maximum: int) -> Problem:
    return Problem(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "LIMIT_EXCEEDED",
        f"the request is larger than {maximum} bytes",
        metadata={"limit": "request_bytes", "maximum": str(maximum)},
    )


def invalid_request(fields: list[tuple[str, str]]) -> Problem:
    """The problem of a request whose fields, named as in the contract, are not acceptable."""
    said = "; ".join(f"{field}: {description}" if field else description for field, description in fields)
    return Problem(
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        f"the request is not valid: {said}",
        fields=fields,
    )


def _path(violation: protovalidate.Violation) -> str:
    path = violation.proto.field
    if path is None:
        return ""
    parts = []
    for element in path.elements:
        parts.append(element.field_name)
        if element.subscript is not None:
            key = element.subscript.value
            parts[-1] += f'["{key}"]' if isinstance(key, str) else f"[{str(key).lower()}]"
    return ".".join(parts)


def _description(violation: protovalidate.Violation) -> str:
    return violation.proto.message or f"breaks the rule {violation.proto.rule_id}"
