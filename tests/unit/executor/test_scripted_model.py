"""The scripted model: which entry answers, what is said, and how it fails."""

import json
from pathlib import Path

import pytest

from executor.errors import StepFailed
from executor.models.model import Delta, Message, ModelRequest, Reply
from executor.models.script import BadScript, Script, load_script
from executor.models.scripted import ScriptedModel

CATALOG = Path(__file__).parents[3] / "catalog/scripts"
BENCH_CATALOG = Path(__file__).parents[3] / "bench/catalog/scripts"
GOAL = "открыт пустой проект, создай тестовое приложение на flutter"


def script(tmp_path: Path, text: str) -> Script:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    return load_script(path)


def request(user: str = "hello", *more: Message, **fields: object) -> ModelRequest:
    messages = (Message("SYSTEM", "instructions"), Message("USER", user), *more)
    return ModelRequest("scripted:", messages, **fields)  # type: ignore[arg-type]  # any fields of it, by name


async def play(model: ScriptedModel, asked: ModelRequest) -> tuple[list[Delta], Reply]:
    said = [part async for part in model.answer(asked)]
    assert isinstance(said[-1], Reply)
    return [part for part in said if isinstance(part, Delta)], said[-1]


async def test_the_first_entry_that_fits_answers(tmp_path: Path) -> None:
    model = ScriptedModel(
        script(
            tmp_path,
            """
            replies:
            - {when: {agent: coder, turn: 1}, text: coder again}
            - {when: {agent: coder, contains: [One, two]}, text: one and two}
            - {when: {purpose: PLANNING}, text: planning}
            - {when: {matches: "^[0-9]+$"}, text: a number}
            - {when: {subtask: b}, text: subtask b}
            - {when: {tool_failed: true}, text: it failed}
            - {text: anything}
            """,
        )
    )

    async def text(asked: ModelRequest) -> str:
        return (await play(model, asked))[1].text

    assert await text(request("one two", agent="coder", turn=1)) == "coder again"
    assert await text(request("one two", agent="coder")) == "one and two"
    assert await text(request("one", agent="coder")) == "anything"
    assert await text(request(purpose="PLANNING")) == "planning"
    assert await text(request("42")) == "a number"
    assert await text(request("Subtask a: A\n\nSubtask b: B\n\nDo it.")) == "subtask b"
    assert await text(request("Subtask b: B", Message("USER", "Subtask c: C"))) == "anything"
    assert await text(request("x", Message("TOOL", "no", is_error=True))) == "it failed"
    assert await text(request("x", Message("TOOL", "no", is_error=True), Message("ASSISTANT", "oh"))) == "anything"


async def test_deltas_joined_are_the_reply(tmp_path: Path) -> None:
    model = ScriptedModel(
        script(
            tmp_path,
            """
            pace: {delta_characters: 3}
            replies:
            - text: Привет, мир
              reasoning: I think
              tool_calls:
              - {tool: noop, arguments_json: '{"id":  1234567890123456789}'}
              - {tool: write_file, arguments: {path: a, content: "ё"}}
            """,
        )
    )
    deltas, reply = await play(model, request())
    assert "".join(each.text for each in deltas if each.kind == "TEXT") == reply.text == "Привет, мир"
    assert "".join(each.text for each in deltas if each.kind == "REASONING") == reply.reasoning == "I think"
    assert [call.arguments_json for call in reply.tool_calls] == [
        '{"id":  1234567890123456789}',
        '{"path": "a", "content": "ё"}',
    ]
    for call in reply.tool_calls:
        streamed = "".join(each.text for each in deltas if each.call_id == call.call_id)
        assert streamed == call.arguments_json
    assert len({call.call_id for call in reply.tool_calls}) == 2
    assert reply.finish_reason == "tool_calls"
    assert reply.is_priced
    assert max(len(each.text) for each in deltas if each.kind == "TEXT") == 3


async def test_structured_output_is_json_with_what_the_user_said(tmp_path: Path) -> None:
    text = 'replies: [{output: {title: "About ${user_text}", n: [1, "${agent}"]}}]'
    _, reply = await play(ScriptedModel(script(tmp_path, text)), request("goal", agent="architect"))
    assert json.loads(reply.text) == {"title": "About goal", "n": [1, "architect"]}


async def test_a_failure_is_raised_for_as_many_tries_as_it_says(tmp_path: Path) -> None:
    model = ScriptedModel(
        script(
            tmp_path,
            """
            replies:
            - error: {reason: MODEL_RATE_LIMITED, retry_after: 2.5, times: 2, disposition: RETRYABLE}
            - {when: {agent: a}, error: {times: 3}, text: at last}
            - {text: next entry}
            """,
        )
    )
    with pytest.raises(StepFailed) as caught:
        await play(model, request(tries=1))
    assert (caught.value.reason, caught.value.disposition, caught.value.retry_after) == (
        "MODEL_RATE_LIMITED",
        "RETRYABLE",
        2.5,
    )
    with pytest.raises(StepFailed, match="the script says so"):
        await play(model, request(tries=2, agent="a"))
    assert (await play(model, request(tries=3, agent="a")))[1].text == "at last"
    assert (await play(model, request(tries=2)))[1].text == "next entry"


async def test_a_request_that_nothing_fits_names_agent_and_turn(tmp_path: Path) -> None:
    model = ScriptedModel(script(tmp_path, "replies: [{when: {agent: other}, text: x}]"))
    with pytest.raises(StepFailed, match=r"agent 'coder', purpose SUBTASK, turn 3, .*'do it'") as caught:
        await play(model, request("do it", agent="coder", purpose="SUBTASK", turn=3))
    assert (caught.value.reason, caught.value.disposition) == ("MODEL_ERROR", "FATAL")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("replies: [{txt: x}]", "txt"),
        ("replies: [{when: {purpose: BAKING}, text: x}]", "purpose"),
        ("replies: [{text: x, output: {}}]", "either text or output"),
        ("replies: [{when: {matches: '('}, text: x}]", "matches"),
        ("replies: [", "line 1"),
        ("[]", "Script"),
        ("replies: [{error: {disposition: MAYBE}}]", "disposition"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadScript, match=complaint):
        script(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadScript, match=r"gone\.yaml: No such file"):
        load_script(tmp_path / "gone.yaml")


async def test_the_demo_drafts_a_plan_whose_subtasks_it_can_play() -> None:
    model = ScriptedModel(load_script(CATALOG / "demo.yaml"))
    _, routing = await play(model, request(GOAL, agent="orchestrator", purpose="ROUTING"))
    assert json.loads(routing.text)["complexity"] == "complex"
    _, planning = await play(model, request(GOAL, agent="architect", purpose="PLANNING"))
    plan = json.loads(planning.text)
    assert [subtask["key"] for subtask in plan["subtasks"]] == ["pubspec", "app", "test", "readme", "check"]
    written = []
    for subtask in plan["subtasks"]:
        said = f"Subtask {subtask['key']}: {subtask['title']}\n\n{subtask['instructions']}"
        for turn in range(10):
            _, reply = await play(
                model, request(GOAL, Message("USER", said), agent=subtask["agent"], purpose="SUBTASK", turn=turn)
            )
            written += [
                json.loads(each.arguments_json)["path"] for each in reply.tool_calls if each.tool == "write_file"
            ]
            if not reply.tool_calls:
                break
        else:
            pytest.fail(f"{subtask['key']} never ends")
        assert turn == 2
    assert written == ["pubspec.yaml", "lib/main.dart", "test/widget_test.dart", "README.md"]


@pytest.mark.parametrize("purpose", ["ROUTING", "PLANNING", "SUBTASK", "ANSWER"])
async def test_the_demo_script_has_an_answer_for_anything(purpose: str) -> None:
    model = ScriptedModel(load_script(CATALOG / "demo.yaml"))
    _, reply = await play(model, request("make me a sandwich", agent="ask", purpose=purpose))
    assert reply.text
    if purpose == "ROUTING":
        assert json.loads(reply.text)["agent"] == "ask"


async def test_the_bench_script_makes_two_calls_and_ends() -> None:
    model = ScriptedModel(load_script(BENCH_CATALOG / "bench.yaml"))
    tools = []
    for goal in ("straight", "with approval"):
        for turn in range(3):
            _, reply = await play(model, request(goal, agent="bench", turn=turn))
            tools += [call.tool for call in reply.tool_calls]
    assert tools == ["noop", "noop", "noop", "noop_ask"]
