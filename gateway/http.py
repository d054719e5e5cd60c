"""The little of ASGI that the gateway needs: a request's headers and body, and sending a whole response."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from gateway.errors import JSON, ErrorAnswer, Header, too_large, too_slow

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


# A client that is still sending does not see an answer, and a connection closed under it may lose that. So what
# is over the limit is read and thrown away, up to this many times the limit.
_DISCARDED = 8


class ClientGone(Exception):
    """The client closed the connection before it had sent its whole request: nobody is there to answer."""


def header(scope: Scope, name: bytes) -> str:
    """A request header's value, or the empty text; of a repeated one the first."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


async def read_body(scope: Scope, receive: Receive, limit: int, seconds: float) -> bytes:
    """The whole body; a Refusal when it is over the limit, without keeping more of it, or does not end in time."""
    announced = header(scope, b"content-length")
    if announced.isdigit() and int(announced) > limit and header(scope, b"expect"):
        raise too_large(limit)  # the client waits for a word before it sends anything
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in _parts(receive):
                size += len(part)
                if size <= limit:
                    body += part
                elif size > limit * _DISCARDED:
                    break
    except TimeoutError:
        raise too_slow(seconds) from None
    if size > limit:
        raise too_large(limit)
    return bytes(body)


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        yield event.get("body", b"")
        if not event.get("more_body", False):
            return


async def respond(send: Send, status: int, body: bytes, content_type: bytes, headers: Sequence[Header] = ()) -> None:
    """Send a whole response."""
    all_headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: ErrorAnswer) -> None:
    """Send an error as a response of its own."""
    await respond(send, error.http_status, error.body, JSON, error.headers)
