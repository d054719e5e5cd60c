"""What a server is before, between and after its calls: permissions, addresses, limits, health, drain, stop."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from rpc import probe
from rpc.addresses import BadAddress
from rpc.health import READY
from rpc.method import BadService
from rpc.principal import Principal
from rpc.problem import Problem
from rpc.server import Limits, Server
from tests.unit.rpc.echo import (
    BARE,
    ECHO,
    Echo,
    EchoRequest,
    EchoResponse,
    EchoStub,
    register_bare,
    register_echo,
)
from tests.unit.rpc.serving import (
    HELLO,
    LIMIT,
    Endless,
    collect,
    health_stub,
    refusal,
    running,
    server_of,
    serving,
)

# --- permissions and addresses ---


def test_rpc_without_a_permission_stops_the_start() -> None:
    with pytest.raises(BadService, match=rf"{BARE}/Say has no \(assent.v1.permission\) option"):
        Server("echo", "127.0.0.1:0", [(BARE, Echo(), register_bare)])


async def test_internal_service_needs_no_permission() -> None:
    server = Server("echo", "127.0.0.1:0", [(BARE, Echo(), register_bare)], permissions_required=False)
    async with running(server) as connection:
        say = connection.unary_unary(f"/{BARE}/Say", request_serializer=EchoRequest.SerializeToString)
        assert await say(HELLO)


async def test_principal_without_the_permission_is_refused_before_its_request_is_read() -> None:
    def writer(_metadata: Any) -> Principal:
        return Principal("acme", "writer", frozenset({"session.write"}))

    async with serving(Echo(), authenticate=writer) as echo:
        for call in (echo.Say(b"\xff"), echo.Count(b"\xff"), echo.Sum([b"\xff"]), echo.Chat([b"\xff"])):
            problem = await refusal(call)
            assert problem.code is grpc.StatusCode.PERMISSION_DENIED
            assert problem.metadata == {"permission": "session.read"}


async def test_principal_is_established_from_the_metadata() -> None:
    def by_token(metadata: Any) -> Principal:
        token = dict(metadata).get("authorization")
        if token is None:
            raise Problem(grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "no token")
        return Principal("acme", token, frozenset({"session.read"}))

    async with serving(Echo(), authenticate=by_token) as echo:
        assert (await refusal(echo.Say(HELLO))).reason == "UNAUTHENTICATED"
        assert await echo.Say(HELLO, metadata=(("authorization", "ann"),))


def test_without_authentication_only_loopback_is_served() -> None:
    with pytest.raises(BadAddress, match="the echo refuses to listen on 0"):
        Server("echo", "0.0.0.0:50051", [])
    Server("echo", "0.0.0.0:50051", [], authenticate=lambda _metadata: Principal("t", "s", frozenset()))


async def test_port_in_use_is_refused_and_not_shared() -> None:
    first = server_of(Echo())
    port = await first.start()
    second = Server("echo", f"127.0.0.1:{port}", [(ECHO, Echo(), register_echo)])
    with pytest.raises(BadAddress, match="is it in use"):
        await second.start()
    await first.stop()


def test_blocking_method_stops_the_start() -> None:
    class Blocking(Echo):
        def Say(self, request: Any, context: Any) -> Any:
            return EchoResponse()

    with pytest.raises(BadService, match="must be an async method"):
        server_of(Blocking())


def test_service_registered_under_another_name_stops_the_start() -> None:
    with pytest.raises(BadService, match=f"registers \\['{BARE}'\\], not {ECHO}"):
        Server("echo", "127.0.0.1:0", [(ECHO, Echo(), register_bare)])


# --- limits, health, reflection ---


async def test_streams_beyond_the_limit_of_a_connection_wait_for_a_place() -> None:
    async with serving(Echo(), limits=Limits(max_concurrent_streams=1)) as echo:
        chat = echo.Chat()
        answers = aiter(chat)
        await chat.write(HELLO)
        await anext(answers)
        waiting = asyncio.ensure_future(echo.Say(HELLO))
        # What is answered on the same connection meanwhile would have been answered after it.
        for _ in range(20):
            await chat.write(HELLO)
            await anext(answers)
        assert not waiting.done()
        await chat.done_writing()
        assert (await asyncio.wait_for(waiting, LIMIT)).text == "hello"


async def test_drained_server_refuses_new_calls_and_finishes_the_open_ones() -> None:
    server = server_of(Echo())
    async with running(server) as connection:
        echo, health = EchoStub(connection), health_stub(connection)
        chat = echo.Chat()
        answers = aiter(chat)
        await chat.write(HELLO)
        assert (await anext(answers)).text == "hello"
        await server.drain()
        refused = await refusal(echo.Say(HELLO))
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
        assert (refused.disposition, refused.retry_after) == ("RETRYABLE", 1.0)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        stopping = asyncio.create_task(server.stop(LIMIT))
        await chat.write(HELLO)
        assert (await anext(answers)).text == "hello"
        await chat.done_writing()
        assert await collect(answers) == []
        await asyncio.wait_for(stopping, LIMIT)


async def test_stop_cancels_what_outlives_its_grace() -> None:
    endless = Endless()
    server = server_of(endless)
    async with running(server) as connection:
        answers = aiter(EchoStub(connection).Count(HELLO))
        await anext(answers)
        await asyncio.wait_for(server.stop(0.05), LIMIT)
        assert await asyncio.wait_for(endless.ended, LIMIT) == "cancelled"
        await refusal(answers)


async def test_health_is_answered_and_watched_until_the_server_drains() -> None:
    server, kinds = server_of(Echo()), health_pb2.HealthCheckResponse
    async with running(server) as connection:
        health = health_stub(connection)
        for name in ("", ECHO):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == kinds.SERVING
        unknown = health_pb2.HealthCheckRequest(service="nobody")
        assert (await refusal(health.Check(unknown))).code is grpc.StatusCode.NOT_FOUND
        assert (await health.Watch(unknown).read()).status == kinds.SERVICE_UNKNOWN
        watch = aiter(health.Watch(health_pb2.HealthCheckRequest()))
        assert (await anext(watch)).status == kinds.SERVING
        server.set_serving(False)
        assert (await anext(watch)).status == kinds.NOT_SERVING
        server.set_serving(True)
        assert (await anext(watch)).status == kinds.SERVING
        await asyncio.wait_for(server.stop(LIMIT), LIMIT / 2)
        assert [answer.status for answer in await collect(watch)] == [kinds.NOT_SERVING]


async def test_readiness_has_a_name_of_its_own_and_never_outlives_serving() -> None:
    server, kinds = server_of(Echo()), health_pb2.HealthCheckResponse
    async with running(server) as connection:
        health = health_stub(connection)

        async def state(name: str) -> int:
            return int((await health.Check(health_pb2.HealthCheckRequest(service=name))).status)

        assert await state(READY) == kinds.SERVING
        server.set_ready(False)
        assert (await state(READY), await state("")) == (kinds.NOT_SERVING, kinds.SERVING)
        server.set_ready(True)
        server.set_serving(False)
        assert await state(READY) == kinds.NOT_SERVING


async def test_probe_exits_zero_only_when_serving(capsys: pytest.CaptureFixture[str]) -> None:
    server = server_of(Echo())
    port = await server.start()

    async def probed(*more: str) -> int:
        return await asyncio.to_thread(probe.main, [f"127.0.0.1:{port}", *more])

    assert await probed() == 0
    assert await probed("--service", ECHO) == 0
    assert await probed("--service", "nobody") == 1
    server.set_serving(False)
    assert await probed() == 1
    await server.stop()
    assert await probed() == 1
    said = capsys.readouterr().err
    assert "NOT_FOUND" in said
    assert "NOT_SERVING" in said
    assert "UNAVAILABLE" in said


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_describes_every_service_it_lists_in_development(version: str) -> None:
    server = server_of(Echo(), reflection=True)
    async with running(server) as connection:
        info = connection.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        (listed,) = await collect(info([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = [each.name for each in listed.list_services_response.service]
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
        described = await collect(info(asked))
    assert {ECHO, "grpc.health.v1.Health"} <= set(names)
    assert len(described) == len(names)
    assert all(each.file_descriptor_response.file_descriptor_proto for each in described)


async def test_reflection_is_off_unless_asked_for() -> None:
    server = server_of(Echo())
    async with running(server) as connection:
        path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        assert (await refusal(connection.stream_stream(path)([b""]))).code is grpc.StatusCode.UNIMPLEMENTED
