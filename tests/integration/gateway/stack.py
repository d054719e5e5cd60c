"""A gateway on a real socket in front of a fake service on a real gRPC server, for the tests of this folder."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf import message_factory
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.api import Limits
from gateway.bootstrap import serve
from gateway.routes import Router
from gateway.server import HttpServer
from gateway.streaming import Pace
from rpc.channel import connect
from rpc.problem import DETAILS_KEY, Problem

Context = grpc.aio.ServicerContext[Any, Any]


async def abort(context: Context, problem: Problem) -> None:
    """End a fake's call as the services of Assent do."""
    status = problem.to_status()
    await context.abort(problem.code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


@dataclass
class Fake:
    """Answers the RPCs of a contract: each by the function given for it, and remembers what it was asked."""

    unary: dict[str, Callable[[Any, Context], Awaitable[Any]]] = field(default_factory=dict)
    streams: dict[str, Callable[[Any, Context], AsyncIterator[Any]]] = field(default_factory=dict)
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    ready: int = HealthCheckResponse.SERVING
    health_checks: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Be as new, for the next test."""
        for remembered in (self.unary, self.streams, self.requests, self.metadata, self.health_checks):
            remembered.clear()
        self.ready = HealthCheckResponse.SERVING

    def handlers(self, service: ServiceDescriptor) -> dict[str, Any]:
        return {method.name: self._handler(method) for method in service.methods}

    def health(self) -> dict[str, Any]:
        async def check(request: HealthCheckRequest, _context: Context) -> HealthCheckResponse:
            self.health_checks.append(request.service)
            return HealthCheckResponse(status=self.ready)

        codec = HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        return {"Check": grpc.unary_unary_rpc_method_handler(check, *codec)}

    def _handler(self, method: Any) -> Any:
        decode = message_factory.GetMessageClass(method.input_type).FromString
        encode = message_factory.GetMessageClass(method.output_type).SerializeToString

        async def answer(request: Message, context: Context) -> Any:
            self._remember(request, context)
            return await self.unary[method.name](request, context)

        async def stream(request: Message, context: Context) -> AsyncIterator[Any]:
            self._remember(request, context)
            async for response in self.streams[method.name](request, context):
                yield response

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, decode, encode)
        return grpc.unary_unary_rpc_method_handler(answer, decode, encode)

    def _remember(self, request: Message, context: Context) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata() or ()))


@dataclass
class Stack:
    """What a test talks to."""

    fake: Fake
    http: httpx.AsyncClient
    server: HttpServer
    grpc_server: grpc.aio.Server
    grpc_port: int
    serving: asyncio.Task[None]


@asynccontextmanager
async def fake_server(
    fake: Fake, services: list[ServiceDescriptor], port: int = 0
) -> AsyncIterator[tuple[grpc.aio.Server, int]]:
    """The fake on a gRPC server, and its port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    for service in services:
        server.add_registered_method_handlers(service.full_name, fake.handlers(service))
    server.add_registered_method_handlers("grpc.health.v1.Health", fake.health())
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server, bound
    finally:
        await server.stop(None)


@asynccontextmanager
async def stack(
    services: list[ServiceDescriptor], *, limits: Limits | None = None, pace: Pace | None = None
) -> AsyncIterator[Stack]:
    """Start everything on free ports; stop it in the order a process would."""
    fake = Fake()
    async with fake_server(fake, services) as (grpc_server, port), connect(f"127.0.0.1:{port}") as channel:
        server = serve(Router(services), channel, "127.0.0.1:0", limits=limits, pace=pace)
        serving = asyncio.create_task(server.run_to_the_end())
        base = f"http://127.0.0.1:{server.port}"
        try:
            async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as http:
                yield Stack(fake, http, server, grpc_server, port, serving)
        finally:
            await server.stop()
            await serving


@dataclass(frozen=True)
class SseEvent:
    """One server-sent event as a client reads it."""

    name: str
    id: str | None
    data: Any


async def sse_events(response: httpx.Response) -> AsyncIterator[SseEvent]:
    """Read server-sent events as the standard says; comments are skipped."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if not line:
            if "data" in fields:
                yield SseEvent(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            assert name not in fields, "one line of data per event"
            fields[name] = value.removeprefix(" ")
