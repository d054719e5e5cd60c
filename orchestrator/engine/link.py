"""The stream to the executor at one address: kept up, one reader, one writer, what is ready together travels together.

Nothing waits here for an answer: frames go to `Executors`, which knows the steps.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import grpc
import structlog
from google.protobuf.message import DecodeError

from gen.assent.executor.v1 import executor_service_pb2, executor_service_pb2_grpc, frames_pb2
from orchestrator.domain.catalog import Tool
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.engine.executors import Executors
from orchestrator.engine.frames import cancel_frame, recorded_frame, tools_of
from orchestrator.engine.metrics import CONNECTED
from rpc import failpoints
from rpc.channel import connect
from rpc.chunks import Assembly, BadChunk, batches

_log = structlog.get_logger("orchestrator.executors")

Stub = executor_service_pb2_grpc.ExecutorServiceStub
Call = grpc.aio.StreamStreamCall[executor_service_pb2.PerformStepsRequest, executor_service_pb2.PerformStepsResponse]
Dispatched = Callable[[Sequence[str], str], Awaitable[set[str]]]
"""Which of these steps still await an outcome from this instance. Raises StorageUnavailable."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
DESCRIBE_SECONDS = 5.0


class ExecutorLink:
    """One address. `run` connects again and again; `send` drops what cannot go now."""

    def __init__(
        self,
        address: str,
        executors: Executors,
        *,
        clock: Callable[[], int],
        offer: Callable[[list[Tool]], None],
        dispatched: Dispatched,
    ) -> None:
        self.address = address
        self._executors = executors
        self._clock = clock
        self._offer = offer
        self._dispatched = dispatched
        self._outbox: deque[frames_pb2.OrchestratorFrame] = deque()
        self._wake = asyncio.Event()
        self._clock_ahead: int | None = None  # the executor's monotonic clock minus ours, in nanoseconds
        self.connected = False

    def send(self, frame: frames_pb2.OrchestratorFrame, deadline_time: int) -> None:
        if not self.connected:
            self._never_sent(frame)
            return
        if frame.WhichOneof("frame") == "start" and self._clock_ahead is not None:
            left_nanos = (deadline_time - self._clock()) * 1000
            frame.start.deadline_nanos = time.monotonic_ns() + self._clock_ahead + max(0, left_nanos)
        self._outbox.append(frame)
        self._wake.set()

    async def run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with connect(self.address) as channel:
                    await self._serve(executor_service_pb2_grpc.ExecutorServiceStub(channel))
            except grpc.aio.AioRpcError as error:
                _log.warning("executor stream broken", address=self.address, code=error.code().name)
            except (BadChunk, ConnectionError) as error:
                _log.warning("executor stream broken off", address=self.address, reason=str(error))
            finally:
                pause = FIRST_PAUSE_SECONDS if self.connected else min(pause * 2, LONGEST_PAUSE_SECONDS)
                self._disconnected()
            await asyncio.sleep(pause)

    async def _serve(self, stub: Stub) -> None:
        call = stub.PerformSteps()
        reader = asyncio.create_task(self._read(call, stub))
        writer = asyncio.create_task(self._write(call))
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and isinstance(writer.exception(), ConnectionError):
                await writer
            await reader  # in every other case why it broke is the reader's to say
        finally:
            reader.cancel()
            writer.cancel()
            call.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, call: Call, stub: Stub) -> None:
        assembly = Assembly()
        async for response in call:
            for frame in response.frames:
                if frame.WhichOneof("frame") != "chunk":
                    await self._take(frame, stub)
                elif (data := assembly.add(frame)) is not None:
                    await self._take(_decoded(data), stub)

    async def _take(self, frame: frames_pb2.ExecutorFrame, stub: Stub) -> None:
        if failpoints.on:
            await failpoints.reach(*failpoints.of_frames("receive", [frame], "before"))
        match frame.WhichOneof("frame"):
            case "hello":
                await self._greet(frame.hello, stub)
            case "capacity":
                self._clock_ahead = frame.capacity.clock_nanos - time.monotonic_ns()
                self._executors.says_free(self.address, frame.capacity.free_slots)
            case "draining":
                self._executors.drains(self.address)
            case _:
                self._executors.receive(frame)
        if failpoints.on:
            await failpoints.reach(*failpoints.of_frames("receive", [frame], "after"))

    async def _greet(self, hello: frames_pb2.Hello, stub: Stub) -> None:
        if self.connected:  # again, on the same stream: another orchestrator has left steps behind
            await self._acknowledge(hello)
            return
        self._clock_ahead = hello.clock_nanos - time.monotonic_ns()
        described = await stub.Describe(executor_service_pb2.DescribeRequest(), timeout=DESCRIBE_SECONDS)
        tools = tools_of(described)
        self._offer(tools)
        self.connected = True
        CONNECTED.labels(self.address).set(1)
        self._executors.joined(hello, frozenset(tool.name for tool in tools), self.address)
        await self._acknowledge(hello)
        _log.info("executor joined", address=self.address, executor_instance=hello.instance_id, slots=hello.slots)

    async def _acknowledge(self, hello: frames_pb2.Hello) -> None:
        """What nobody awaits any more is ended and forgotten: its outcome was committed, by an owner that died
        perhaps, it was cancelled while the stream was down, or a later dispatch went to another instance. One that
        came to this instance goes on with what there is."""
        if not (held := hello.held_steps):
            return
        try:
            awaited = await self._dispatched([step.step_id for step in held], hello.instance_id)
        except StorageUnavailable:
            return  # they stay held, until the next hello
        for step in held:
            if step.step_id in awaited:
                continue
            if step.state == frames_pb2.HELD_STATE_RUNNING:
                self.send(cancel_frame(step.step_id, step.epoch, step.dispatch_number), 0)
            self.send(recorded_frame(step.step_id, step.epoch, step.dispatch_number), 0)

    async def _write(self, call: Call) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ready = list(self._outbox)
            self._outbox.clear()
            if failpoints.on:
                await failpoints.reach(*failpoints.of_frames("send", ready, "before"))
            for batch in batches(ready):
                await call.write(executor_service_pb2.PerformStepsRequest(frames=batch))
            if failpoints.on:
                await failpoints.reach(*failpoints.of_frames("send", ready, "after"))

    def _disconnected(self) -> None:
        self.connected = False
        CONNECTED.labels(self.address).set(0)
        self._executors.left(self.address)
        unsent = list(self._outbox)
        self._outbox.clear()
        for frame in unsent:
            self._never_sent(frame)

    def _never_sent(self, frame: frames_pb2.OrchestratorFrame) -> None:
        if frame.WhichOneof("frame") == "start":
            self._executors.never_sent(frame)


def _decoded(data: bytes) -> frames_pb2.ExecutorFrame:
    try:
        return frames_pb2.ExecutorFrame.FromString(data)
    except DecodeError:
        raise BadChunk("chunks were put together and are no frame") from None
