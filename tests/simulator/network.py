"""Streams between orchestrators and executors without sockets: real frames as bytes, late, twice, or cut off.

To the orchestrator a `Channel` is grpc's, as far as the generated stub and the link use it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any, Protocol

import grpc

from gen.assent.executor.v1 import executor_service_pb2 as pb
from tests.simulator.loop import Node, SimLoop
from tests.simulator.weather import Weather, between

# What may arrive a second time, as after a stream that broke: frames about steps.
_REPEATABLE = ("start", "reattach", "recorded", "cancel", "finished", "failed", "refused", "unknown", "running")

Notice = Callable[[Node, Node, Any], None]


class Host(Protocol):
    """An executor at an address: its node, and what serves its calls."""

    node: Node
    servicer: Any


def unavailable(words: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details=words)


class Network:
    """Who is reached where. `notice` sees every message that is sent, for the trace."""

    def __init__(self, loop: SimLoop, weather: Weather, random: Random, notice: Notice) -> None:
        self.loop, self.weather, self.random, self.notice = loop, weather, random, notice
        self.hosts: dict[str, Host] = {}
        self.streams: list[Stream] = []

    def channel(self, address: str) -> "Channel":
        return Channel(self, address)

    def host(self, address: str) -> Host | None:
        host = self.hosts.get(address)
        return host if host is not None and host.node.runs else None

    def cut(self, *, node: Node | None = None) -> None:
        """Break the streams of a node, or all."""
        for stream in list(self.streams):
            if node is None or node in (stream.client, stream.host.node):
                stream.break_off()

    def delay(self) -> float:
        return between(self.random, self.weather.message_delay)


class Channel:
    """The way to one address."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address

    async def __aenter__(self) -> "Channel":
        return self

    async def __aexit__(self, *_error: object) -> None:
        return

    def unary_unary(self, path: str, *_args: Any, **_kwargs: Any) -> Callable[..., Any]:
        async def call(request: Any, timeout: float | None = None, **_more: Any) -> Any:
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self._network.delay())
                host = self._network.host(self._address)
                if host is None:
                    raise unavailable("nobody is there")
                response = await getattr(host.servicer, path.rpartition("/")[2])(request, None)
                await asyncio.sleep(self._network.delay())
                return response

        return call

    def stream_stream(self, path: str, *_args: Any, **_kwargs: Any) -> Callable[..., Any]:
        return lambda **_more: Stream(self._network, self._network.host(self._address), path.rpartition("/")[2])

    def unary_stream(self, path: str, *_args: Any, **_kwargs: Any) -> Callable[..., Any]:
        async def refuse(*_args: Any, **_more: Any) -> Any:
            raise NotImplementedError(path)

        return refuse

    stream_unary = unary_stream


class Pipe:
    """One direction of a stream: messages in order, each a little later; None is the end."""

    def __init__(self, network: Network, sender: Node, receiver: Node) -> None:
        self._network, self._sender, self._receiver = network, sender, receiver
        self._last_arrival = 0.0
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.is_cut = False

    def send(self, message: Any) -> None:
        network = self._network
        self._last_arrival = max(self._last_arrival, network.loop.time() + network.delay())
        self._at(self._last_arrival, message)
        if isinstance(message, pb.PerformStepsRequest | pb.PerformStepsResponse):
            network.notice(self._sender, self._receiver, message)
            again = [frame for frame in message.frames if frame.WhichOneof("frame") in _REPEATABLE]
            if again and network.random.random() < network.weather.duplicate:
                late = network.random.uniform(0, network.weather.duplicate_delay)
                repeat: Any = type(message)
                self._at(self._last_arrival + late, repeat(frames=again))

    async def receive(self) -> Any:
        return await self._inbox.get()

    def _at(self, time: float, message: Any) -> None:
        data = message.SerializeToString() if hasattr(message, "SerializeToString") else None
        self._network.loop.call_at(time, self._arrive, message, data, context=self._receiver.context())

    def _arrive(self, message: Any, data: bytes | None) -> None:
        if not self.is_cut:
            self._inbox.put_nowait(message if data is None else type(message).FromString(data))


class Stream:
    """A PerformSteps call: to its caller grpc's call object, to the executor a handler's task."""

    def __init__(self, network: Network, host: Host | None, method: str) -> None:
        self._network = network
        self.client = network.loop.current()
        self.is_over = host is None
        self._error: BaseException | None = None if host else unavailable("nobody is there")
        if host is not None:
            self.host = host
            self._there = Pipe(network, self.client, host.node)
            self._back = Pipe(network, host.node, self.client)
            self._handler = host.node.spawn(
                self._serve(getattr(host.servicer, method)), f"stream of {self.client.name}"
            )
            network.streams.append(self)

    # The caller's side

    async def write(self, request: Any) -> None:
        if self.is_over:
            raise self._error or unavailable("the stream is over")
        self._there.send(request)

    def cancel(self) -> None:
        self.break_off()

    async def __aiter__(self) -> AsyncIterator[Any]:
        if self._error is not None:
            await asyncio.sleep(self._network.delay())
            raise self._error
        while (message := await self._back.receive()) is not None:
            if isinstance(message, BaseException):
                raise message
            yield message

    # Between

    def break_off(self) -> None:
        """Both ends find out, each in its time; what was on its way may arrive all the same."""
        if self.is_over:
            return
        self.is_over = True
        self._network.streams.remove(self)
        if self._network.random.random() < 0.5:
            self._there.is_cut = True
        if self._network.random.random() < 0.5:
            self._back.is_cut = True
        self._network.loop.call_later(self._network.delay() * 2, self._handler.cancel, context=self.host.node.context())
        self._network.loop.call_later(self._network.delay(), self._end, context=self.client.context())

    def _end(self) -> None:
        self._back._inbox.put_nowait(unavailable("the stream is broken"))

    # The executor's side

    async def _serve(self, method: Callable[..., Any]) -> None:
        try:
            async for response in method(self._requests(), None):
                self._back.send(response)
            self._back.send(None)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the stream, as in grpc
            self._back.send(unavailable(f"the executor ended the stream: {error}"))

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self._there.receive()) is not None:
            yield request
