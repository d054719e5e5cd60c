"""Performing steps over the stream: what is said, in which order, and what is refused."""

import asyncio
import hashlib
import json

import grpc
import pytest

from executor.tools.toolbox import BUILT_IN
from gen.assent.executor.v1 import frames_pb2 as pb
from gen.assent.executor.v1 import step_pb2
from gen.assent.v1 import delta_pb2, failure_pb2
from tests.integration.executor.talk import (
    RunningExecutor,
    Talk,
    kinds,
    model_step,
    new_id,
    recorded,
    running_executor,
    started,
    tool_step,
)

EXACT = '{"id": 1234567890123456789}'


async def refusal(talk: Talk, frame: pb.OrchestratorFrame) -> str:
    talk.send(frame)
    answer = await talk.next_of(frame.step_id)
    assert answer.WhichOneof("frame") == "refused", answer
    return pb.RefusalReason.Name(answer.refused.reason).removeprefix("REFUSAL_REASON_")


async def test_hello_says_who_it_is_and_what_it_offers(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    assert talk.hello.slots == 8
    assert list(talk.hello.workspace_root_ids) == [executor.root_id]
    assert talk.hello.clock_nanos > 0
    assert talk.hello.address.startswith("127.0.0.1:")
    assert not talk.hello.address.endswith(":0")
    await talk.capacity(8)


async def test_a_tool_gets_and_returns_the_exact_bytes(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(tool_step("noop_ask", EXACT, target=talk.hello.instance_id), epoch=7, dispatch=3)
    talk.send(frame)
    accepted = await talk.next_of(frame.step_id)
    finished = await talk.next_of(frame.step_id)
    assert kinds([accepted, finished]) == ["accepted", "finished"]
    assert finished.finished.tool.content == EXACT
    assert (finished.epoch, finished.dispatch_number) == (7, 3)
    assert finished.finished.latency.nanos > 0


async def test_a_file_is_written_with_the_exact_bytes(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    arguments = json.dumps({"path": "a/exact.json", "content": EXACT})
    frame = started(tool_step("write_file", arguments, root_id=executor.root_id))
    talk.send(frame)
    assert not (await talk.outcome_of(frame.step_id)).finished.tool.is_error
    assert executor.path("a/exact.json").read_text() == EXACT


async def test_a_tools_complaint_is_a_result(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    for arguments in ('{"path": "../x"}', '{"path": "a", "path": "b"}', "no json"):
        frame = started(tool_step("read_file", arguments, root_id=executor.root_id))
        talk.send(frame)
        assert (await talk.outcome_of(frame.step_id)).finished.tool.is_error


async def test_a_model_streams_what_it_says_and_ends_with_all_of_it(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(model_step("hello"))
    talk.send(frame)
    assert (await talk.next_of(frame.step_id)).WhichOneof("frame") == "accepted"
    said = dict.fromkeys(delta_pb2.DeltaKind.values(), "")
    while (answer := await talk.next_of(frame.step_id)).WhichOneof("frame") == "delta":
        said[answer.delta.kind] += answer.delta.text
    result = answer.finished.model
    assert said[delta_pb2.DELTA_KIND_TEXT] == result.text == "Hello from the script"
    assert said[delta_pb2.DELTA_KIND_REASONING] == result.reasoning == "thinking"
    assert said[delta_pb2.DELTA_KIND_TOOL_ARGUMENTS] == result.tool_calls[0].arguments_json == EXACT
    assert result.finish_reason == "tool_calls"
    assert result.usage.output_tokens > 0
    assert result.priced


async def test_a_models_failure_says_when_to_try_again_and_the_third_dispatch_succeeds(
    executor: RunningExecutor,
) -> None:
    talk = await executor.talk()
    step_id = new_id()
    for dispatch in (1, 2):
        talk.send(started(model_step("fails twice"), step_id, dispatch=dispatch))
        failed = (await talk.outcome_of(step_id)).failed
        assert failed.reason == "MODEL_RATE_LIMITED"
        assert failed.disposition == failure_pb2.DISPOSITION_RETRYABLE
        assert failed.retry_after.ToMilliseconds() == 1500
        talk.send(recorded(step_id, dispatch=dispatch))
    talk.send(started(model_step("fails twice"), step_id, dispatch=3))
    assert (await talk.outcome_of(step_id)).finished.model.text == "third time"


async def test_what_is_ready_together_travels_together(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frames = [started(tool_step("noop", "{}")) for _ in range(8)]
    talk.send(*frames)
    for frame in frames:
        await talk.outcome_of(frame.step_id)
    assert len(talk.messages) <= 3  # hello, the answers, and perhaps the capacity


async def test_a_reply_larger_than_a_batch_travels_in_chunks(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(model_step("large"))
    talk.send(frame)
    finished = await talk.outcome_of(frame.step_id)
    assert finished.finished.model.text == "ё" * 600_000
    assert max(message.ByteSize() for message in talk.messages) < 300_000


async def test_a_start_larger_than_a_batch_arrives_in_chunks(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    content = "ё" * 300_000
    arguments = json.dumps({"path": "large.txt", "content": content}, ensure_ascii=False)
    whole = started(tool_step("write_file", arguments, root_id=executor.root_id))
    data = whole.SerializeToString()
    parts = [data[at : at + 200_000] for at in range(0, len(data), 200_000)]
    for index, part in enumerate(parts):
        chunk = pb.FrameChunk(index=index, data=part, last=index == len(parts) - 1)
        talk.send(pb.OrchestratorFrame(step_id=whole.step_id, epoch=1, dispatch_number=1, chunk=chunk))
    assert not (await talk.outcome_of(whole.step_id)).finished.tool.is_error
    assert executor.path("large.txt").read_text() == content


async def test_chunks_out_of_order_break_the_stream_and_start_nothing(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    whole = started(tool_step("noop", "{}"))
    chunk = pb.FrameChunk(index=1, data=whole.SerializeToString(), last=True)
    talk.send(pb.OrchestratorFrame(step_id=whole.step_id, epoch=1, dispatch_number=1, chunk=chunk))
    assert await talk.end() == grpc.StatusCode.INVALID_ARGUMENT
    assert executor.parts.ledger.free_slots == 8


@pytest.mark.parametrize(("steps", "parts"), [(1, 84), (257, 1)], ids=["one too large", "too many"])
async def test_unfinished_frames_are_bounded(executor: RunningExecutor, steps: int, parts: int) -> None:
    talk = await executor.talk()
    data = b"x" * (200_000 if steps == 1 else 1)
    for step_id in [new_id() for _ in range(steps)]:
        for index in range(parts):
            chunk = pb.FrameChunk(index=index, data=data)
            talk.send(pb.OrchestratorFrame(step_id=step_id, epoch=1, dispatch_number=1, chunk=chunk))
    assert await talk.end() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_reply_that_no_frame_could_carry_is_a_failure(
    executor: RunningExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.performer.REPLY_LIMIT", 599_999)
    talk = await executor.talk()
    frame = started(model_step("large"))
    talk.send(frame)
    failed = (await talk.outcome_of(frame.step_id)).failed
    assert (failed.reason, failed.disposition) == ("MODEL_OUTPUT_INVALID", failure_pb2.DISPOSITION_HUMAN_REQUIRED)


async def test_a_frame_without_a_step_breaks_the_stream(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    talk.send(pb.OrchestratorFrame(epoch=1, dispatch_number=1, recorded=pb.Recorded()))
    assert await talk.end() == grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_offered_is_refused(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    unknown_model = model_step("x")
    unknown_model.model.model = "nobody:model"
    for step in (tool_step("no_such_tool", "{}"), tool_step("read_file", "{}", root_id="other"), unknown_model):
        assert await refusal(talk, started(step)) == "NOT_OFFERED"


async def test_a_start_for_another_instance_is_refused(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    assert await refusal(talk, started(tool_step("noop", "{}", target=new_id()))) == "OTHER_INSTANCE"


def preimage(**named: str) -> str:
    return "\n".join(f"{key}: {value}" for key, value in named.items())


async def test_only_what_was_approved_is_started(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = new_id()
    digest = BUILT_IN["write_file"].schema_digest
    arguments = '{"path": "a.txt", "content": "approved"}'
    approved = {
        "kind": "tool_call",
        "step": step_id,
        "tool": "write_file",
        "schema_digest": digest,
        "arguments_sha256": hashlib.sha256(arguments.encode()).hexdigest(),
    }
    wrong = [
        approved | {"step": new_id()},
        approved | {"tool": "run_command"},
        approved | {"arguments_sha256": hashlib.sha256(b"{}").hexdigest()},
        approved | {"schema_digest": "0" * 64},
        {key: value for key, value in approved.items() if key != "arguments_sha256"},
    ]
    texts = [preimage(**each) for each in wrong]
    texts += [f"{preimage(**approved)}\nstep: {step_id}", f"{preimage(**approved)}\nnonsense"]
    for text in texts:
        step = tool_step(
            "write_file", arguments, root_id=executor.root_id, approval_preimage=text, schema_digest=digest
        )
        assert await refusal(talk, started(step, step_id)) == "WRONG_DIGEST"
    other_schema = tool_step("write_file", arguments, root_id=executor.root_id, schema_digest="0" * 64)
    assert await refusal(talk, started(other_schema)) == "WRONG_DIGEST"
    assert not executor.path("a.txt").exists()

    step = tool_step(
        "write_file",
        arguments,
        root_id=executor.root_id,
        approval_preimage=preimage(**approved),
        schema_digest=digest,
    )
    talk.send(started(step, step_id))
    await talk.outcome_of(step_id)
    assert executor.path("a.txt").read_text() == "approved"


async def test_slots_are_bounded_and_outcomes_count(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frames = [started(tool_step("noop", "{}")) for _ in range(8)]
    talk.send(*frames)
    await talk.capacity(0)
    over = started(tool_step("noop", "{}"))
    assert await refusal(talk, over) == "NO_SLOT"
    talk.send(recorded(frames[0].step_id))
    await talk.capacity(1)
    talk.send(over)
    await talk.outcome_of(over.step_id)


async def test_a_deadline_in_the_past_starts_nothing(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    for step in (executor.command("touch started", seconds=-1), tool_step("noop", "{}", seconds=-1)):
        frame = started(step)
        talk.send(frame)
        failed = (await talk.outcome_of(frame.step_id)).failed
        assert (failed.reason, failed.effect_possible) == ("DEADLINE_EXCEEDED", False)
    assert not executor.path("started").exists()


async def test_a_deadline_ends_a_model_and_a_command(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    model, command = started(model_step("hangs", seconds=0.2)), started(executor.command("sleep 60", seconds=0.2))
    talk.send(model, command)
    failed = (await talk.outcome_of(model.step_id)).failed
    assert (failed.reason, failed.effect_possible) == ("DEADLINE_EXCEEDED", False)
    failed = (await talk.outcome_of(command.step_id)).failed
    assert (failed.reason, failed.effect_possible) == ("DEADLINE_EXCEEDED", True)


async def test_a_workspace_outside_the_root_fails_the_step(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step = executor.command("touch started")
    step.tool.workspace.directory = "../elsewhere"
    frame = started(step)
    talk.send(frame)
    assert (await talk.outcome_of(frame.step_id)).failed.reason == "WORKSPACE_NOT_ALLOWED"


async def test_an_unexpected_error_ends_its_step_alone_and_keeps_its_text(
    executor: RunningExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret in an error's text")

    monkeypatch.setattr("executor.tools.tool.parse", broken)
    talk = await executor.talk()
    broken_step, other = started(executor.command("true")), started(model_step("hello"))
    talk.send(broken_step, other)
    failed = (await talk.outcome_of(broken_step.step_id)).failed
    assert (failed.reason, failed.effect_possible) == ("INTERNAL", True)
    assert "secret" not in failed.message
    assert (await talk.outcome_of(other.step_id)).HasField("finished")


async def test_several_orchestrators_are_served_at_once(executor: RunningExecutor) -> None:
    talks = [await executor.talk() for _ in range(3)]
    frames = [started(model_step("hello")) for _ in talks]
    for talk, frame in zip(talks, frames, strict=True):
        talk.send(frame)
    for talk, frame in zip(talks, frames, strict=True):
        await talk.outcome_of(frame.step_id)
        others = {each.step_id for each in talk.frames} - {frame.step_id, ""}
        assert not others


async def test_draining_refuses_starts_and_lets_steps_end(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    gate = executor.path("go")
    frame = started(executor.command("until [ -e go ]; do sleep 0.01; done; echo done"))
    talk.send(frame)
    await talk.next_of(frame.step_id, "accepted")
    draining = asyncio.create_task(executor.parts.executor.drain(20))
    await talk.next_of("", "draining")
    assert await refusal(talk, started(tool_step("noop", "{}"))) == "DRAINING"
    gate.parent.mkdir(exist_ok=True)
    gate.touch()
    assert (await talk.outcome_of(frame.step_id)).finished.tool.content == "done\n"
    assert not draining.done()
    talk.send(recorded(frame.step_id))
    await asyncio.wait_for(draining, 10)


async def test_draining_ends_what_takes_too_long(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(executor.command("sleep 60"))
    talk.send(frame)
    await talk.next_of(frame.step_id, "accepted")
    await executor.parts.executor.drain(0.1)
    failed = (await talk.outcome_of(frame.step_id)).failed
    assert (failed.reason, failed.effect_possible) == ("SHUTTING_DOWN", True)
    assert failed.disposition == failure_pb2.DISPOSITION_RETRYABLE


async def test_files_are_read_in_chunks_with_their_hash(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    content = bytes(range(256)) * 4000
    executor.path("").mkdir()
    executor.path("artifact.bin").write_bytes(content)
    executor.path("empty").touch()

    async def read(path: str, offset: int = 0, length: int = 0) -> tuple[bytes, pb.ArtifactChunk]:
        step_id = new_id()
        workspace = step_pb2.StepWorkspace(root_id=executor.root_id, directory="session")
        asked = pb.ReadArtifact(workspace=workspace, path=path, offset=offset, length=length)
        talk.send(pb.OrchestratorFrame(step_id=step_id, epoch=1, dispatch_number=1, read_artifact=asked))
        data = b""
        while True:
            chunk = (await talk.next_of(step_id)).artifact_chunk
            assert chunk.offset == offset + len(data) or chunk.error
            data += chunk.data
            if chunk.last:
                return data, chunk

    data, last = await read("artifact.bin")
    assert data == content
    assert (last.size_bytes, last.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    data, last = await read("artifact.bin", 100, 1000)
    assert data == content[100:1100]
    assert last.sha256 == hashlib.sha256(data).hexdigest()
    assert (await read("empty"))[0] == b""
    assert (await read("artifact.bin", len(content) + 5))[0] == b""
    for path in ("gone", "../x", "/etc/passwd"):
        assert (await read(path))[1].error


async def test_executors_on_one_volume_announce_the_same_root(executor: RunningExecutor) -> None:
    async with running_executor(executor.root.parent) as second:
        assert second.root_id == executor.root_id
        talks = [await executor.talk(), await second.talk()]
        assert talks[0].hello.instance_id != talks[1].hello.instance_id
