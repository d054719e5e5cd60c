"""Real providers' models, against a server of our own that speaks OpenAI's chat completions."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from executor.errors import StepFailed
from executor.models.model import Delta, Message, ModelRequest, Reply, ToolCallPart, ToolOffer, Usage
from executor.models.provider import ProviderModel
from tests.integration.executor.openai_server import Answer, OpenAIServer, call_delta, chunk, openai_server

EXACT = '{"id":  1234567890123456789, "text": "ё"}'
USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "total_tokens": 1100,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 30},
}


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
        yield server


def request(model: str = "openai:gpt-4o-mini", **fields: object) -> ModelRequest:
    messages = (
        Message("SYSTEM", "be brief"),
        Message("USER", "do it"),
        Message("ASSISTANT", "", (ToolCallPart("call_9", "noop", EXACT),)),
        Message("TOOL", "done", call_id="call_9", tool="noop"),
    )
    tools = (ToolOffer("noop", "Do nothing.", '{"type":"object","properties":{"id":{"type":"integer"}}}'),)
    values = {"messages": messages, "tools": tools, "timeout_seconds": 20.0, **fields}
    return ModelRequest(model, **values)  # type: ignore[arg-type]  # any fields of it, by name


async def ask(asked: ModelRequest | None = None) -> tuple[list[Delta], Reply]:
    said = [part async for part in ProviderModel("openai:gpt-4o-mini").answer(asked or request())]
    assert isinstance(said[-1], Reply)
    return [part for part in said if isinstance(part, Delta)], said[-1]


async def failure(asked: ModelRequest | None = None) -> StepFailed:
    with pytest.raises(StepFailed) as caught:
        await ask(asked)
    assert "sk-secret" not in str(caught.value)
    return caught.value


async def test_text_is_streamed_counted_and_priced(server: OpenAIServer) -> None:
    server.answers = [
        Answer(
            [
                chunk({"role": "assistant", "content": "Hel"}),
                chunk({"content": "lo"}),
                chunk(finish="stop"),
                chunk(usage=USAGE),
            ]
        )
    ]
    deltas, reply = await ask()
    assert [each.text for each in deltas] == ["Hel", "lo"]
    assert (reply.text, reply.finish_reason, reply.provider_request_id) == ("Hello", "stop", "chatcmpl-1")
    assert reply.usage == Usage(1000, 400, 100, 30)
    # gpt-4o-mini: 0.15 $ a million of input, 0.075 $ cached, 0.60 $ of output.
    assert (reply.cost_usd_micros, reply.is_priced) == (90 + 30 + 60, True)


async def test_the_conversation_is_sent_with_its_calls_results_and_settings(server: OpenAIServer) -> None:
    server.answers = [Answer([chunk({"content": "ok"}), chunk(finish="stop")])]
    await ask(request(temperature=0.5, max_output_tokens=77))
    sent = server.requests[0]
    assert [message["role"] for message in sent["messages"]] == ["system", "user", "assistant", "tool"]
    # The library writes past calls compactly; what matters is that no number becomes a double.
    past_call = sent["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(past_call) == json.loads(EXACT)
    assert sent["messages"][3]["tool_call_id"] == "call_9"
    assert sent["tools"][0]["function"]["parameters"]["properties"] == {"id": {"type": "integer"}}
    assert sent["temperature"] == 0.5
    assert 77 in (sent.get("max_tokens"), sent.get("max_completion_tokens"))
    assert sent["stream"] is True


async def test_tool_calls_arrive_as_the_exact_text(server: OpenAIServer) -> None:
    server.answers = [
        Answer(
            [
                chunk(call_delta(EXACT[:10], name="noop")),
                chunk(call_delta(EXACT[10:])),
                chunk(call_delta("{}", name="other", index=1)),
                chunk(finish="tool_calls"),
            ]
        )
    ]
    deltas, reply = await ask()
    assert reply.tool_calls == (ToolCallPart("call_0", "noop", EXACT), ToolCallPart("call_1", "other", "{}"))
    assert reply.finish_reason == "tool_calls"
    assert "".join(each.text for each in deltas if each.call_id == "call_0") == EXACT
    assert {each.tool for each in deltas} == {"noop", "other"}


async def test_structured_output_is_asked_for_with_its_schema(server: OpenAIServer) -> None:
    server.answers = [Answer([chunk({"content": '{"a": 1}'}), chunk(finish="stop")])]
    schema = '{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}'
    _, reply = await ask(request(output_schema_json=schema, tools=()))
    assert reply.text == '{"a": 1}'
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["a"]


@pytest.mark.parametrize(
    "said", [call_delta('{"path": "a", "cont', name="write_file"), call_delta("{}", name="noop"), {"content": "Hel"}]
)
async def test_a_stream_that_ends_cleanly_without_a_finish_reason_is_no_reply(
    server: OpenAIServer, said: dict[str, object]
) -> None:
    server.answers = [Answer([chunk(said)], done=False)]
    error = await failure()
    assert (error.reason, error.disposition) == ("MODEL_TRUNCATED", "RETRYABLE")


async def test_a_call_whose_arguments_are_cut_is_no_reply_though_the_provider_says_it_is(server: OpenAIServer) -> None:
    server.answers = [Answer([chunk(call_delta('{"path": "a', name="write_file")), chunk(finish="tool_calls")])]
    error = await failure()
    assert (error.reason, error.disposition) == ("MODEL_OUTPUT_INVALID", "RETRYABLE")


async def test_a_reply_cut_by_the_output_limit_says_so(server: OpenAIServer) -> None:
    server.answers = [Answer([chunk(call_delta('{"path": "a', name="write_file")), chunk(finish="length")])]
    assert (await failure()).reason == "MODEL_TRUNCATED"


@pytest.mark.parametrize(
    ("status", "headers", "reason", "disposition", "retry_after"),
    [
        (429, {"retry-after": "7"}, "MODEL_RATE_LIMITED", "RETRYABLE", 7.0),
        (500, {}, "MODEL_ERROR", "RETRYABLE", None),
        (503, {}, "MODEL_ERROR", "RETRYABLE", None),
        (401, {}, "MODEL_ERROR", "HUMAN_REQUIRED", None),
        (404, {}, "MODEL_NOT_FOUND", "HUMAN_REQUIRED", None),
        (400, {}, "MODEL_ERROR", "FATAL", None),
    ],
)
async def test_a_provider_error_is_tried_once_and_says_what_helps(
    server: OpenAIServer,
    status: int,
    headers: dict[str, str],
    reason: str,
    disposition: str,
    retry_after: float | None,
) -> None:
    server.answers = [Answer(status=status, headers=headers)]
    error = await failure()
    assert (error.reason, error.disposition, error.retry_after) == (reason, disposition, retry_after)
    assert len(server.requests) == 1


async def test_a_provider_that_is_not_there_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    assert (await failure()).reason == "MODEL_ERROR"


async def test_a_provider_that_says_nothing_more_runs_into_the_limit(server: OpenAIServer) -> None:
    server.answers = [Answer([chunk({"content": "Hel"})], hang=True)]
    assert (await failure(request(timeout_seconds=0.3))).reason == "DEADLINE_EXCEEDED"


async def test_closing_the_answer_ends_the_call(server: OpenAIServer) -> None:
    server.answers = [Answer([chunk({"content": "Hel"})], hang=True)]
    answer = ProviderModel("openai:gpt-4o-mini").answer(request())
    assert isinstance(await anext(answer), Delta)
    await answer.aclose()
    await asyncio.wait_for(server.gone.wait(), 5)


async def test_ollama_is_another_name_for_the_same_protocol(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_BASE_URL", server.url)
    server.answers = [Answer([chunk({"content": "ok"}), chunk(finish="stop")])]
    said = [part async for part in ProviderModel("ollama:qwen3").answer(request(model="ollama:qwen3"))]
    assert isinstance(said[-1], Reply)
    assert not said[-1].is_priced
    assert said[-1].cost_usd_micros == 0


@pytest.mark.parametrize("name", ["nonsense", "nobody:model", "openai:"])
def test_a_name_without_a_provider_is_for_a_person_to_correct(name: str) -> None:
    with pytest.raises(StepFailed) as caught:
        ProviderModel(name)
    assert (caught.value.reason, caught.value.disposition) == ("MODEL_NOT_FOUND", "HUMAN_REQUIRED")


def test_a_missing_key_is_for_a_person_to_provide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(StepFailed, match="ANTHROPIC_API_KEY"):
        ProviderModel("anthropic:claude-sonnet-4-5")
