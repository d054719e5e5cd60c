"""Replies of several calls, however each of them ended, in the form in which providers are asked to go on.

Nobody answers here: each provider's server keeps what it was asked and refuses.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from executor import wire
from executor.errors import StepFailed
from executor.models.model import ModelRequest
from executor.models.provider import ProviderModel
from executor.steps import Ref
from gen.assent.executor.v1 import step_pb2
from orchestrator.engine import frames
from tests.integration.executor.openai_server import Answer, OpenAIServer, openai_server
from tests.property.mixes import WAYS, Mix

MIXES = [
    ["approved", "rejected"],
    ["rejected", "approved", "auto"],
    ["question", "client", "edited", "denied"],
    ["client, edited", "expired", "granted", "responded", "unfit"],
    list(WAYS),
]


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-key")
        yield server


async def asked(server: OpenAIServer, ways: list[str], model: str) -> list[dict[str, Any]]:
    """The messages that the provider is sent once every call has ended, the last of them first."""
    mix = Mix(*ways)
    while mix.open:
        mix.act(mix.open[-1])
    if mix.play.run.pause is not None:
        mix.play.resume()
    call = frames.model_call(mix.play.seen())
    call.model = model
    ref = Ref("step", 1, 1)
    request = wire.start(ref, step_pb2.StartStep(model=call)).work
    assert isinstance(request, ModelRequest)
    server.answers.append(Answer(status=400))
    with pytest.raises(StepFailed):
        async for _ in ProviderModel(model).answer(request):
            pass
    [sent] = server.requests
    messages: list[dict[str, Any]] = sent["messages"]
    return messages


@pytest.mark.parametrize("ways", MIXES, ids=lambda ways: f"{len(ways)} calls")
async def test_openai_reads_one_result_of_each_call_right_after_the_reply(
    server: OpenAIServer, ways: list[str]
) -> None:
    messages = await asked(server, ways, "openai:gpt-4o-mini")
    ids = [f"c{n}" for n in range(len(ways))]
    [at] = [i for i, m in enumerate(messages) if [c["id"] for c in m.get("tool_calls", [])] == ids]
    results = messages[at + 1 :]
    assert [(m["role"], m["tool_call_id"]) for m in results] == [("tool", each) for each in ids]
    assert all(m["content"] for m in results)


@pytest.mark.parametrize("ways", MIXES, ids=lambda ways: f"{len(ways)} calls")
async def test_anthropic_reads_one_result_of_each_call_in_the_next_message(
    server: OpenAIServer, ways: list[str]
) -> None:
    messages = await asked(server, ways, "anthropic:claude-of-a-test")
    ids = [f"c{n}" for n in range(len(ways))]
    reply, results = messages[-2:]
    assert [block["id"] for block in reply["content"] if block["type"] == "tool_use"] == ids
    assert (reply["role"], results["role"]) == ("assistant", "user")
    assert [(block["type"], block["tool_use_id"]) for block in results["content"]] == [
        ("tool_result", each) for each in ids
    ]
    wrong = [block["tool_use_id"] for block in results["content"] if block.get("is_error")]
    assert wrong == [each for each, way in zip(ids, ways, strict=True) if WAYS[way].is_error]
    assert {m["role"] for m in messages} == {"user", "assistant"}
