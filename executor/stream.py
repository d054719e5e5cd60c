"""One stream of one orchestrator: its frames are read in one task, what is due is written in another.

The two never wait for each other, so that neither end can block the other. Steps are the ledger's and outlive
the stream.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator

import grpc

from executor import artifacts, wire
from executor.ledger import Ledger
from executor.outbox import Outbox
from executor.performer import Performer
from executor.steps import Ref
from gen.assent.executor.v1 import executor_service_pb2 as service_pb
from gen.assent.executor.v1 import frames_pb2 as pb
from rpc import failpoints
from rpc.chunks import FRAME_BYTES, Assembly, BadChunk, batches
from rpc.problem import Problem
from rpc.validation import RequestReader, invalid_request

_READS_LIMIT = 16
_CAPACITY_SECONDS = 2.0

_large_frames = RequestReader(pb.OrchestratorFrame.FromString, FRAME_BYTES)


class Stream:
    """Talks to one orchestrator until either side has enough."""

    def __init__(self, ledger: Ledger, performer: Performer, hello: pb.Hello) -> None:
        self.outbox = Outbox()
        self._ledger = ledger
        self._performer = performer
        self._hello = hello
        self._told_free = -1
        self._told_at = 0.0
        self._assembly = Assembly()
        self._reads: set[asyncio.Task[None]] = set()

    async def run(
        self, requests: AsyncIterator[service_pb.PerformStepsRequest]
    ) -> AsyncGenerator[service_pb.PerformStepsResponse, None]:
        """Serve until the orchestrator has said everything, or one of the directions breaks."""
        self.outbox.add(pb.ExecutorFrame(hello=self._hello))
        reading = asyncio.create_task(self._read(requests))
        reading.add_done_callback(lambda _: self.outbox.close())
        try:
            while not self.outbox.is_closed:
                frames = await self.outbox.take()
                self._add_capacity(frames)
                if failpoints.on:
                    await failpoints.reach(*failpoints.of_frames("executor.send", frames, "before"))
                for batch in batches(frames):
                    yield service_pb.PerformStepsResponse(frames=batch)
                if failpoints.on:
                    await failpoints.reach(*failpoints.of_frames("executor.send", frames, "after"))
            await reading
        finally:
            self._ledger.detach(self.outbox)
            tasks = (reading, *self._reads)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def tell_capacity_if_due(self) -> None:
        """Let the writer say how many slots are free, if it has not said so already or not for a while."""
        if self._told_free != self._ledger.free_slots or time.monotonic() - self._told_at > _CAPACITY_SECONDS:
            self.outbox.wake()

    def say_hello(self, hello: pb.Hello) -> None:
        """Say again who this is and what it holds."""
        self.outbox.add(pb.ExecutorFrame(hello=hello))

    def drain(self, until_nanos: int) -> None:
        """Say that nothing more is started."""
        self.outbox.add(pb.ExecutorFrame(draining=pb.Draining(until_nanos=until_nanos)))

    async def _read(self, requests: AsyncIterator[service_pb.PerformStepsRequest]) -> None:
        async for request in requests:
            for frame in request.frames:
                self._take(frame)
            if self.outbox.is_flooded:
                raise Problem(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "WATCHER_TOO_SLOW",
                    "this stream is not being read; call again and reattach",
                    disposition="RETRYABLE",
                )

    def _add_capacity(self, frames: list[pb.ExecutorFrame]) -> None:
        now = time.monotonic_ns()
        free = self._ledger.free_slots
        if free == self._told_free and now / 1e9 - self._told_at <= _CAPACITY_SECONDS:
            return
        self._told_free, self._told_at = free, now / 1e9
        frames.append(pb.ExecutorFrame(capacity=pb.Capacity(free_slots=free, clock_nanos=now)))

    def _take(self, frame: pb.OrchestratorFrame) -> None:
        ref = Ref(frame.step_id, frame.epoch, frame.dispatch_number)
        if not ref.step_id:
            raise invalid_request([("frames.step_id", "value is required")])
        if failpoints.on:
            failpoints.hit(*failpoints.of_frames("executor.receive", [frame], "before"))
        match frame.WhichOneof("frame"):
            case "start":
                self._ledger.start(wire.start(ref, frame.start), self.outbox)
            case "recorded":
                self._ledger.recorded(ref)
            case "reattach":
                self._ledger.reattach(ref, frame.reattach.target_instance_id, self.outbox)
            case "cancel":
                self._ledger.cancel(ref, self.outbox)
            case "read_artifact":
                self._read_artifact(ref, frame.read_artifact)
            case "chunk":
                self._put_together(frame)
        if failpoints.on:
            failpoints.hit(*failpoints.of_frames("executor.receive", [frame], "after"))

    def _put_together(self, part: pb.OrchestratorFrame) -> None:
        try:
            data = self._assembly.add(part)
        except BadChunk as error:
            raise invalid_request([("frames.chunk", str(error))]) from None
        if data is None:
            return
        whole = _large_frames.read_part(data)
        assert isinstance(whole, pb.OrchestratorFrame)
        if whole.HasField("chunk"):
            raise invalid_request([("frames.chunk", "a chunk holds no chunks")])
        self._take(whole)

    def _read_artifact(self, ref: Ref, asked: pb.ReadArtifact) -> None:
        if len(self._reads) >= _READS_LIMIT:
            raise invalid_request([("frames.read_artifact", f"more than {_READS_LIMIT} files at once")])
        task = asyncio.create_task(self._send_artifact(ref, asked))
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    async def _send_artifact(self, ref: Ref, asked: pb.ReadArtifact) -> None:
        async for frame in artifacts.chunks(ref, asked, self._performer.roots):
            await self.outbox.add_bytes(frame)
