"""The stream to one executor: what goes over it, what its breaking costs, and that nothing said over it ends it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.v1 import failure_pb2, tool_call_pb2
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.records import Workspace
from orchestrator.engine import link as link_module
from orchestrator.engine.frames import recorded_frame, start_frame
from rpc import failpoints
from rpc.chunks import BATCH_BYTES, FRAME_BYTES, UNFINISHED_LIMIT
from tests.unit.domain.build import a_step
from tests.unit.engine.fake_executor import CLOCK, LIMIT_SECONDS, FakeExecutor, Frame
from tests.unit.engine.linked import MINUTE, NOW, Linked, flying, linking
from tests.unit.engine.virtual_time import in_virtual_time, settle

NOWHERE = Workspace()


@pytest.fixture
async def linked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Linked]:
    async with linking(monkeypatch) as made:
        yield made


def finished(step_id: str = "x1", number: int = 1, content: str = "done") -> Frame:
    result = step_pb2.Finished(tool=tool_call_pb2.ToolResult(content=content))
    return Frame(step_id=step_id, epoch=7, dispatch_number=number, finished=result)


def chunks(frame: Frame, size: int) -> list[Frame]:
    data = frame.SerializeToString()
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return [
        Frame(
            step_id=frame.step_id,
            epoch=frame.epoch,
            dispatch_number=frame.dispatch_number,
            chunk=frames_pb2.FrameChunk(index=at, data=piece, last=at == len(pieces) - 1),
        )
        for at, piece in enumerate(pieces)
    ]


def kinds(frames: Sequence[frames_pb2.OrchestratorFrame]) -> list[tuple[str, str | None]]:
    return [(frame.step_id, frame.WhichOneof("frame")) for frame in frames]


def held(step_id: str, number: int, state: str) -> frames_pb2.HeldStep:
    word = frames_pb2.HeldState.Value(f"HELD_STATE_{state}")
    return frames_pb2.HeldStep(step_id=step_id, epoch=3, dispatch_number=number, state=word)


# Joining


async def test_an_executor_that_says_hello_is_asked_what_it_offers(linked: Linked) -> None:
    await linked.greeted()
    assert [(tool.name, tool.side_effect) for tool in linked.offered] == [("write_file", "IDEMPOTENT")]
    assert linked.executors.pick(a_step(tool="write_file"), NOWHERE)
    assert not linked.executors.pick(a_step(tool="no_such_tool"), NOWHERE)


async def test_an_executor_that_cannot_say_what_it_offers_is_tried_again(linked: Linked) -> None:
    linked.executor.refuses_to_describe = True
    stream = await linked.executor.next_stream()
    stream.hello()
    again = await linked.executor.next_stream()
    assert not linked.link.connected
    linked.executor.refuses_to_describe = False
    await linked.again(again)
    assert linked.link.connected


async def test_a_tool_of_a_class_this_version_does_not_know_counts_as_the_most_dangerous(linked: Linked) -> None:
    linked.executor.tools["new_tool"] = 99  # type: ignore[assignment]  # a newer executor's word
    await linked.greeted()
    assert {t.name: t.side_effect for t in linked.offered}["new_tool"] not in ("READ_ONLY", "IDEMPOTENT")


# Clocks


async def test_a_deadline_is_told_in_the_executors_own_clock(linked: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic_ns=lambda: 1_000))
    stream = await linked.greeted()
    linked.link.send(start_frame(flying(), 7, step_pb2.ToolExecution()), NOW + MINUTE)
    [frame] = await stream.heard(1)
    assert frame.start.deadline_nanos == CLOCK + MINUTE * 1_000


async def test_a_start_delayed_past_its_deadline_gets_no_fresh_one(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic_ns=lambda: 1_000))
    stream = await linked.greeted()
    linked.link.send(start_frame(flying(), 7, step_pb2.ToolExecution()), NOW - MINUTE)
    [frame] = await stream.heard(1)
    assert frame.start.deadline_nanos == CLOCK


async def test_the_executors_clock_is_corrected_by_every_reading(
    linked: Linked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic_ns=lambda: 1_000))
    stream = await linked.greeted()
    linked.fly(flying())
    stream.say(Frame(capacity=frames_pb2.Capacity(clock_nanos=CLOCK + 5)), finished())
    await linked.outcome()
    linked.link.send(start_frame(flying(), 7, step_pb2.ToolExecution()), NOW)
    frames = await stream.heard(2)
    assert frames[1].start.deadline_nanos == CLOCK + 5


# Batches and chunks


async def test_what_is_ready_together_travels_together_and_no_message_is_over_its_limit(linked: Linked) -> None:
    stream = await linked.greeted()
    for n in range(40):
        call = step_pb2.ToolExecution(arguments_json="x" * 20_000)
        linked.link.send(start_frame(flying(f"x{n}"), 7, call), NOW + MINUTE)
    frames = await stream.heard(40)
    assert [frame.step_id for frame in frames] == [f"x{n}" for n in range(40)]
    assert len(stream.messages) == 4
    assert max(message.ByteSize() for message in stream.messages) <= BATCH_BYTES


async def test_a_frame_larger_than_a_message_travels_in_chunks_and_in_order(linked: Linked) -> None:
    stream = await linked.greeted()
    large = start_frame(flying(), 7, step_pb2.ToolExecution(arguments_json="ж" * 500_000))
    linked.link.send(large, NOW + MINUTE)
    linked.link.send(recorded_frame("x2", 7, 1), 0)
    *parts, last = await stream.heard(7)
    assert [(part.chunk.index, part.chunk.last) for part in parts] == [(n, n == 5) for n in range(6)]
    whole = frames_pb2.OrchestratorFrame.FromString(b"".join(part.chunk.data for part in parts))
    assert whole == large
    assert kinds([last]) == [("x2", "recorded")]
    assert max(message.ByteSize() for message in stream.messages) <= BATCH_BYTES


async def test_outcomes_that_come_in_chunks_side_by_side_are_put_together(linked: Linked) -> None:
    stream = await linked.greeted()
    linked.fly(flying("x1"))
    linked.fly(flying("x2"))
    one = chunks(finished("x1", content="one" * 1_000), 1_000)
    two = chunks(finished("x2", content="two" * 1_000), 1_000)
    stream.say(*(part for pair in zip(one, two, strict=True) for part in pair))
    outcomes = {outcome.step_id: outcome for outcome in [await linked.outcome(), await linked.outcome()]}
    assert [outcomes[name].result and outcomes[name].result.content for name in ("x1", "x2")] == [  # type: ignore[union-attr]  # checked by `and`
        "one" * 1_000,
        "two" * 1_000,
    ]


# Slots


async def test_what_an_executor_says_is_free_counts(linked: Linked) -> None:
    stream = await linked.greeted()
    linked.fly(flying())
    stream.say(Frame(capacity=frames_pb2.Capacity(free_slots=0, clock_nanos=CLOCK)), finished())
    await linked.outcome()
    assert not linked.executors.pick(a_step(), NOWHERE)
    linked.joined.clear()
    stream.say(Frame(capacity=frames_pb2.Capacity(free_slots=2, clock_nanos=CLOCK)))
    async with asyncio.timeout(LIMIT_SECONDS):
        await linked.joined.wait()
    assert linked.executors.pick(a_step(), NOWHERE)


# Breaking


async def test_a_start_while_the_stream_is_down_is_known_never_to_have_been_sent(linked: Linked) -> None:
    stream = await linked.greeted()
    stream.end()
    await stream.is_over.wait()
    await linked.executor.next_stream()
    assert not linked.link.connected
    linked.launch("x1")
    assert (await linked.outcome()).kind == "UNKNOWN"


async def test_a_start_that_waited_to_be_sent_when_the_stream_broke_is_known_never_to_have_been_sent(
    linked: Linked,
) -> None:
    await linked.greeted()
    linked.launch("x1")
    linked.calls[-1].cancel()  # before the writer's turn
    linked.link._disconnected()
    assert (await linked.outcome()).kind == "UNKNOWN"


async def test_what_could_not_be_sent_while_the_stream_was_down_is_never_sent_late(linked: Linked) -> None:
    stream = await linked.greeted()
    linked.fly(flying())
    await stream.heard(1)
    stream.end()
    await stream.is_over.wait()
    again = await linked.executor.next_stream()
    assert not linked.link.connected
    linked.link.send(start_frame(flying("x2"), 7, step_pb2.ToolExecution()), NOW + MINUTE)
    again.hello()
    [frame] = await again.heard(1)
    assert kinds([frame]) == [("x1", "reattach")]
    linked.link.send(recorded_frame("x3", 7, 1), 0)
    assert kinds(await again.heard(2)) == [("x1", "reattach"), ("x3", "recorded")]


async def test_nothing_new_is_placed_while_the_stream_is_down_or_the_executor_drains(linked: Linked) -> None:
    stream = await linked.greeted()
    linked.fly(flying())
    stream.say(Frame(draining=frames_pb2.Draining()), finished())
    await linked.outcome()
    assert not linked.executors.pick(a_step(), NOWHERE)
    stream.end()
    again = await linked.executor.next_stream()
    assert not linked.executors.pick(a_step(), NOWHERE)
    await linked.again(again)
    assert linked.executors.pick(a_step(), NOWHERE)


async def test_a_stream_that_breaks_while_something_is_written_to_it_is_taken_up_again(linked: Linked) -> None:
    linked.may_answer.clear()
    stream = await linked.greeted(held("x9", 1, "ENDED"))
    stream.end()  # the link reads nothing now: it waits for the database
    await stream.is_over.wait()
    await linked.calls[-1].code()
    linked.fly(flying())
    linked.link.send(recorded_frame("x3", 7, 1), 0)
    await settle()
    linked.may_answer.set()
    again = await linked.greeted()
    assert kinds(await again.heard(1)) == [("x1", "reattach")]


@pytest.mark.parametrize("point", ["send.reattach.before", "send.reattach.after", "receive.finished.before"])
async def test_a_stream_that_breaks_at_a_frame_is_taken_up_again_and_what_was_lost_is_asked_for(
    linked: Linked, point: str
) -> None:
    failpoints.arm(f"{point}:1:lose")
    try:
        linked.fly(flying())
        stream = await linked.greeted()
        stream.say(finished())
        stream = await linked.greeted()
        await stream.heard(1)
        stream.say(finished())
        assert (await linked.outcome()).kind == "SUCCEEDED"
        assert [order.point for order in failpoints.fired] == [point]
        assert [frame.WhichOneof("frame") for frame in stream.frames] == ["reattach"]
    finally:
        failpoints.disarm()


@in_virtual_time
async def test_an_executor_that_cannot_be_reached_is_tried_again_less_and_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[float] = []

    class Unreachable:
        async def __aenter__(self) -> None:
            tries.append(asyncio.get_running_loop().time())
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing)

        async def __aexit__(self, *_: object) -> None: ...

    monkeypatch.setattr(link_module, "connect", lambda address: Unreachable())
    task = asyncio.create_task(Linked("nowhere:1", FakeExecutor()).link.run())
    await asyncio.sleep(10)
    task.cancel()
    pauses = [round(b - a, 3) for a, b in pairwise(tries)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


# What it holds


async def test_held_outcomes_nobody_awaits_are_forgotten_and_those_still_awaited_are_not(linked: Linked) -> None:
    linked.awaited = {"x2"}
    stream = await linked.greeted(held("x1", 4, "ENDED"), held("x2", 1, "ENDED"))
    [frame] = await stream.heard(1)
    assert (frame.step_id, frame.epoch, frame.dispatch_number, frame.WhichOneof("frame")) == ("x1", 3, 4, "recorded")
    assert linked.asked == [(["x1", "x2"], "i1")]
    linked.link.send(recorded_frame("x3", 7, 1), 0)
    assert kinds(await stream.heard(2)) == [("x1", "recorded"), ("x3", "recorded")]


async def test_a_step_cancelled_while_the_stream_was_down_is_ended_when_it_is_back(linked: Linked) -> None:
    linked.awaited = {"x2"}
    stream = await linked.greeted(held("x1", 4, "RUNNING"), held("x2", 1, "RUNNING"))
    assert kinds(await stream.heard(2)) == [("x1", "cancel"), ("x1", "recorded")]
    linked.link.send(recorded_frame("x3", 7, 1), 0)
    assert kinds(await stream.heard(3))[2:] == [("x3", "recorded")]


async def test_while_the_database_is_away_what_is_held_stays_held_and_the_stream_goes_on(linked: Linked) -> None:
    linked.awaited = StorageUnavailable("down")
    stream = await linked.greeted(held("x1", 4, "ENDED"))
    linked.fly(flying("x2"))
    stream.say(finished("x2"))
    assert (await linked.outcome()).kind == "SUCCEEDED"
    assert kinds(stream.frames) == [("x2", "reattach")]


async def test_an_executor_that_holds_nothing_costs_the_database_no_question(linked: Linked) -> None:
    await linked.greeted()
    assert linked.asked == []


async def test_what_another_orchestrator_left_is_looked_at_and_nothing_else_is_said(linked: Linked) -> None:
    stream = await linked.greeted()
    linked.fly(flying("x2"))
    await stream.heard(1)
    linked.awaited = {"x2"}
    described = len(linked.offered)
    stream.hello("i1", held("x1", 4, "ENDED"), held("x2", 1, "RUNNING"))
    assert kinds(await stream.heard(2)) == [("x2", "reattach"), ("x1", "recorded")]
    assert len(linked.offered) == described


# What nobody should say


def misplaced_chunk() -> list[Frame]:
    return chunks(finished(content="x" * 100), 50)[1:]


def garbage_chunk() -> list[Frame]:
    chunk = frames_pb2.FrameChunk(index=0, data=b"\xff\xff\xff", last=True)
    return [Frame(step_id="x1", epoch=7, dispatch_number=1, chunk=chunk)]


def chunk_without_its_first() -> list[Frame]:
    chunk = frames_pb2.FrameChunk(index=1, data=finished(content="the rest").SerializeToString(), last=True)
    return [Frame(step_id="x1", epoch=7, dispatch_number=1, chunk=chunk)]


def too_large() -> list[Frame]:
    data = b"x" * 255_000
    return [
        Frame(step_id="x1", epoch=7, dispatch_number=1, chunk=frames_pb2.FrameChunk(index=index, data=data))
        for index in range(FRAME_BYTES // len(data) + 1)
    ]


def too_many() -> list[Frame]:
    chunk = frames_pb2.FrameChunk(index=0, data=b"x")
    return [Frame(step_id=f"y{n}", epoch=7, dispatch_number=1, chunk=chunk) for n in range(UNFINISHED_LIMIT + 1)]


@pytest.mark.parametrize("nonsense", [misplaced_chunk, garbage_chunk, chunk_without_its_first, too_large, too_many])
async def test_a_stream_that_speaks_nonsense_is_broken_off_and_taken_up_again(linked: Linked, nonsense: Any) -> None:
    stream = await linked.greeted()
    linked.fly(flying())
    for frame in nonsense():
        stream.say(frame)
    again = await linked.greeted()
    assert kinds(await again.heard(1)) == [("x1", "reattach")]
    again.say(finished())
    assert (await linked.outcome()).kind == "SUCCEEDED"


async def test_words_of_a_newer_executor_are_read_as_far_as_they_are_known(linked: Linked) -> None:
    stream = await linked.greeted()
    linked.fly(flying("x1"))
    linked.fly(flying("x2"))
    refused: Any = frames_pb2.Refused(reason=99)  # type: ignore[arg-type]  # a newer executor's word
    stream.say(Frame(step_id="x1", epoch=7, dispatch_number=1, refused=refused))
    failed: Any = step_pb2.Failed(reason="NEW", disposition=99)  # type: ignore[arg-type]  # likewise
    stream.say(Frame(step_id="x2", epoch=7, dispatch_number=1, failed=failed))
    assert (await linked.outcome()).kind == "REFUSED"
    outcome = await linked.outcome()
    assert (outcome.kind, outcome.failure.reason) == ("FAILED", "NEW")
    assert outcome.failure.disposition != failure_pb2.Disposition.Name(failure_pb2.DISPOSITION_RETRYABLE)[12:]
