"""Plain values from and to the frames of the contract, one function a direction. Nothing is decided here."""

import time
from typing import assert_never

from google.protobuf.duration_pb2 import Duration

from executor.models.model import Delta, DeltaKind, Message, ModelRequest, Reply, Role, ToolCallPart, ToolOffer, Usage
from executor.steps import (
    Accepted,
    Failed,
    Finished,
    Progress,
    Ref,
    Refused,
    Running,
    Said,
    Start,
    ToolWork,
    Unknown,
)
from executor.tools.tool import SideEffect, Tool, ToolResult
from gen.assent.executor.v1 import executor_service_pb2 as service_pb
from gen.assent.executor.v1 import frames_pb2 as pb
from gen.assent.executor.v1 import step_pb2 as step_pb
from gen.assent.v1 import attempt_pb2, delta_pb2, failure_pb2, tool_call_pb2, tool_pb2

_ROLES: dict[int, Role] = {
    step_pb.MODEL_ROLE_SYSTEM: "SYSTEM",
    step_pb.MODEL_ROLE_USER: "USER",
    step_pb.MODEL_ROLE_ASSISTANT: "ASSISTANT",
    step_pb.MODEL_ROLE_TOOL: "TOOL",
}
_PURPOSES: dict[int, str] = {
    number: name.removeprefix("ATTEMPT_PURPOSE_") if number else ""
    for name, number in attempt_pb2.AttemptPurpose.items()
}
_DELTA_KINDS: dict[DeltaKind, delta_pb2.DeltaKind.ValueType] = {
    "TEXT": delta_pb2.DELTA_KIND_TEXT,
    "REASONING": delta_pb2.DELTA_KIND_REASONING,
    "TOOL_ARGUMENTS": delta_pb2.DELTA_KIND_TOOL_ARGUMENTS,
}
_SIDE_EFFECTS = {
    SideEffect.READ_ONLY: tool_pb2.SIDE_EFFECT_READ_ONLY,
    SideEffect.IDEMPOTENT: tool_pb2.SIDE_EFFECT_IDEMPOTENT,
    SideEffect.NON_IDEMPOTENT: tool_pb2.SIDE_EFFECT_NON_IDEMPOTENT,
}


def start(ref: Ref, message: step_pb.StartStep) -> Start:
    """The step that a start asks for."""
    work = _tool_work(message.tool) if message.HasField("tool") else _model_request(message, ref)
    return Start(
        ref,
        message.target_instance_id,
        message.session_id,
        message.run_id,
        message.traceparent,
        message.deadline_nanos,
        work,
    )


def frame(ref: Ref, said: Said) -> pb.ExecutorFrame:
    """The frame that says it."""
    result = pb.ExecutorFrame(step_id=ref.step_id, epoch=ref.epoch, dispatch_number=ref.dispatch)
    match said:
        case Accepted():
            result.accepted.SetInParent()
        case Finished():
            result.finished.CopyFrom(_finished(said))
        case Delta():
            kind = _DELTA_KINDS[said.kind]
            result.delta.CopyFrom(pb.Delta(kind=kind, text=said.text, call_id=said.call_id, tool=said.tool))
        case Progress():
            result.progress.message = said.message
        case Failed():
            result.failed.CopyFrom(_failed(said))
        case Running():
            result.running.SetInParent()
        case Unknown():
            result.unknown.SetInParent()
        case Refused():
            reason = pb.RefusalReason.Value(f"REFUSAL_REASON_{said.reason}")
            result.refused.CopyFrom(pb.Refused(reason=reason, message=said.message))
        case _:
            assert_never(said)
    return result


def offered(tool: Tool) -> service_pb.OfferedTool:
    """A tool as Describe tells of it."""
    return service_pb.OfferedTool(
        name=tool.name,
        description=tool.description,
        input_schema_json=tool.schema_json,
        schema_digest=tool.schema_digest,
        source="builtin",
        side_effect=_SIDE_EFFECTS[tool.side_effect],
        needs_workspace=tool.instant is None,
    )


def _tool_work(message: step_pb.ToolExecution) -> ToolWork:
    has_limits = message.HasField("file_limits")
    return ToolWork(
        message.tool,
        message.arguments_json,
        message.approval_preimage,
        message.schema_digest,
        message.workspace.root_id,
        message.workspace.directory,
        tuple(message.file_limits.write_globs) if has_limits else (),
    )


def _model_request(start: step_pb.StartStep, ref: Ref) -> ModelRequest:
    message = start.model
    settings = message.settings
    return ModelRequest(
        model=message.model,
        messages=[_message(each) for each in message.messages],
        agent=message.agent,
        purpose=_PURPOSES.get(message.purpose, ""),
        turn=message.turn,
        tries=max(0, ref.dispatch - 1),
        tools=[ToolOffer(tool.name, tool.description, tool.input_schema_json) for tool in message.tools],
        output_schema_json=message.output_schema_json,
        temperature=settings.temperature if settings.HasField("temperature") else None,
        max_output_tokens=settings.max_output_tokens or None,
        timeout_seconds=_seconds_until(start.deadline_nanos),
    )


def _seconds_until(deadline_nanos: int) -> float | None:
    return max(0.001, (deadline_nanos - time.monotonic_ns()) / 1e9) if deadline_nanos else None


def _message(message: step_pb.ModelMessage) -> Message:
    return Message(
        _ROLES[message.role],
        message.text,
        tuple(ToolCallPart(call.call_id, call.tool, call.arguments_json) for call in message.tool_calls),
        message.call_id,
        message.tool,
        message.is_error,
    )


def _finished(said: Finished) -> step_pb.Finished:
    latency = _duration(said.latency_nanos)
    if isinstance(said.result, Reply):
        return step_pb.Finished(model=_model_result(said.result), latency=latency)
    return step_pb.Finished(tool=_tool_result(said.result), latency=latency)


def _model_result(reply: Reply) -> step_pb.ModelResult:
    return step_pb.ModelResult(
        text=reply.text,
        reasoning=reply.reasoning,
        tool_calls=[
            tool_call_pb2.ToolCall(call_id=call.call_id, tool=call.tool, arguments_json=call.arguments_json)
            for call in reply.tool_calls
        ],
        finish_reason=reply.finish_reason,
        usage=_usage(reply.usage),
        cost_usd_micros=reply.cost_usd_micros,
        priced=reply.is_priced,
        provider_request_id=reply.provider_request_id,
        model=reply.model,
    )


def _tool_result(result: ToolResult) -> tool_call_pb2.ToolResult:
    return tool_call_pb2.ToolResult(
        content=result.content, structured_json=result.structured_json, is_error=result.is_error
    )


def _failed(said: Failed) -> step_pb.Failed:
    return step_pb.Failed(
        reason=said.reason,
        message=said.message,
        disposition=failure_pb2.Disposition.Value(f"DISPOSITION_{said.disposition}"),
        retry_after=None if said.retry_after is None else _duration(round(said.retry_after * 1e9)),
        usage=None if said.usage is None else _usage(said.usage),
        latency=_duration(said.latency_nanos),
        effect_possible=said.effect_possible,
    )


def _usage(usage: Usage) -> step_pb.TokenUsage:
    return step_pb.TokenUsage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _duration(nanos: int) -> Duration:
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
