"""What a slow stream is told: fewer and longer deltas, then none, but every outcome."""

import asyncio

from executor.models.model import Delta
from executor.outbox import Outbox
from executor.steps import Accepted, Failed, Finished, Progress, Ref
from executor.tools.tool import ToolResult
from gen.assent.executor.v1 import frames_pb2 as pb
from rpc.chunks import BATCH_BYTES, batches

A, B = Ref("a", 1, 1), Ref("b", 1, 1)


async def test_neighbouring_deltas_of_one_kind_are_joined_and_nothing_changes_places() -> None:
    outbox = Outbox()
    for ref, said in (
        (A, Accepted()),
        (A, Delta("REASONING", "hm")),
        (A, Delta("TEXT", "He")),
        (A, Delta("TEXT", "llo")),
        (B, Delta("TEXT", "other")),
        (A, Delta("TOOL_ARGUMENTS", "{", "call_1", "noop")),
        (A, Delta("TOOL_ARGUMENTS", "}", "call_1", "noop")),
        (A, Delta("TOOL_ARGUMENTS", "{}", "call_2", "noop")),
        (B, Progress("one ")),
        (B, Progress("two")),
        (A, Finished(ToolResult("done"), 1)),
    ):
        outbox.tell(ref, said)
    frames = await outbox.take()
    assert [
        (frame.step_id, frame.WhichOneof("frame"), frame.delta.text or frame.progress.message) for frame in frames
    ] == [
        ("a", "accepted", ""),
        ("a", "delta", "hm"),
        ("a", "delta", "Hello"),
        ("b", "delta", "other"),
        ("a", "delta", "{}"),
        ("a", "delta", "{}"),
        ("b", "progress", "one two"),
        ("a", "finished", ""),
    ]


async def test_a_stream_that_is_not_read_loses_deltas_and_no_outcome() -> None:
    outbox = Outbox()
    for _ in range(10_000):
        outbox.tell(A, Delta("TEXT", "x" * 1000))
    outbox.tell(A, Finished(ToolResult("done"), 1))
    outbox.tell(B, Failed("CANCELLED", "", "FATAL"))
    frames = await outbox.take()
    assert sum(len(frame.delta.text) for frame in frames) < 2_000_000
    assert [frame.WhichOneof("frame") for frame in frames[-2:]] == ["finished", "failed"]
    outbox.tell(A, Delta("TEXT", "again"))
    assert (await outbox.take())[0].delta.text == "again"


async def test_what_a_step_says_as_soon_as_it_has_begun_travels_along() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.tell(A, Accepted())
    asyncio.get_running_loop().call_soon(outbox.tell, A, Finished(ToolResult("done"), 1))
    assert [frame.WhichOneof("frame") for frame in await taking] == ["accepted", "finished"]


def test_batches_are_cut_by_bytes_in_order_and_large_frames_in_chunks() -> None:
    sizes = [10, 100_000, 200_000, 1_000_000, 5, 60_000]
    frames = [pb.ExecutorFrame(step_id=str(n), delta=pb.Delta(text="x" * size)) for n, size in enumerate(sizes)]
    seen: list[pb.ExecutorFrame] = []
    parts: list[bytes] = []
    for batch in batches(frames):
        assert sum(frame.ByteSize() for frame in batch) < BATCH_BYTES + 1000
        for frame in batch:
            if frame.WhichOneof("frame") != "chunk":
                seen.append(frame)
                continue
            assert frame.chunk.index == len(parts)
            parts.append(frame.chunk.data)
            if frame.chunk.last:
                seen.append(pb.ExecutorFrame.FromString(b"".join(parts)))
    assert seen == frames
