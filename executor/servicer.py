"""The ExecutorService: streams of orchestrators, single steps, and what this executor offers."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from executor import wire
from executor.ledger import Ledger
from executor.metrics import SLOTS_HELD
from executor.outbox import Outbox
from executor.performer import Performer
from executor.steps import Ref
from executor.stream import Stream
from gen.assent.executor.v1 import executor_service_pb2 as service_pb
from gen.assent.executor.v1 import frames_pb2 as pb
from gen.assent.executor.v1.executor_service_pb2_grpc import ExecutorServiceServicer
from rpc.chunks import batches
from rpc.problem import Problem

Context = grpc.aio.ServicerContext[Any, Any]

_TICK_SECONDS = 0.1
_UNRECORDED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What an executor says about itself; the instance id is new at each start of the process."""

    instance_id: str
    address: str
    build: str


class Executor(ExecutorServiceServicer):
    """Serves the steps of one ledger to any number of orchestrators."""

    def __init__(self, identity: Identity, ledger: Ledger, performer: Performer) -> None:
        self.identity = identity
        self._ledger = ledger
        self.performer = performer
        self._streams: dict[Stream, None] = {}  # in the order in which they came
        ledger.on_room = self._tell_capacity
        SLOTS_HELD.set_function(lambda: ledger.slots - ledger.free_slots)

    async def PerformSteps(
        self, request_iterator: AsyncIterator[service_pb.PerformStepsRequest], context: Context
    ) -> AsyncIterator[service_pb.PerformStepsResponse]:
        """Serve one orchestrator's stream."""
        stream = Stream(self._ledger, self.performer, self._hello())
        self._streams[stream] = None
        try:
            async with aclosing(stream.run(request_iterator)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._streams.pop(stream, None)
            if self._ledger.is_left_with_steps:
                self._tell_held()

    async def RunStep(
        self, request: service_pb.RunStepRequest, context: Context
    ) -> AsyncIterator[service_pb.RunStepResponse]:
        """Perform one step for a caller who stays to hear what becomes of it."""
        ref = Ref(request.step_id or str(uuid.uuid4()), request.epoch, request.dispatch_number or 1)
        outbox = Outbox()
        self._ledger.start(wire.start(ref, request.start), outbox, is_announced=False)
        try:
            is_over = False
            while not is_over:
                frames = await outbox.take()
                is_over = any(frame.WhichOneof("frame") in ("finished", "failed", "refused") for frame in frames)
                _refuse_without_slot(frames)
                for batch in batches(frames):
                    yield service_pb.RunStepResponse(frames=batch)
        finally:
            self._ledger.release(ref, outbox)

    async def Describe(self, request: service_pb.DescribeRequest, context: Context) -> service_pb.DescribeResponse:
        """Say what is offered."""
        roster = self.performer.roster
        return service_pb.DescribeResponse(
            instance_id=self.identity.instance_id,
            tools=[wire.offered(tool) for _, tool in sorted(self.performer.tools.items())],
            models=[service_pb.OfferedModel(name=f"{name}:*", priced=True) for name in sorted(roster.providers)],
            slots=self._ledger.slots,
            build=self.identity.build,
            workspace_root_ids=list(self.performer.roots),
        )

    async def tick(self) -> None:
        """Tell idle streams about free slots, and about outcomes that wait, for as long as the process runs."""
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._tell_capacity()
            if time.monotonic() - looked > _UNRECORDED_SECONDS:
                looked = time.monotonic()
                if self._ledger.waits_to_be_recorded(_UNRECORDED_SECONDS):
                    self._tell_held()

    async def drain(self, seconds: float) -> None:
        """Start nothing more, wait for what runs to end and be recorded, then end the rest."""
        until = time.monotonic_ns() + round(seconds * 1e9)
        for stream in self._streams:
            stream.drain(until)
        try:
            await asyncio.wait_for(self._ledger.drain(), seconds)
        except TimeoutError:
            await self._ledger.end()

    def _tell_capacity(self) -> None:
        for stream in self._streams:
            stream.tell_capacity_if_due()

    def _tell_held(self) -> None:
        """Orchestrators look which of these outcomes are safe, and free their slots.

        One may have gone, or have lost the answer of the commit that wrote an outcome, and the session with it.
        """
        for stream in self._streams:
            stream.say_hello(self._hello())

    def _hello(self) -> pb.Hello:
        held = [
            pb.HeldStep(
                step_id=ref.step_id,
                epoch=ref.epoch,
                dispatch_number=ref.dispatch,
                state=pb.HELD_STATE_RUNNING if runs else pb.HELD_STATE_ENDED,
            )
            for ref, runs in self._ledger.held()
        ]
        return pb.Hello(
            instance_id=self.identity.instance_id,
            address=self.identity.address,
            workspace_root_ids=list(self.performer.roots),
            slots=self._ledger.slots,
            build=self.identity.build,
            clock_nanos=time.monotonic_ns(),
            held_steps=held,
        )


def _refuse_without_slot(frames: list[pb.ExecutorFrame]) -> None:
    for frame in frames:
        if frame.refused.reason == pb.REFUSAL_REASON_NO_SLOT:
            raise Problem(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "LIMIT_EXCEEDED",
                frame.refused.message,
                disposition="RETRYABLE",
                metadata={"limit": "slots"},
            )
