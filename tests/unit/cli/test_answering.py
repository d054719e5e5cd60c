"""What is typed in answer to a question becomes the JSON that its schema asks for; hints say what is wanted."""

import json

import pytest

from cli.answering import NoAnswer, as_json, hint_of, options_of
from cli.decide import Answer, ask_person
from cli.story import Line
from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_QUESTION,
    DECISION_ACTION_ABORT,
    DECISION_ACTION_RESPOND,
    Approval,
    Preview,
)

COLOURS = ["red", "blue \u202eeulb"]


def question(schema: object = None, options: list[str] | None = None) -> Approval:
    arguments = {"question": "Which?"} | ({"options": options} if options else {})
    return Approval(
        kind=APPROVAL_KIND_QUESTION,
        allowed_actions=[DECISION_ACTION_RESPOND, DECISION_ACTION_ABORT],
        arguments_json=json.dumps(arguments),
        response_schema_json="" if schema is None else json.dumps(schema),
        preview=Preview(title="Which?", text="Which?\n1. red\n2. blue ⟦U+202E⟧eulb"),
    )


@pytest.mark.parametrize(
    ("schema", "options", "typed", "answer"),
    [
        (None, None, "blue, please", "blue, please"),
        (None, None, "42", "42"),
        (None, None, '{"a": 1}', '{"a": 1}'),
        ({}, None, "true", "true"),
        (None, COLOURS, "2", COLOURS[1]),
        (None, COLOURS, "green", "green"),
        ({"type": "string"}, None, "5", "5"),
        ({"type": "string"}, COLOURS, "1", "red"),
        ({"type": "integer"}, ["7", "8"], "8", 8),
        ({"type": "integer"}, None, "12345678901234567890", 12345678901234567890),
        ({"type": "boolean"}, None, "true", True),
        ({"type": ["string", "null"]}, None, "null", None),
        ({"type": ["string", "null"]}, None, "nil", "nil"),
        ({"type": ["string", "null"]}, None, "5", "5"),
        ({"enum": ["a", 1, None]}, None, "1", 1),
        ({"enum": ["a", 1, None]}, None, "a", "a"),
        ({"enum": ["a", 1, None]}, None, "null", None),
        ({"enum": ["1", "2"]}, ["1", "2"], "2", "2"),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, None, '{"a": 1}', {"a": 1}),
        ({"anyOf": [{"type": "string"}, {"type": "object"}]}, None, "word", "word"),
        ({"type": "object"}, None, '{"a":  1}', {"a": 1}),
    ],
    ids=str,
)
def test_what_is_typed_is_encoded_as_the_schema_wants_it(
    schema: object, options: list[str] | None, typed: str, answer: object
) -> None:
    assert json.loads(as_json(typed, question(schema, options))) == answer


def test_json_goes_as_it_was_typed() -> None:
    assert as_json('{"a":  1.50}', question({"type": "object"})) == '{"a":  1.50}'


@pytest.mark.parametrize(
    ("schema", "options", "typed", "words"),
    [
        ({"type": "object"}, None, "blue", "as JSON that fits"),
        ({"type": "integer"}, None, "one", "integer"),
        (None, COLOURS, "3", "options 1 to 2"),
        (None, COLOURS, "0", "options 1 to 2"),
        ({"enum": ["a", 1]}, None, "b", 'one of "a", 1'),
    ],
)
def test_what_cannot_be_an_answer_is_refused_with_what_is_wanted(
    schema: object, options: list[str] | None, typed: str, words: str
) -> None:
    with pytest.raises(NoAnswer, match=words):
        as_json(typed, question(schema, options))


def test_hints_say_what_is_wanted_and_hide_nothing() -> None:
    assert hint_of(question()) == "your own words"
    assert hint_of(question(None, COLOURS)) == "1 to 2, or your own words"
    assert hint_of(question({"enum": ["a", 1]})) == 'one of "a", 1'
    assert hint_of(question({"type": ["integer", "null"]})).startswith('integer or null, as JSON that fits {"type"')
    assert "\u202e" not in hint_of(question({"enum": [COLOURS[1]]}))


@pytest.mark.parametrize("text", ["", "[]", "{bad", '{"options": "none"}', '{"options": [1]}'])
def test_what_an_odd_server_sends_offers_no_options(text: str) -> None:
    assert options_of(Approval(arguments_json=text)) == []


async def test_who_answers_sees_question_and_options_and_is_asked_until_it_is_an_answer() -> None:
    typed = ["s", "", "7", "2"]
    prompts: list[str] = []
    shown: list[Line] = []

    async def ask(prompt: str) -> str:
        prompts.append(prompt)
        return typed.pop(0)

    answer = await ask_person(question(None, COLOURS), ask, shown.extend)
    assert answer == Answer(DECISION_ACTION_RESPOND, response_json=json.dumps(COLOURS[1], ensure_ascii=False))
    assert prompts[1:] == ["Your answer (1 to 2, or your own words): "] * 3
    texts = [line.text for line in shown]
    assert ["  1. red" in texts, any("not an answer" in text for text in texts)] == [True, True]
