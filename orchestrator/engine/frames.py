"""Between the engine's words and the executor's frames. Nothing is decided or sent here."""

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration

from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.executor.v1.executor_service_pb2 import DescribeResponse
from gen.assent.v1 import attempt_pb2, delta_pb2, failure_pb2, tool_call_pb2, tool_pb2
from orchestrator.domain.catalog import Agent, Tool
from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Failure, ModelReply, Step, ToolCall, ToolResult, Usage, Workspace
from orchestrator.domain.transcript import ModelCall
from orchestrator.streaming.feed import Delta


def start_frame(
    step: Step, epoch: int, call: step_pb2.ModelCall | step_pb2.ToolExecution
) -> frames_pb2.OrchestratorFrame:
    """A start without the deadline, which is set when it is sent and the executor's clock is known."""
    start = step_pb2.StartStep(
        target_instance_id=step.executor_instance,
        session_id=step.session_id,
        run_id=step.run_id,
        agent=step.agent,
    )
    if isinstance(call, step_pb2.ModelCall):
        start.model.CopyFrom(call)
    else:
        start.tool.CopyFrom(call)
    return frames_pb2.OrchestratorFrame(step_id=step.id, epoch=epoch, dispatch_number=step.dispatch_number, start=start)


def model_call(call: ModelCall) -> step_pb2.ModelCall:
    return step_pb2.ModelCall(
        model=call.model,
        agent=call.agent,
        turn=call.turn,
        purpose=attempt_pb2.AttemptPurpose.Value(f"ATTEMPT_PURPOSE_{call.purpose}"),
        messages=[
            step_pb2.ModelMessage(
                role=step_pb2.ModelRole.Value(f"MODEL_ROLE_{m.role}"),
                text=m.text,
                tool_calls=[_call(c) for c in m.tool_calls],
                call_id=m.call_id,
                is_error=m.is_error,
            )
            for m in call.messages
        ],
        tools=[
            step_pb2.ToolDefinition(name=t.name, description=t.description, input_schema_json=t.input_schema_json)
            for t in call.tools
        ],
        output_schema_json=call.output_schema_json,
        settings=step_pb2.ModelSettings(max_output_tokens=call.max_output_tokens),
    )


def tool_execution(step: Step, agent: Agent | None, workspace: Workspace) -> step_pb2.ToolExecution:
    return step_pb2.ToolExecution(
        tool=step.tool,
        arguments_json=step.arguments_json,
        approval_preimage=step.approval_preimage,
        schema_digest=step.schema_digest,
        workspace=step_pb2.StepWorkspace(root_id=workspace.root_id, directory=workspace.directory),
        idempotency_key=step.id,
        file_limits=step_pb2.FileLimits(write_globs=agent.write_globs if agent else ()),
    )


def reattach_frame(step: Step, epoch: int) -> frames_pb2.OrchestratorFrame:
    return frames_pb2.OrchestratorFrame(
        step_id=step.id,
        epoch=epoch,
        dispatch_number=step.dispatch_number,
        reattach=frames_pb2.Reattach(target_instance_id=step.executor_instance),
    )


def recorded_frame(step_id: str, epoch: int, number: int) -> frames_pb2.OrchestratorFrame:
    return frames_pb2.OrchestratorFrame(
        step_id=step_id, epoch=epoch, dispatch_number=number, recorded=frames_pb2.Recorded()
    )


def cancel_frame(step_id: str, epoch: int, number: int) -> frames_pb2.OrchestratorFrame:
    return frames_pb2.OrchestratorFrame(
        step_id=step_id, epoch=epoch, dispatch_number=number, cancel=frames_pb2.CancelStep()
    )


def outcome_of(frame: frames_pb2.ExecutorFrame) -> Outcome | None:
    """What a frame says became of its dispatch; None for frames that say nothing of the kind."""
    match frame.WhichOneof("frame"):
        case "finished":
            return _finished(frame)
        case "failed":
            return _failed(frame)
        case "refused":
            if frame.refused.reason == frames_pb2.REFUSAL_REASON_WRONG_DIGEST:
                failure = Failure("DIGEST_MISMATCH", frame.refused.message, "HUMAN_REQUIRED")
                return Outcome(frame.step_id, frame.dispatch_number, "FAILED", failure=failure)
            failure = Failure(refusal_word(frame), frame.refused.message, "RETRYABLE")
            return Outcome(frame.step_id, frame.dispatch_number, "REFUSED", failure=failure)
        case "unknown":
            return Outcome(frame.step_id, frame.dispatch_number, "UNKNOWN")
    return None


def refusal_word(frame: frames_pb2.ExecutorFrame) -> str:
    return _word(frames_pb2.RefusalReason.DESCRIPTOR, frame.refused.reason, "REFUSAL_REASON_")


def _finished(frame: frames_pb2.ExecutorFrame) -> Outcome:
    finished = frame.finished
    if finished.WhichOneof("result") == "tool":
        tool = finished.tool
        return Outcome(
            frame.step_id,
            frame.dispatch_number,
            "SUCCEEDED",
            result=ToolResult(tool.content, tool.structured_json, tool.is_error),
            latency=_micros(finished.latency),
        )
    model = finished.model
    return Outcome(
        frame.step_id,
        frame.dispatch_number,
        "SUCCEEDED",
        reply=ModelReply(
            model.text,
            model.reasoning,
            [ToolCall(c.call_id, c.tool, c.arguments_json) for c in model.tool_calls],
            model.finish_reason,
        ),
        model=model.model,
        usage=_usage(model.usage, model.cost_usd_micros, model.priced),
        latency=_micros(finished.latency),
        provider_request_id=model.provider_request_id,
    )


def _failed(frame: frames_pb2.ExecutorFrame) -> Outcome:
    failed = frame.failed
    disposition = _word(failure_pb2.Disposition.DESCRIPTOR, failed.disposition, "DISPOSITION_")
    spent = failed.HasField("usage")
    return Outcome(
        frame.step_id,
        frame.dispatch_number,
        "FAILED",
        failure=Failure(failed.reason, failed.message, disposition),
        effect_possible=failed.effect_possible,
        retry_after=_micros(failed.retry_after),
        usage=_usage(failed.usage, failed.cost_usd_micros, failed.priced) if spent else Usage(),
        latency=_micros(failed.latency),
        provider_request_id=failed.provider_request_id,
    )


def delta_of(frame: frames_pb2.ExecutorFrame, step: Step) -> Delta:
    return Delta(
        step.run_id,
        step.subtask_id,
        step.attempt_id,
        step.id,
        frame.dispatch_number,
        _word(delta_pb2.DeltaKind.DESCRIPTOR, frame.delta.kind, "DELTA_KIND_"),
        frame.delta.text,
        frame.delta.tool,
        frame.delta.call_id,
    )


def tools_of(described: DescribeResponse) -> list[Tool]:
    return [
        Tool(
            t.name,
            t.description,
            t.input_schema_json,
            t.schema_digest,
            _word(tool_pb2.SideEffect.DESCRIPTOR, t.side_effect, "SIDE_EFFECT_"),
            t.source,
        )
        for t in described.tools
    ]


def _word(enum: EnumDescriptor, number: int, prefix: str) -> str:
    """The domain's word; what a newer executor says and this version does not know is as good as unsaid."""
    value = enum.values_by_number.get(number)
    return "UNSPECIFIED" if value is None else value.name.removeprefix(prefix)


def _call(call: ToolCall) -> tool_call_pb2.ToolCall:
    return tool_call_pb2.ToolCall(call_id=call.call_id, tool=call.tool, arguments_json=call.arguments_json)


def _usage(usage: step_pb2.TokenUsage, cost_usd_micros: int, priced: bool) -> Usage:
    return Usage(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd_micros=cost_usd_micros,
        unpriced_calls=0 if priced else 1,
    )


def _micros(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1000
