"""The contract over HTTP: finds the RPC of a request, calls it, answers what it answered.

Generic over all services; whatever is particular to one RPC stands in its annotation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from gateway.errors import JSON, answer, answer_rpc_error, invalid, unauthenticated, unsupported_media_type
from gateway.files import answer_file, answers_file
from gateway.framing import framing_for
from gateway.http import Receive, Scope, Send, header, read_body, respond, respond_error
from gateway.routes import Route, Router
from gateway.streaming import Closing, Pace, Stream
from gateway.transcoding import request_message, response_content, set_field
from rpc.problem import Problem

ROUTE_KEY = "assent.route"
"""Where the scope says which route was found, for those who observe requests."""

_RESUME_FIELD = "after_sequence"
_OF_THE_CALLER = frozenset({b"authorization", b"assent-subject", b"assent-roles"})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take."""

    body_bytes: int = 4 * 1024 * 1024
    body_seconds: float = 30
    unary_seconds: float = 30


class Api:
    """Answers every request whose path the contract declares, and refuses all others."""

    def __init__(
        self,
        router: Router,
        channel: grpc.aio.Channel,
        closing: Closing,
        *,
        limits: Limits | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._router = router
        self._closing = closing
        self._limits = limits or Limits()
        self._pace = pace or Pace()
        self._calls = {route.rpc: _callable(channel, route) for route in router}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._answer(scope, receive, send)
        except Problem as problem:
            await respond_error(send, answer(problem))
        except grpc.aio.AioRpcError as error:
            await respond_error(send, answer_rpc_error(error))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            allow = ", ".join(self._router.allowed(scope["raw_path"])).encode()
            await send_no_content(send, allow)
            return
        route, path = self._router.find(scope["method"], scope["raw_path"])
        scope[ROUTE_KEY] = route.template.text
        request = await self._request(route, path, scope, receive)
        call = self._calls[route.rpc]
        metadata = _metadata(scope)
        if route.streams:
            after = int(getattr(request, _RESUME_FIELD, 0))
            framing = framing_for(header(scope, b"accept"))
            stream = Stream(call(request, metadata=metadata), framing, send, pace=self._pace, after=after)
            await stream.carry(receive, self._closing)
            return

        async def read(asked: Message) -> Any:
            return await call(asked, metadata=metadata, timeout=self._limits.unary_seconds)

        if answers_file(route):
            await answer_file(route, request, scope, read, send)
            return
        media_type, content = response_content(route, await read(request))
        await respond(send, 200, content, media_type)

    async def _request(self, route: Route, path: Mapping[str, str], scope: Scope, receive: Receive) -> Message:
        body = await read_body(scope, receive, self._limits.body_bytes, self._limits.body_seconds)
        if body:
            _require_json(header(scope, b"content-type"))
        request = request_message(route, path, scope["query_string"], body)
        last_id = header(scope, b"last-event-id")
        # What the client has seen by now; the same field in its query is from when it first asked.
        if last_id and route.streams and not set_field(request, _RESUME_FIELD, last_id):
            raise invalid([("Last-Event-ID", "must be the id of an event of this stream")])
        return request


def _callable(channel: grpc.aio.Channel, route: Route) -> Callable[..., Any]:
    make = channel.unary_stream if route.streams else channel.unary_unary
    return make(
        route.rpc,
        request_serializer=route.request_class.SerializeToString,
        response_deserializer=route.response_class.FromString,
    )


def _metadata(scope: Scope) -> tuple[tuple[str, str], ...]:
    """What the caller says of themselves, for the services to judge: a header that is there twice is so for them."""
    said = [(key.decode(), value) for key, value in scope["headers"] if key in _OF_THE_CALLER]
    for name, value in said:
        if not all(0x20 <= byte < 0x7F for byte in value):
            raise unauthenticated(f"the {name} header holds characters that are not printable ASCII")
    return tuple((name, value.decode()) for name, value in said)


def _require_json(content_type: str) -> None:
    kind, _, parameters = content_type.partition(";")
    charset = parameters.replace(" ", "").lower()
    if kind.strip().lower().encode() != JSON or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise unsupported_media_type(content_type)


async def send_no_content(send: Send, allow: bytes) -> None:
    """Answer OPTIONS: what the path takes. Nothing about other origins, so browsers keep those out."""
    await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
    await send({"type": "http.response.body", "body": b""})
