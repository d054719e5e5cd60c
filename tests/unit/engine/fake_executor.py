"""An executor service in this process that says exactly what a test tells it to, and keeps what it was sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from gen.assent.executor.v1 import executor_service_pb2 as pb
from gen.assent.executor.v1 import frames_pb2
from gen.assent.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from gen.assent.v1 import tool_pb2

LIMIT_SECONDS = 10.0
CLOCK = 5_000_000_000_000  # what the executor's monotonic clock reads in every hello

Frame = frames_pb2.ExecutorFrame


class Stream:
    """One PerformSteps call, from the executor's side."""

    def __init__(self) -> None:
        self.messages: list[pb.PerformStepsRequest] = []
        self.frames: list[frames_pb2.OrchestratorFrame] = []
        self._heard = asyncio.Condition()
        self._says: asyncio.Queue[list[Frame] | None] = asyncio.Queue()
        self.is_over = asyncio.Event()

    def say(self, *frames: Frame) -> None:
        self._says.put_nowait(list(frames))

    def hello(self, instance: str = "i1", *held: frames_pb2.HeldStep, slots: int = 4) -> None:
        hello = frames_pb2.Hello(instance_id=instance, workspace_root_ids=["root"], slots=slots, clock_nanos=CLOCK)
        hello.held_steps.extend(held)
        self.say(Frame(hello=hello))

    def end(self) -> None:
        self._says.put_nowait(None)

    async def heard(self, count: int) -> list[frames_pb2.OrchestratorFrame]:
        """The first `count` frames it was sent, when they have come."""
        async with asyncio.timeout(LIMIT_SECONDS), self._heard:
            await self._heard.wait_for(lambda: len(self.frames) >= count)
        return self.frames[:count]

    async def listen(self, requests: AsyncIterator[pb.PerformStepsRequest]) -> None:
        async for request in requests:
            async with self._heard:
                self.messages.append(request)
                self.frames.extend(request.frames)
                self._heard.notify_all()

    async def what_it_says(self) -> AsyncIterator[list[Frame]]:
        while (frames := await self._says.get()) is not None:
            yield frames


class FakeExecutor(ExecutorServiceServicer):
    """Its streams in the order they came; `streams` is waited for with `next_stream`."""

    def __init__(self) -> None:
        self.tools = {"write_file": tool_pb2.SIDE_EFFECT_IDEMPOTENT}
        self.streams: asyncio.Queue[Stream] = asyncio.Queue()
        self.refuses_to_describe = False

    async def next_stream(self) -> Stream:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await self.streams.get()

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        if self.refuses_to_describe:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        tools = [pb.OfferedTool(name=name, side_effect=effect) for name, effect in self.tools.items()]
        return pb.DescribeResponse(tools=tools)

    async def RunStep(self, request: pb.RunStepRequest, context: Any) -> AsyncIterator[pb.RunStepResponse]:
        raise NotImplementedError
        yield

    async def PerformSteps(
        self, requests: AsyncIterator[pb.PerformStepsRequest], context: Any
    ) -> AsyncIterator[pb.PerformStepsResponse]:
        stream = Stream()
        listener = asyncio.create_task(stream.listen(requests))
        self.streams.put_nowait(stream)
        try:
            async for frames in stream.what_it_says():
                yield pb.PerformStepsResponse(frames=frames)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
            stream.is_over.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The address it is reached at."""
        server = grpc.aio.server()
        add_ExecutorServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)
