"""The model that needs no provider: it plays replies from a script, the same ones every time.

Everything it says follows from the request and the script; it keeps nothing between calls.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from executor.errors import StepFailed
from executor.models.model import Delta, ModelRequest, Reply, ToolCallPart, Usage, last_user_text
from executor.models.script import Script, ScriptedReply

PREFIX = "scripted:"

_PLACEHOLDER = re.compile(r"\$\{(user_text|agent|turn)\}")
_QUOTE_LIMIT = 200
_CHARACTERS_PER_TOKEN = 4


class ScriptedModel:
    """Plays one script."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def answer(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Play the entry that fits; a request that none fits is an error in the script."""
        entry = self._script.reply_to(request)
        if entry is None:
            raise StepFailed("MODEL_ERROR", _what_has_no_reply(request), "FATAL")
        if entry.delay:
            await asyncio.sleep(entry.delay)
        if entry.error is not None and entry.error.is_due(request):
            error = entry.error
            raise StepFailed(error.reason, error.message, error.disposition, error.retry_after)
        reply = _reply(entry, request)
        for delta in _deltas(reply, entry.delta_characters):
            yield delta
            if entry.delta_delay:
                await asyncio.sleep(entry.delta_delay)
        yield reply


def _reply(entry: ScriptedReply, request: ModelRequest) -> Reply:
    text = _filled(entry.text, request)
    if entry.output is not None:
        output = _filled_in(entry.output, request)
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    calls = tuple(
        ToolCallPart(f"call_{request.turn}_{number}", call.tool, call.text)
        for number, call in enumerate(entry.tool_calls)
    )
    reasoning = _filled(entry.reasoning, request)
    return Reply(
        text=text,
        reasoning=reasoning,
        tool_calls=calls,
        finish_reason="tool_calls" if calls else "stop",
        usage=_usage(entry, request, len(text) + sum(len(call.arguments_json) for call in calls), len(reasoning)),
        cost_usd_micros=entry.usage.cost_usd_micros,
        is_priced=True,
        provider_request_id=f"scripted-{request.agent}-{request.turn}",
        model=request.model,
    )


def _usage(entry: ScriptedReply, request: ModelRequest, written: int, reasoned: int) -> Usage:
    usage = entry.usage
    read = sum(len(message.text) for message in request.messages)
    return Usage(
        input_tokens=_tokens(read) if usage.input_tokens is None else usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        output_tokens=_tokens(written + reasoned) if usage.output_tokens is None else usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens or _tokens(reasoned),
    )


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _deltas(reply: Reply, size: int) -> Iterator[Delta]:
    for piece in _pieces(reply.reasoning, size):
        yield Delta("REASONING", piece)
    for piece in _pieces(reply.text, size):
        yield Delta("TEXT", piece)
    for call in reply.tool_calls:
        # A person watches the words; arguments only have to be on their way.
        for piece in _pieces(call.arguments_json, size * 16):
            yield Delta("TOOL_ARGUMENTS", piece, call.call_id, call.tool)


def _pieces(text: str, size: int) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _filled_in(value: Any, request: ModelRequest) -> Any:
    if isinstance(value, str):
        return _filled(value, request)
    if isinstance(value, dict):
        return {key: _filled_in(item, request) for key, item in value.items()}
    return [_filled_in(item, request) for item in value] if isinstance(value, list) else value


def _filled(text: str, request: ModelRequest) -> str:
    """The text with `${user_text}`, `${agent}` and `${turn}` replaced."""
    if "${" not in text:
        return text
    said = last_user_text(request.messages)
    quoted = said if len(said) <= _QUOTE_LIMIT else said[: _QUOTE_LIMIT - 1] + "…"
    values = {"user_text": quoted, "agent": request.agent, "turn": str(request.turn)}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _what_has_no_reply(request: ModelRequest) -> str:
    said = last_user_text(request.messages)[:_QUOTE_LIMIT]
    return (
        f"the script has no reply for agent {request.agent!r}, purpose {request.purpose or 'unknown'}, "
        f"turn {request.turn}, after the user text {said!r}"
    )
