"""A client of several replicas: calls go to those that serve, and a replica that stops in order fails none of them."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from rpc.addresses import BadAddress
from rpc.channel import connect
from rpc.server import Server
from tests.unit.rpc.echo import Echo, EchoRequest, EchoResponse, EchoStub
from tests.unit.rpc.serving import server_of

CALLS_AT_ONCE = 8


class Named(Echo):
    """Says who answers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    async def Say(self, request: EchoRequest, context: object) -> EchoResponse:
        await asyncio.sleep(0.002)
        return EchoResponse(text=self.name)


async def until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0)


async def two() -> tuple[Server, Server, str]:
    servers = server_of(Named("one")), server_of(Named("two"))
    ports = [await server.start() for server in servers]
    return *servers, ",".join(f"127.0.0.1:{port}" for port in ports)


async def test_calls_go_to_every_replica_and_none_fails_while_one_stops() -> None:
    first, second, addresses = await two()
    heard: list[str] = []
    enough = asyncio.Event()

    async def call_on(echo: EchoStub) -> None:
        while not enough.is_set():
            heard.append((await echo.Say(EchoRequest(text="hello"), timeout=10)).text)

    async def stop_one() -> None:
        await until(lambda: set(heard) == {"one", "two"})
        await first.retire()
        await first.stop(10)
        heard.clear()
        await until(lambda: len(heard) >= 50)
        enough.set()

    async with connect(addresses) as channel, asyncio.timeout(30), asyncio.TaskGroup() as group:
        for _ in range(CALLS_AT_ONCE):
            group.create_task(call_on(EchoStub(channel)))
        group.create_task(stop_one())
    assert set(heard[CALLS_AT_ONCE:]) == {"two"}
    await second.stop(0)


async def test_a_server_that_nobody_watches_retires_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpc.server.RETIRE_SECONDS", 3600)
    server = server_of(Echo())
    await server.start()
    await asyncio.wait_for(server.retire(), 10)
    await server.stop(0)


@pytest.mark.parametrize("wrong", ["127.0.0.1:1,nowhere:2", "127.0.0.1:1,[::1]:2", "127.0.0.1:1,2"])
async def test_replicas_are_addresses_of_one_kind(wrong: str) -> None:
    with pytest.raises(BadAddress):
        connect(wrong)


async def test_a_herd_of_thousands_is_taken_in_turn_and_nobody_is_dropped() -> None:
    server = server_of(Echo())
    address = f"127.0.0.1:{await server.start()}"
    own = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own, as different clients have
    channels = [grpc.aio.insecure_channel(address, options=own) for _ in range(5)]
    calls = [EchoStub(channel).Say(EchoRequest(text="hello")) for channel in channels for _ in range(800)]
    assert {answer.text for answer in await asyncio.gather(*calls)} == {"hello"}
    for channel in channels:
        await channel.close()
    await server.stop(0)


async def test_replicas_that_are_all_away_are_unavailable() -> None:
    async with connect("127.0.0.1:1,127.0.0.1:2") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await EchoStub(channel).Say(EchoRequest(text="hello"), timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
