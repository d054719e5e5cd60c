"""Bytes in, a request that keeps the contract's constraints out; or a Problem that names the fields.

The constraints themselves are in the contract (protovalidate), but for one that every text has: no NUL. Rules that
need state are the domain's.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import protovalidate
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from rpc.list_limits import ListLimits
from rpc.problem import Problem

_validator = protovalidate.Validator()


class InvalidRequest(Problem):
    """A message of its type that breaks a constraint of the contract."""

    def __init__(self, request: Message, fields: list[tuple[str, str]]) -> None:
        told = invalid_request(fields)
        super().__init__(told.code, told.reason, told.message, fields=told.fields)
        self.request = request


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
        """One request; a Problem when it is too large, no message of its type, breaks a constraint or holds NUL."""
        # The byte is found in no time, but is not yet a character: a number or an empty text may be one too.
        return self._read(raw, look_for_nul=b"\x00" in raw)

    def read_part(self, raw: bytes) -> Message:
        """One message of a client stream: as `read`, but NUL passes.

        Such messages come from another service, which stores its texts itself. Refusing one for a character in
        somebody's text would end the stream, and with it what all the others are about.
        """
        return self._read(raw, look_for_nul=False)

    def stream(self, raw_requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
        """The requests of a client stream, each read when the handler asks for it."""
        return _Requests(self.read_part, raw_requests)

    def _read(self, raw: bytes, *, look_for_nul: bool) -> Message:
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
            raise InvalidRequest(request, too_long)
        fields = [(_path(each), _description(each)) for each in _validator.collect_violations(request)]
        if look_for_nul:
            fields.extend(_with_nul(request))
        if fields:
            raise InvalidRequest(request, fields)
        return request


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
            parts[-1] += _subscript(element.subscript.value)
    return ".".join(parts)


def _subscript(key: object) -> str:
    # A key is shown with its NUL escaped, as in JSON: the report is a text too.
    return '["{}"]'.format(key.replace("\0", "\\u0000")) if isinstance(key, str) else f"[{str(key).lower()}]"


def _description(violation: protovalidate.Violation) -> str:
    return violation.proto.message or f"breaks the rule {violation.proto.rule_id}"


def _with_nul(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The texts that PostgreSQL could not store as they are, as (field, description)."""
    for field, value in message.ListFields():
        is_text, inner = field.type == FieldDescriptor.TYPE_STRING, field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            is_text = inner.fields_by_name["value"].type == FieldDescriptor.TYPE_STRING
            inner = inner.fields_by_name["value"].message_type
            elements = [(path + field.name + _subscript(key), key, value[key]) for key in value]
        elif field.is_repeated:
            elements = [(f"{path}{field.name}[{index}]", None, element) for index, element in enumerate(value)]
        else:
            elements = [(path + field.name, None, value)]
        for name, key, element in elements:
            if (isinstance(key, str) and "\0" in key) or (is_text and "\0" in element):
                yield name, "must not contain NUL"
            if inner is not None:
                yield from _with_nul(element, f"{name}.")
