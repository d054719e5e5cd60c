"""Files over HTTP: raw bytes under their own media type, with an ETag, whole or in part.

Read from descriptors: what a route answers is a file where its response body is an HttpBody. Where a message beside
that has `sha256` and `size_bytes`, and the request `offset` and `length`, the file never changes and is read in parts.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from gateway.errors import Header, range_not_satisfiable
from gateway.http import Scope, Send, header, respond
from gateway.routes import Route
from gateway.transcoding import response_content

Read = Callable[[Message], Awaitable[Message]]

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_SHORT = 1024 * 1024  # what any service gives at once; of more it is asked for as much as it will give
# Bytes that an agent wrote, under its own media type, must not act as a page of this origin.
_INERT: Header = (b"content-security-policy", b"sandbox; default-src 'none'")


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of the whole file."""

    etag: str
    size: int
    name: str


def answers_file(route: Route) -> bool:
    """Whether it answers raw bytes."""
    field = route.response_class.DESCRIPTOR.fields_by_name.get(route.response_body)
    kind = field.message_type if field is not None else None
    return kind is not None and kind.full_name == HttpBody.DESCRIPTOR.full_name


async def answer_file(route: Route, request: Any, scope: Scope, read: Read, send: Send) -> None:
    """The file, or what of it is asked for: one range; of several, and of what is no range, all of it."""
    fields = set(request.DESCRIPTOR.fields_by_name)
    is_whole = fields >= {"offset", "length"} and not (request.offset or request.length)
    asked = _RANGE.fullmatch(header(scope, b"range")) if is_whole else None
    known = header(scope, b"if-none-match")
    if is_whole and (asked or known or scope["method"] == "HEAD"):
        request.length = 1  # what is known of it comes first
    response = await read(request)
    facts = _facts_of(response) if is_whole else None
    media_type, data = response_content(route, response)
    headers = [_INERT, _to_be_kept(facts.name if facts else "")]
    if facts is None:
        await respond(send, 200, data, media_type, headers)
        return
    headers += _validators(facts, media_type)
    if _tags(known) & {facts.etag, "*"}:
        await _send(send, 304, headers, b"")
    elif asked and header(scope, b"if-range") in ("", facts.etag) and (span := _span(asked, facts.size)):
        request.offset, wanted = span[0], span[1] - span[0] + 1
        request.length = wanted if wanted <= _SHORT else 0
        data = response_content(route, await read(request))[1][:wanted]
        said = f"bytes {span[0]}-{span[0] + len(data) - 1}/{facts.size}"
        await _send(send, 206, [*headers, (b"content-range", said.encode())], data)
    elif scope["method"] == "HEAD":
        await _send(send, 200, headers, b"", facts.size)
    else:
        first = b"" if request.length else data
        await _send_whole(route, request, first, facts.size, headers, read, send)


async def _send_whole(
    route: Route, request: Any, data: bytes, size: int, headers: list[Header], read: Read, send: Send
) -> None:
    """Part by part, so that no file is held here; one that breaks off is shorter than was announced."""
    request.length = sent = 0
    data = data or response_content(route, await read(request))[1]
    all_headers = [*headers, (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": all_headers})
    while data and sent + len(data) < size:
        await send({"type": "http.response.body", "body": data, "more_body": True})
        sent += len(data)
        request.offset = sent
        try:
            data = response_content(route, await read(request))[1]
        except grpc.aio.AioRpcError:
            return
    await send({"type": "http.response.body", "body": data})


def _to_be_kept(name: str) -> Header:
    named = f"; filename*=UTF-8''{quote(name, safe='')}" if name else ""
    return b"content-disposition", f"attachment{named}".encode()


def _validators(facts: _Facts, media_type: bytes) -> list[Header]:
    return [
        (b"content-type", media_type),
        (b"cache-control", b"private, no-cache"),
        (b"accept-ranges", b"bytes"),
        (b"etag", facts.etag.encode()),
    ]


def _tags(if_none_match: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}


async def _send(send: Send, status: int, headers: list[Header], data: bytes, size: int | None = None) -> None:
    length = str(len(data) if size is None else size).encode()
    all_headers = headers if status == 304 else [*headers, (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": data})


def _span(asked: re.Match[str], size: int) -> tuple[int, int] | None:
    """The first and the last byte; None: it says no range. A Refusal where the file has nothing of it."""
    first, last = asked.groups()
    if not (first or last) or (first and last and int(first) > int(last)):
        return None
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise range_not_satisfiable(size)
    return start, end


def _facts_of(response: Message) -> _Facts | None:
    for field, value in response.ListFields():
        kind = field.message_type
        if kind is not None and {"sha256", "size_bytes"} <= set(kind.fields_by_name):
            return _Facts(f'"{value.sha256}"', value.size_bytes, getattr(value, "name", ""))
    return None
