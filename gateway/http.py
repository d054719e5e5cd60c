"""The little of ASGI that the gateway needs: a request's headers and body, and sending a whole response."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from gateway.errors import ErrorAnswer, Header, too_large

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"


class ClientGone(Exception):
    """The client closed the connection before it had sent its whole request: nobody is there to answer."""


def header(scope: Scope, name: bytes) -> str:
    """A request header's value, or the empty text; of a repeated one the first."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return ""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole body; a Refusal once it is known to be over the limit, before more of it is kept."""
    announced = header(scope, b"content-length")
    if announced.isdigit() and int(announced) > limit:
        raise too_large(limit)
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        body += event.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        if not event.get("more_body", False):
            return bytes(body)


async def respond(
    send: Send, status: int, body: bytes, content_type: bytes = JSON, headers: Sequence[Header] = ()
) -> None:
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
