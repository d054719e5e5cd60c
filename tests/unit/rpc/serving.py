"""Echo servers running over real gRPC, and what their callers see."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from prometheus_client import REGISTRY

from rpc import channel
from rpc.problem import Problem
from rpc.server import Server
from tests.unit.rpc.echo import ECHO, Echo, EchoRequest, EchoResponse, EchoStub, register_echo

LIMIT = 10
HELLO = EchoRequest(text="hello")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def server_of(servicer: Any, **options: Any) -> Server:
    return Server("echo", "127.0.0.1:0", [(ECHO, servicer, register_echo)], **options)


@asynccontextmanager
async def serving(servicer: Any, **options: Any) -> AsyncIterator[EchoStub]:
    async with running(server_of(servicer, **options)) as connection:
        yield EchoStub(connection)


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Any]:
    """A channel to the server while it runs."""
    connection = channel.connect(f"127.0.0.1:{await server.start()}")
    try:
        yield connection
    finally:
        await connection.close()
        await server.stop()


def health_stub(connection: Any) -> Any:
    return health_pb2_grpc.HealthStub(connection)


async def refusal(call: Any) -> Problem:
    """The problem that a call ends with, or a stream: its rest, if some of it has been read."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asyncio.wait_for(collect(call), LIMIT)
    return Problem.from_rpc_error(refused.value)


async def collect(call: Any) -> Any:
    return [response async for response in call] if hasattr(call, "__aiter__") else await call


def counted(method: str, code: str) -> float:
    labels = {"method": f"{ECHO}/{method}", "code": code}
    return REGISTRY.get_sample_value("assent_rpc_server_requests_total", labels) or 0


class Failing(Echo):
    """Fails with an error it is given, after what it would have answered."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def Say(self, request: Any, context: Any) -> Any:
        raise self.error

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield EchoResponse(text="first")
        raise self.error

    async def Sum(self, requests: AsyncIterator[Any], context: Any) -> Any:
        async for _ in requests:
            raise self.error

    async def Chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            yield EchoResponse(text="first")
            raise self.error


class Endless(Echo):
    """Streams one message, then waits; tells how it ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield EchoResponse(text="first")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.set_result("cancelled")
            raise

    async def Chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        try:
            async for _ in requests:
                yield EchoResponse(text="first")
        finally:
            self.ended.set_result("closed")


async def counts(method: str, code: str, expected: float) -> None:
    """Until a call is counted that ended on its server later than its caller saw it end."""
    for _ in range(LIMIT * 1000):
        if counted(method, code) == expected:
            return
        await asyncio.sleep(0.001)
    assert counted(method, code) == expected
