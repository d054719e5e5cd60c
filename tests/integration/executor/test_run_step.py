"""One step a call, and what the executor says it offers."""

import hashlib

import grpc
import pytest

from gen.assent.executor.v1 import executor_service_pb2 as service_pb
from gen.assent.executor.v1 import frames_pb2 as pb
from gen.assent.v1 import tool_pb2
from rpc.problem import Problem
from tests.integration.executor.talk import RunningExecutor, kinds, model_step, started, tool_step
from tests.unit.executor.test_command import until_dead


async def run(executor: RunningExecutor, request: service_pb.RunStepRequest) -> list[pb.ExecutorFrame]:
    call = executor.stub.RunStep(request)
    return [frame async for response in call for frame in response.frames]


async def test_a_step_runs_with_nothing_but_its_content(executor: RunningExecutor) -> None:
    step = tool_step("noop", '{"a": 1}')
    step.deadline_nanos = 0
    frames = await run(executor, service_pb.RunStepRequest(start=step))
    assert kinds(frames) == ["accepted", "finished"]
    assert frames[1].finished.tool.content == '{"a": 1}'
    assert len(frames[1].step_id) == 36
    assert frames[1].dispatch_number == 1


async def test_nothing_is_kept_of_it(executor: RunningExecutor) -> None:
    await run(executor, service_pb.RunStepRequest(start=model_step("hello")))
    assert executor.parts.ledger.free_slots == 8


async def test_a_refusal_is_a_frame(executor: RunningExecutor) -> None:
    frames = await run(executor, service_pb.RunStepRequest(start=tool_step("nothing", "{}")))
    assert kinds(frames) == ["refused"]


async def test_without_a_free_slot_the_call_is_refused(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    talk.send(*[started(tool_step("noop", "{}")) for _ in range(8)])
    await talk.capacity(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await run(executor, service_pb.RunStepRequest(start=tool_step("noop", "{}")))
    problem = Problem.from_rpc_error(caught.value)
    assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")


async def test_a_request_without_a_step_names_the_field(executor: RunningExecutor) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await run(executor, service_pb.RunStepRequest())
    assert [field.field for field in Problem.from_rpc_error(caught.value).fields] == ["start"]


async def test_a_caller_that_goes_away_cancels_the_step(executor: RunningExecutor) -> None:
    call = executor.stub.RunStep(service_pb.RunStepRequest(start=executor.command("echo $$; sleep 60")))
    pid = 0
    async for response in call:
        for frame in response.frames:
            if frame.HasField("progress"):
                pid = int(frame.progress.message)
        if pid:
            break
    call.cancel()
    assert await until_dead(pid)
    await (await executor.talk()).capacity(8)


async def test_describe_says_what_is_offered(executor: RunningExecutor) -> None:
    described = await executor.stub.Describe(service_pb.DescribeRequest())
    offered = {tool.name: tool for tool in described.tools}
    assert set(offered) == {
        "read_file", "write_file", "list_files", "search_files", "run_command", "noop", "noop_ask",
    }  # fmt: skip
    for tool in described.tools:
        assert tool.schema_digest == hashlib.sha256(tool.input_schema_json.encode()).hexdigest()
        assert tool.description
        assert tool.source == "builtin"
    effects = {name: tool_pb2.SideEffect.Name(tool.side_effect)[12:] for name, tool in offered.items()}
    assert effects == {
        "read_file": "READ_ONLY",
        "list_files": "READ_ONLY",
        "search_files": "READ_ONLY",
        "noop": "READ_ONLY",
        "write_file": "IDEMPOTENT",
        "run_command": "NON_IDEMPOTENT",
        "noop_ask": "NON_IDEMPOTENT",
    }
    assert "scripted:*" in [model.name for model in described.models]
    assert (described.slots, list(described.workspace_root_ids)) == (8, [executor.root_id])


async def test_a_step_of_a_caller_is_no_orchestrators_to_end(executor: RunningExecutor) -> None:
    request = service_pb.RunStepRequest(start=executor.command("echo begun; until [ -e go ]; do sleep 0.01; done"))
    call = executor.stub.RunStep(request)
    frames: list[pb.ExecutorFrame] = []
    async for response in call:
        frames += response.frames
        if "progress" in kinds(frames):
            hello = (await executor.talk()).hello
            assert not hello.held_steps
            executor.path("go").touch()
    assert kinds(frames)[-1] == "finished"
