"""An executor in this process on a free port, and an orchestrator's side of its streams."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from executor.bootstrap import Parts, build, start
from executor.settings import Settings
from gen.assent.executor.v1 import executor_service_pb2 as service_pb
from gen.assent.executor.v1 import frames_pb2 as pb
from gen.assent.executor.v1 import step_pb2
from gen.assent.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from rpc.channel import connect

LIMIT_SECONDS = 10
OUTCOMES = ("finished", "failed")


@dataclass
class Talk:
    """One stream, as an orchestrator has it. Frames are kept until a test asks for them."""

    call: Any
    to_send: asyncio.Queue[service_pb.PerformStepsRequest | None]
    free_slots: int = -1
    hello: pb.Hello = field(default_factory=pb.Hello)
    messages: list[service_pb.PerformStepsResponse] = field(default_factory=list)
    frames: list[pb.ExecutorFrame] = field(default_factory=list)
    chunks: dict[str, bytes] = field(default_factory=dict)

    def send(self, *frames: pb.OrchestratorFrame) -> None:
        """Send frames in one message."""
        self.to_send.put_nowait(service_pb.PerformStepsRequest(frames=frames))

    async def next_of(self, step_id: str, *kinds: str) -> pb.ExecutorFrame:
        """The step's next frame; with kinds, the next of these, and what comes before it is thrown away."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                for frame in [frame for frame in self.frames if frame.step_id == step_id]:
                    self.frames.remove(frame)
                    if not kinds or frame.WhichOneof("frame") in kinds:
                        return frame
                await self.receive()

    async def outcome_of(self, step_id: str) -> pb.ExecutorFrame:
        """What became of the step."""
        return await self.next_of(step_id, *OUTCOMES)

    async def capacity(self, free_slots: int) -> None:
        """Wait until the last word is that so many slots are free."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while self.free_slots != free_slots:
                await self.receive()

    async def receive(self) -> None:
        """Read one message."""
        message = await self.call.read()
        if message is grpc.aio.EOF:
            raise AssertionError(f"the stream ended: {await self.call.code()} {await self.call.details()}")
        self.messages.append(message)
        for frame in message.frames:
            if frame.HasField("capacity"):
                self.free_slots = frame.capacity.free_slots
            elif frame.WhichOneof("frame") != "chunk":
                self.frames.append(frame)
            else:
                self._put_together(frame)

    def _put_together(self, frame: pb.ExecutorFrame) -> None:
        self.chunks[frame.step_id] = self.chunks.get(frame.step_id, b"") + frame.chunk.data
        if frame.chunk.last:
            self.frames.append(pb.ExecutorFrame.FromString(self.chunks.pop(frame.step_id)))

    async def end(self) -> grpc.StatusCode:
        """Wait for the executor to end the stream; the status it ends with."""
        async with asyncio.timeout(LIMIT_SECONDS):
            try:
                while await self.call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    async def close(self) -> None:
        """Break the stream, as a crash of the orchestrator would."""
        self.call.cancel()
        self.to_send.put_nowait(None)


@dataclass
class RunningExecutor:
    """An executor under test."""

    parts: Parts
    stub: ExecutorServiceStub
    root: Path
    root_id: str
    talks: list[Talk] = field(default_factory=list)

    async def talk(self) -> Talk:
        """Open a stream and read hello."""
        to_send: asyncio.Queue[service_pb.PerformStepsRequest | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[service_pb.PerformStepsRequest]:
            while (request := await to_send.get()) is not None:
                yield request

        talk = Talk(self.stub.PerformSteps(requests()), to_send)
        self.talks.append(talk)
        await asyncio.wait_for(talk.receive(), LIMIT_SECONDS)
        assert talk.frames[0].WhichOneof("frame") == "hello"
        talk.hello = talk.frames.pop(0).hello
        return talk

    def path(self, name: str, directory: str = "session") -> Path:
        """A file of a workspace."""
        return self.root / directory / name

    def command(self, command: str, **more: Any) -> step_pb2.StartStep:
        """A step that runs a command in the session's workspace."""
        import json

        return tool_step("run_command", json.dumps({"command": command}), root_id=self.root_id, **more)


@asynccontextmanager
async def running_executor(data: Path, **settings: Any) -> AsyncIterator[RunningExecutor]:
    parts = await build(Settings(executor_addr="127.0.0.1:0", data_dir=data, **settings))
    port = await start(parts)
    ticking = asyncio.create_task(parts.executor.tick())
    async with connect(f"127.0.0.1:{port}") as channel:
        root_id, root = next(iter(parts.executor.performer.roots.items()))
        running = RunningExecutor(parts, ExecutorServiceStub(channel), root, root_id)
        try:
            yield running
        finally:
            for talk in running.talks:
                await talk.close()
            ticking.cancel()
            await parts.ledger.end()
            await parts.server.stop(0)


def new_id() -> str:
    return str(uuid.uuid4())


def tool_step(
    tool: str,
    arguments_json: str,
    *,
    target: str = "",
    root_id: str = "",
    seconds: float = 30,
    **execution: Any,
) -> step_pb2.StartStep:
    workspace = step_pb2.StepWorkspace(root_id=root_id, directory="session") if root_id else None
    return step_pb2.StartStep(
        target_instance_id=target,
        session_id="session",
        run_id="run",
        deadline_nanos=time.monotonic_ns() + round(seconds * 1e9),
        tool=step_pb2.ToolExecution(tool=tool, arguments_json=arguments_json, workspace=workspace, **execution),
    )


def model_step(text: str, *, agent: str = "ask", turn: int = 0, seconds: float = 30) -> step_pb2.StartStep:
    return step_pb2.StartStep(
        deadline_nanos=time.monotonic_ns() + round(seconds * 1e9),
        model=step_pb2.ModelCall(
            model="scripted:",
            agent=agent,
            turn=turn,
            messages=[step_pb2.ModelMessage(role=step_pb2.MODEL_ROLE_USER, text=text)],
        ),
    )


def started(step: step_pb2.StartStep, step_id: str = "", *, epoch: int = 1, dispatch: int = 1) -> pb.OrchestratorFrame:
    return pb.OrchestratorFrame(step_id=step_id or new_id(), epoch=epoch, dispatch_number=dispatch, start=step)


def reattach(step_id: str, *, epoch: int = 1, dispatch: int = 1, target: str = "") -> pb.OrchestratorFrame:
    return pb.OrchestratorFrame(
        step_id=step_id,
        epoch=epoch,
        dispatch_number=dispatch,
        reattach=pb.Reattach(target_instance_id=target),
    )


def recorded(step_id: str, *, epoch: int = 1, dispatch: int = 1) -> pb.OrchestratorFrame:
    return pb.OrchestratorFrame(step_id=step_id, epoch=epoch, dispatch_number=dispatch, recorded=pb.Recorded())


def cancel(step_id: str, *, epoch: int = 1, dispatch: int = 1) -> pb.OrchestratorFrame:
    return pb.OrchestratorFrame(
        step_id=step_id, epoch=epoch, dispatch_number=dispatch, cancel=pb.CancelStep(reason="a test")
    )


def kinds(frames: Sequence[pb.ExecutorFrame]) -> list[str]:
    return [frame.WhichOneof("frame") or "" for frame in frames]
