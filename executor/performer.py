"""Does the work of one step: asks the model or calls the tool, within its deadline, whatever goes wrong in it.

This is the per-step runner: an unexpected exception ends here, as that step's failure. What is held, refused or
told to whom is the ledger's part.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import structlog

from executor import genai
from executor.approval import mismatch
from executor.errors import StepFailed
from executor.metrics import STEP_DURATION, STEPS, count_reply
from executor.models.model import ModelRequest, Reply
from executor.models.roster import Roster
from executor.steps import Failed, Finished, Outcome, Progress, Refused, Start, Tell, ToolWork
from executor.tools.tool import SideEffect, Tool, ToolCall, ToolResult
from executor.tools.workspace import PathRefused, Workspace
from rpc import logs, tracing

DEFAULT_LIMIT_NANOS = 600 * 10**9
REPLY_LIMIT = 2_000_000  # characters: as UTF-8 less than what one frame of the stream may have

_log = structlog.get_logger("executor")

_FINISHED = {kind: STEPS.labels(kind, "finished") for kind in ("model", "tool")}
_DURATION = {kind: STEP_DURATION.labels(kind) for kind in ("model", "tool")}


class Performer:
    """Performs steps with the models, tools and workspace roots of this executor."""

    def __init__(self, roster: Roster, tools: Mapping[str, Tool], roots: Mapping[str, Path]) -> None:
        self.roster = roster
        self.tools = tools
        self.roots = roots

    def refusal(self, start: Start) -> Refused | None:
        """Why this step cannot be done here: something is not offered, or is not what was approved."""
        work = start.work
        if isinstance(work, ModelRequest):
            if self.roster.offers(work.model):
                return None
            return Refused("NOT_OFFERED", f"there is no model {work.model} here")
        tool = self.tools.get(work.tool)
        if tool is None:
            return Refused("NOT_OFFERED", f"there is no tool {work.tool} here")
        if work.root_id and work.root_id not in self.roots:
            return Refused("NOT_OFFERED", f"there is no workspace root {work.root_id} here")
        if work.schema_digest and work.schema_digest != tool.schema_digest:
            return Refused("WRONG_DIGEST", f"the schema of {work.tool} has changed since the call was judged")
        if work.approval_preimage:
            other = mismatch(
                work.approval_preimage, start.ref.step_id, work.tool, work.schema_digest, work.arguments_json
            )
            if other:
                return Refused("WRONG_DIGEST", f"what was approved differs from this call in: {other}")
        return None

    def instantly(self, start: Start) -> Outcome | None:
        """The outcome of a tool that answers at once."""
        work = start.work
        if isinstance(work, ModelRequest):
            return None
        tool = self.tools[work.tool]
        if tool.instant is None:
            return None
        began = time.monotonic_ns()
        if 0 < start.deadline_nanos <= began:
            return _deadline_passed(effect_possible=False)
        result = tool.perform_instantly(ToolCall(work.arguments_json))
        latency = time.monotonic_ns() - began
        _FINISHED["tool"].inc()
        return Finished(result, latency)

    async def perform(self, start: Start, tell: Tell) -> Outcome:
        """Do the work to its end, its deadline, or until it is cancelled; the ledger waits for all three.

        In a task of its own: what is logged from here on names the step and its trace.
        """
        began = time.monotonic_ns()
        tracing.follow(start.traceparent)
        logs.bind(session_id=start.session_id, run_id=start.run_id, step_id=start.ref.step_id)
        outcome = await self._outcome(start, tell, began)
        latency = time.monotonic_ns() - began
        kind = "model" if isinstance(start.work, ModelRequest) else "tool"
        _DURATION[kind].observe(latency / 1e9)
        if isinstance(outcome, Failed):
            STEPS.labels(kind, outcome.reason.lower()).inc()
            _log.info("step_failed", reason=outcome.reason, disposition=outcome.disposition)
            return replace(outcome, latency_nanos=latency)
        _FINISHED[kind].inc()
        return Finished(outcome.result, latency)

    async def _outcome(self, start: Start, tell: Tell, began: int) -> Outcome:
        deadline = start.deadline_nanos or began + DEFAULT_LIMIT_NANOS
        if deadline <= began:
            return _deadline_passed(effect_possible=False)
        effect_possible = self._changes_something(start)
        limit = asyncio.timeout_at(deadline / 1e9)
        try:
            async with limit:
                return Finished(await self._result(start, tell), 0)
        except asyncio.CancelledError:
            # The ledger cancelled, and waits for this: its answer to who asked is what became of the step.
            return Failed("CANCELLED", "the step was cancelled", "FATAL", effect_possible=effect_possible)
        except StepFailed as error:
            return Failed(error.reason, error.message, error.disposition, error.retry_after)
        except Exception as error:  # noqa: BLE001 - the per-step runner: one step's defect must not end the others
            if limit.expired():
                return _deadline_passed(effect_possible)
            return _unexpected(error, effect_possible)

    def _changes_something(self, start: Start) -> bool:
        work = start.work
        return isinstance(work, ToolWork) and self.tools[work.tool].side_effect is not SideEffect.READ_ONLY

    async def _result(self, start: Start, tell: Tell) -> Reply | ToolResult:
        work = start.work
        if isinstance(work, ModelRequest):
            return await self._ask(work, start, tell)
        with tracing.span(
            f"execute_tool {work.tool}", traceparent=start.traceparent, attributes=genai.of_tool(work.tool)
        ):
            call = ToolCall(
                work.arguments_json,
                self._workspace(work),
                work.write_globs,
                progress=lambda text: tell(Progress(text)),
            )
            return await self.tools[work.tool].perform(call)

    async def _ask(self, request: ModelRequest, start: Start, tell: Tell) -> Reply:
        request = replace(request, model=self.roster.full_name(request.model))
        attributes = genai.of_request(request)
        with tracing.span(f"chat {request.model}", traceparent=start.traceparent, attributes=attributes) as span:
            model = await self.roster.get(request.model)
            reply: Reply | None = None
            async with aclosing(model.answer(request)) as answer:
                async for part in answer:
                    if isinstance(part, Reply):
                        reply = part
                    else:
                        tell(part)
            assert reply is not None, "a model ends with its reply"
            _refuse_too_much(reply)
            span.set_attributes(genai.of_reply(reply))
        count_reply(request.model, reply)
        return reply

    def _workspace(self, work: ToolWork) -> Workspace | None:
        if not work.directory:
            return None
        try:
            root_id = work.root_id or next(iter(self.roots))
            return Workspace(self.roots[root_id], work.directory)
        except PathRefused as error:
            raise StepFailed("WORKSPACE_NOT_ALLOWED", str(error), "FATAL") from error


def _refuse_too_much(reply: Reply) -> None:
    size = len(reply.text) + len(reply.reasoning) + sum(len(call.arguments_json) for call in reply.tool_calls)
    if size > REPLY_LIMIT:
        words = f"the reply has {size} characters; {REPLY_LIMIT} are allowed"
        raise StepFailed("MODEL_OUTPUT_INVALID", words, "HUMAN_REQUIRED")


def _deadline_passed(effect_possible: bool) -> Failed:
    message = "the step's deadline passed"
    return Failed("DEADLINE_EXCEEDED", message, "RETRYABLE", effect_possible=effect_possible)


def _unexpected(error: Exception, effect_possible: bool) -> Failed:
    # The text of an unknown exception stays here: it may name what an orchestrator's caller must not see.
    _log.error("step_broke", exc_info=error)
    message = f"an internal error ({type(error).__name__}); the executor's log has it"
    return Failed("INTERNAL", message, "FATAL", effect_possible=effect_possible)
