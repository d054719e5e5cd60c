"""Models of real providers, through pydantic_ai's direct interface: one streamed request and no more.

The provider's own retries are off, for only the engine retries. Which errors mean what is in faults.py, what
a call cost in prices.py; what a conversation looks like to the library is in conversation.py.
"""

import json
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

from pydantic_ai import models
from pydantic_ai.direct import model_request_stream
from pydantic_ai.exceptions import AgentRunError, UserError
from pydantic_ai.messages import (
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
)
from pydantic_ai.models import StreamedResponse
from pydantic_ai.settings import ModelSettings

from executor.errors import StepFailed
from executor.models import conversation
from executor.models.faults import step_failure
from executor.models.model import Delta, FinishReason, ModelRequest, Reply, Usage
from executor.models.model import ToolCallPart as Call
from executor.models.prices import price
from executor.text import clean

_FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "tool_call": "tool_calls",
    "length": "length",
    "content_filter": "content_filter",
}
# The library's "openai:" speaks the Responses API, which OpenAI-compatible servers mostly do not.
_CLASSES = {"openai": "openai-chat"}
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n```", re.DOTALL)
_OLLAMA_URL = "http://127.0.0.1:11434/v1"


class ProviderModel:
    """The model that a name such as `openai:gpt-5-mini` or `ollama:qwen3` says; StepFailed if there is none.

    Keys and base URLs come from the provider's usual environment variables.
    """

    def __init__(self, name: str) -> None:
        try:
            self._model = _model(name)
        except (UserError, ImportError, ValueError) as error:
            # What the library says first is what is wrong; it goes on with advice about itself.
            what = clean(str(error)).splitlines()[0].partition(". ")[0]
            raise StepFailed("MODEL_NOT_FOUND", f"{name}: {what}", "HUMAN_REQUIRED") from error

    async def answer(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Ask once, passing on what arrives as it arrives."""
        knows_schemas = bool(self._model.profile.get("supports_json_schema_output", False))
        opening = model_request_stream(
            self._model,
            conversation.messages(request.messages),
            model_settings=_settings(request),
            model_request_parameters=conversation.parameters(request, knows_schemas=knows_schemas),
            instrument=False,
        )
        try:
            async with opening as stream:
                async with aclosing(_deltas(stream)) as deltas:
                    async for delta in deltas:
                        yield delta
                yield _reply(stream, request)
        except (AgentRunError, UserError) as error:
            raise step_failure(error, request.model) from error


def _model(name: str) -> models.Model:
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise ValueError("a model is named PROVIDER:MODEL, for example openai:gpt-5-mini")
    if provider == "ollama":
        return _ollama(model)
    return models.infer_model(f"{_CLASSES.get(provider, provider)}:{model}")


def _ollama(model: str) -> models.Model:
    """Ollama without any setting is the one on this machine."""
    from pydantic_ai.models.ollama import OllamaModel
    from pydantic_ai.providers.ollama import OllamaProvider

    return OllamaModel(model, provider=OllamaProvider(base_url=os.environ.get("OLLAMA_BASE_URL") or _OLLAMA_URL))


def _settings(request: ModelRequest) -> ModelSettings:
    values: dict[str, Any] = {
        "max_retries": 0,
        "temperature": request.temperature,
        "max_tokens": request.max_output_tokens,
        "timeout": request.timeout_seconds,
        "request_timeout": request.timeout_seconds,
    }
    return cast(ModelSettings, {name: value for name, value in values.items() if value is not None})


async def _deltas(stream: StreamedResponse) -> AsyncGenerator[Delta, None]:
    calls: dict[int, ToolCallPart] = {}
    async for event in stream:
        if isinstance(event, PartStartEvent) and isinstance(event.part, ToolCallPart):
            calls[event.index] = event.part
        delta = _delta(event, calls)
        if delta is not None and delta.text:
            yield delta


def _delta(event: ModelResponseStreamEvent, calls: dict[int, ToolCallPart]) -> Delta | None:
    # A part's first content is in its start event.
    match event:
        case PartStartEvent(part=TextPart(content=text)):
            return Delta("TEXT", clean(text))
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
            return Delta("TEXT", clean(text))
        case PartStartEvent(part=ThinkingPart(content=text)):
            return Delta("REASONING", clean(text))
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text))):
            return Delta("REASONING", clean(text))
        case PartStartEvent(part=ToolCallPart(args=str(text)) as call):
            return Delta("TOOL_ARGUMENTS", clean(text), call.tool_call_id, call.tool_name)
        case PartDeltaEvent(index=index, delta=ToolCallPartDelta(args_delta=str(text))) if index in calls:
            call = calls[index]
            return Delta("TOOL_ARGUMENTS", clean(text), call.tool_call_id, call.tool_name)
        case _:
            return None


def _reply(stream: StreamedResponse, request: ModelRequest) -> Reply:
    response = stream.get()
    finish = _FINISH_REASONS.get(response.finish_reason)
    # A connection that closes cleanly in the middle looks like the end of a reply, and the library then makes a
    # finish reason up: only the provider's own word counts.
    if finish is None or (finish != "content_filter" and not (response.provider_details or {}).get("finish_reason")):
        raise StepFailed("MODEL_TRUNCATED", "the reply ended without a finish reason", "RETRYABLE")
    calls = tuple(_call(part) for part in response.parts if isinstance(part, ToolCallPart))
    text = clean("".join(part.content for part in response.parts if isinstance(part, TextPart)))
    if request.output_schema_json:
        text = _without_fence(text)
    _check(text, calls, finish, request)
    cost, is_priced = price(response)
    return Reply(
        text=text,
        reasoning=clean("".join(part.content for part in response.parts if isinstance(part, ThinkingPart))),
        tool_calls=calls,
        finish_reason="tool_calls" if calls and finish == "stop" else finish,
        usage=_usage(response),
        cost_usd_micros=cost,
        is_priced=is_priced,
        provider_request_id=response.provider_response_id or "",
        model=response.model_name or request.model,
    )


def _without_fence(text: str) -> str:
    """JSON that was only asked for, and not enforced, often comes in a Markdown fence."""
    fenced = _FENCE.fullmatch(text.strip())
    return fenced[1] if fenced else text


def _call(part: ToolCallPart) -> Call:
    # Some providers send arguments as an object: then there is no text of theirs to keep.
    text = part.args if isinstance(part.args, str) else json.dumps(part.args or {}, ensure_ascii=False)
    return Call(part.tool_call_id, part.tool_name, clean(text) or "{}")


def _check(text: str, calls: tuple[Call, ...], finish: FinishReason, request: ModelRequest) -> None:
    """Refuse what is cut in the middle, whatever the provider says of it."""
    try:
        for call in calls:
            json.loads(call.arguments_json)
        if request.output_schema_json and not calls and finish == "stop":
            json.loads(text)
    except ValueError as error:
        if finish == "length":
            raise StepFailed("MODEL_TRUNCATED", "the reply reached its limit of tokens", "RETRYABLE") from error
        raise StepFailed("MODEL_OUTPUT_INVALID", f"the reply's JSON is broken: {error}", "RETRYABLE") from error


def _usage(response: ModelResponse) -> Usage:
    usage = response.usage
    return Usage(
        input_tokens=int(usage.input_tokens or 0),
        cached_input_tokens=int(usage.cache_read_tokens or 0),
        output_tokens=int(usage.output_tokens or 0),
        reasoning_tokens=int(usage.output_reasoning_tokens or usage.details.get("reasoning_tokens", 0)),
    )
