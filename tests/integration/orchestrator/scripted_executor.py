"""An executor whose every outcome a test decides: it may answer, hold, refuse, lose its streams, die and come back.

It keeps the contract's rules of reattachment unless a test tells it otherwise, and it remembers all it was told.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from gen.assent.executor.v1 import executor_service_pb2 as pb
from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.executor.v1.executor_service_pb2_grpc import (
    ExecutorServiceServicer,
    add_ExecutorServiceServicer_to_server,
)
from gen.assent.v1 import attempt_pb2, delta_pb2, failure_pb2, tool_call_pb2, tool_pb2

T = TypeVar("T")
LIMIT_SECONDS = 10.0
TOOLS = {
    "look": tool_pb2.SIDE_EFFECT_READ_ONLY,
    "put": tool_pb2.SIDE_EFFECT_IDEMPOTENT,
    "send_mail": tool_pb2.SIDE_EFFECT_NON_IDEMPOTENT,
    "order": tool_pb2.SIDE_EFFECT_NON_IDEMPOTENT,
}
SCHEMAS = {"order": '{"type": "object", "properties": {"pieces": {"type": "integer"}}, "required": ["pieces"]}'}
OUTCOMES = ("finished", "failed", "refused")

Outbox = asyncio.Queue[frames_pb2.ExecutorFrame | None]


@dataclass(eq=False)
class Act:
    """One dispatch of a step, in this executor's hands until an outcome is said."""

    step_id: str
    epoch: int
    number: int  # the dispatch number
    start: step_pb2.StartStep
    listeners: list[Outbox]  # the newest last: only it is told, unless a test wants otherwise
    outcome: frames_pb2.ExecutorFrame | None = None
    taken: bool = False
    first_epoch: int = 0

    def __post_init__(self) -> None:
        self.first_epoch = self.epoch  # `epoch` moves on with each owner that reattaches

    @property
    def tool(self) -> str:
        return self.start.tool.tool

    @property
    def agent(self) -> str:
        return self.start.agent

    @property
    def purpose(self) -> str:
        """ROUTING, PLANNING, SUBTASK or ANSWER; empty for a tool."""
        name = attempt_pb2.AttemptPurpose.Name(self.start.model.purpose)
        return name.removeprefix("ATTEMPT_PURPOSE_") if self.start.HasField("model") else ""

    @property
    def last_text(self) -> str:
        """What the model read last."""
        return self.start.model.messages[-1].text

    # Outcomes

    def says(self, text: str, *calls: tuple[str, str]) -> None:
        """The model's reply; each call is a tool and the exact text of its arguments."""
        proposed = [
            tool_call_pb2.ToolCall(call_id=f"call_{n}", tool=tool, arguments_json=arguments)
            for n, (tool, arguments) in enumerate(calls)
        ]
        model = step_pb2.ModelResult(
            text=text,
            tool_calls=proposed,
            finish_reason="tool_calls" if calls else "stop",
            usage=step_pb2.TokenUsage(input_tokens=10, output_tokens=5),
            model="scripted:test",
            priced=True,
        )
        self._end(finished=step_pb2.Finished(model=model))

    def says_json(self, value: object) -> None:
        self.says(json.dumps(value))

    def returns(self, content: str = "done", *, is_error: bool = False) -> None:
        """The tool's result."""
        self._end(finished=step_pb2.Finished(tool=tool_call_pb2.ToolResult(content=content, is_error=is_error)))

    def fails(self, message: str, *, retryable: bool = True, retry_after: float = 0) -> None:
        disposition = failure_pb2.DISPOSITION_RETRYABLE if retryable else failure_pb2.DISPOSITION_HUMAN_REQUIRED
        failed = step_pb2.Failed(reason="MODEL_ERROR", message=message, disposition=disposition)
        failed.retry_after.FromMicroseconds(round(retry_after * 1e6))
        self._end(failed=failed)

    def refuses(self, reason: str) -> None:
        value = frames_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason}")
        self._end(refused=frames_pb2.Refused(reason=value, message=f"refused: {reason}"))

    def streams(self, text: str) -> None:
        """A piece of the reply; not the outcome."""
        self.tell(delta=frames_pb2.Delta(kind=delta_pb2.DELTA_KIND_TEXT, text=text))

    def frame(self, **content: Any) -> frames_pb2.ExecutorFrame:
        return frames_pb2.ExecutorFrame(step_id=self.step_id, epoch=self.epoch, dispatch_number=self.number, **content)

    def tell(self, **content: Any) -> None:
        self.listeners[-1].put_nowait(self.frame(**content))

    def _end(self, **content: Any) -> None:
        self.outcome = self.frame(**content)
        self.listeners[-1].put_nowait(self.outcome)


Play = Callable[[Act], None]
"""What to do with a start at once; a start it gives no outcome is held for the test."""


def hold(act: Act) -> None:
    """Leave it to the test."""


@dataclass
class _Streams:
    """Open streams, and how many there ever were."""

    open: set[Outbox] = field(default_factory=set)
    opened: int = 0


class ScriptedExecutor(ExecutorServiceServicer):
    """One address; the instance behind it may be exchanged for another."""

    def __init__(self, play: Play = hold, *, slots: int = 64) -> None:
        self.play = play
        self.slots = slots
        self.instance_id = str(uuid.uuid4())
        self.address = ""
        self.is_deaf = False  # starts get lost on their way to it, and questions about them
        self.acts: list[Act] = []  # every start there ever was, in order
        self.told: list[frames_pb2.OrchestratorFrame] = []
        self._held: dict[str, Act] = {}  # what this instance knows
        self._streams = _Streams()
        self._news = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    # Life

    async def start(self) -> None:
        """Listen, the second time at the address of the first."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_ExecutorServiceServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(self.address or "127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        self.break_streams()
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def break_streams(self) -> None:
        """Every orchestrator loses its stream; the instance and its steps live on."""
        for outbox in self._streams.open:
            outbox.put_nowait(None)

    def die(self) -> None:
        """Another instance takes the address: it knows nothing of what was there."""
        self.instance_id = str(uuid.uuid4())
        self._held.clear()
        self.break_streams()

    # What tests wait for

    async def next(self, *, tool: str = "", agent: str = "", purpose: str = "") -> Act:
        """The next start of this kind that nobody took and that has no outcome yet."""

        def found() -> Act | None:
            for act in self.acts:
                fits = tool in ("", act.tool) and agent in ("", act.agent) and purpose in ("", act.purpose)
                if fits and not act.taken and act.outcome is None:
                    act.taken = True
                    return act
            return None

        return await self._until(found, f"a start of {tool or purpose or agent or 'anything'}")

    async def heard(self, kind: str, step_id: str) -> frames_pb2.OrchestratorFrame:
        """A frame of this kind about the step, from now or before."""
        return await self._until(lambda: next(iter(self.heard_of(kind, step_id)), None), f"{kind} of {step_id}")

    def heard_of(self, kind: str, step_id: str) -> list[frames_pb2.OrchestratorFrame]:
        return [f for f in self.told if f.step_id == step_id and f.WhichOneof("frame") == kind]

    async def joined(self, times: int = 1) -> None:
        """So many streams were opened since the beginning."""
        await self._until(lambda: self._streams.opened >= times or None, f"{times} streams")

    def starts_of(self, *, tool: str = "", step_id: str = "") -> list[Act]:
        return [a for a in self.acts if tool in ("", a.tool) and step_id in ("", a.step_id)]

    async def _until(self, found: Callable[[], T | None], what: str) -> T:
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                while (it := found()) is None:
                    await self._news.wait()
                return it
        except TimeoutError:
            kinds = [(f.WhichOneof("frame"), f.step_id[-6:], f.dispatch_number) for f in self.told]
            raise AssertionError(f"the executor never got {what}; it was told {kinds}") from None

    def _tell_tests(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # The service

    async def RunStep(self, request: pb.RunStepRequest, context: Any) -> AsyncIterator[pb.RunStepResponse]:
        """The engine never asks for it."""
        raise AssertionError("one step a call is not for engines")
        yield  # makes this the generator that a streaming RPC is

    async def Describe(self, request: pb.DescribeRequest, context: Any) -> pb.DescribeResponse:
        tools = [
            pb.OfferedTool(
                name=name,
                input_schema_json=SCHEMAS.get(name, "{}"),
                schema_digest="0" * 64,
                side_effect=side_effect,
            )
            for name, side_effect in TOOLS.items()
        ]
        return pb.DescribeResponse(instance_id=self.instance_id, tools=tools, slots=self.slots)

    async def PerformSteps(
        self, request_iterator: AsyncIterator[pb.PerformStepsRequest], context: Any
    ) -> AsyncIterator[pb.PerformStepsResponse]:
        outbox = Outbox()
        self._streams.open.add(outbox)
        reading = asyncio.create_task(self._read(request_iterator, outbox))
        try:
            yield pb.PerformStepsResponse(frames=[frames_pb2.ExecutorFrame(hello=self._hello())])
            self._streams.opened += 1
            self._tell_tests()
            while (frame := await outbox.get()) is not None:
                yield pb.PerformStepsResponse(frames=[frame])
        finally:
            self._streams.open.discard(outbox)
            reading.cancel()

    def _hello(self) -> frames_pb2.Hello:
        return frames_pb2.Hello(
            instance_id=self.instance_id,
            address=self.address,
            slots=self.slots,
            clock_nanos=time.monotonic_ns(),
        )

    async def _read(self, requests: AsyncIterator[pb.PerformStepsRequest], outbox: Outbox) -> None:
        async for request in requests:
            for frame in request.frames:
                self.told.append(frame)
                self._take(frame, outbox)
        outbox.put_nowait(None)
        self._tell_tests()

    def _take(self, frame: frames_pb2.OrchestratorFrame, outbox: Outbox) -> None:
        match frame.WhichOneof("frame"):
            case "start" | "reattach" if self.is_deaf:
                pass
            case "start":
                act = Act(frame.step_id, frame.epoch, frame.dispatch_number, frame.start, [outbox])
                self.acts.append(act)
                self._held[act.step_id] = act
                self.play(act)
            case "reattach":
                self._reattach(frame, outbox)
            case "recorded":
                self._held.pop(frame.step_id, None)
        self._tell_tests()

    def _reattach(self, frame: frames_pb2.OrchestratorFrame, outbox: Outbox) -> None:
        act = self._held.get(frame.step_id)
        if act is None or act.number != frame.dispatch_number:
            unknown = frames_pb2.ExecutorFrame(
                step_id=frame.step_id,
                epoch=frame.epoch,
                dispatch_number=frame.dispatch_number,
                unknown=frames_pb2.Unknown(),
            )
            outbox.put_nowait(unknown)
            return
        act.epoch = frame.epoch
        act.listeners.append(outbox)
        outbox.put_nowait(act.outcome or act.frame(running=frames_pb2.Running()))
