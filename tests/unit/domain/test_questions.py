"""`ask_user`: a question goes to a person, its answer is checked against what was asked for, and the model reads it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.catalog import Rule
from orchestrator.domain.digests import sha256
from orchestrator.domain.errors import ActionNotAllowed, DomainError, InvalidInput, InvalidJson
from orchestrator.domain.events import ApprovalRequested, StepFinished, StepStarted, ToolCallReady
from orchestrator.domain.questions import MAX_ANSWER_BYTES, MAX_SCHEMA_BYTES
from orchestrator.domain.records import Approval
from tests.unit.domain.build import POLICY, Play, call, catalog

COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}


def asking(**arguments: Any) -> Play:
    """The coder asks what is given."""
    play = Play()
    play.say(agent="coder")
    play.reply("I need to know.", call("ask_user", **arguments))
    return play


def read_by_the_model(play: Play) -> list[tuple[str, bool]]:
    return [(m.text, m.is_error) for m in play.seen().messages if m.role == "TOOL"]


def refused(play: Play, response_json: str, kind: type[DomainError] = InvalidInput) -> str:
    [question] = play.pending
    with pytest.raises(kind) as refusal:
        play.decide("RESPOND", response_json=response_json)
    assert play.pending == [question]
    assert play.calls[0].state == "AWAITING_APPROVAL"
    return str(refusal.value)


# --- offered


def test_it_is_offered_to_agents_whose_tools_name_it_and_to_no_others() -> None:
    play = Play()
    play.say(agent="coder")
    [offered] = [t for t in play.seen().tools if t.name == "ask_user"]
    assert (offered.source, offered.side_effect) == ("assent", "READ_ONLY")
    other = Play()
    other.say(agent="ask")
    assert "ask_user" not in [t.name for t in other.seen().tools]
    other.reply("", call("ask_user", question="?"))
    assert (other.calls[0].state, other.calls[0].failure.reason, other.pending) == ("REJECTED", "TOOL_DENIED", [])


def test_an_executors_tool_of_its_name_is_shadowed() -> None:
    book = catalog()
    book.tools["ask_user"] = replace(book.tools["read_file"], name="ask_user")
    play = Play(book)
    play.say(agent="coder")
    assert [t.source for t in play.seen().tools if t.name == "ask_user"] == ["assent"]
    play.reply("", call("ask_user", question="?"))
    assert ([a.kind for a in play.pending], play.flying) == (["QUESTION"], [])


def test_policy_may_deny_it_and_nothing_that_allows_it_answers_it() -> None:
    denying = replace(POLICY, rules=(Rule("quiet", "DENY", ("ask_user",), reason="nobody is there"),))
    play = Play(catalog(policy=denying))
    play.say(agent="coder")
    play.reply("", call("ask_user", question="?"))
    assert (play.calls[0].failure.reason, play.pending) == ("TOOL_DENIED", [])
    allowing = replace(POLICY, rules=(Rule("all", "ALLOW", ("*",)),))
    play = Play(catalog(policy=allowing))
    play.say(agent="coder")
    play.reply("", call("ask_user", question="?"))
    assert [a.kind for a in play.pending] == ["QUESTION"]


# --- asked


def test_a_question_waits_in_the_inbox_and_no_executor_or_client_has_it() -> None:
    play = asking(question="Which colour?", options=["red", "blue"], answer_schema=COLOUR)
    [question] = play.pending
    [step] = play.calls
    assert (question.kind, question.allowed_actions) == ("QUESTION", ["RESPOND", "ABORT"])
    assert (step.state, step.approval_id, question.step_id, question.tool) == (
        "AWAITING_APPROVAL",
        question.id,
        step.id,
        "ask_user",
    )
    assert question.arguments_json == step.arguments_json
    assert json.loads(question.response_schema_json) == COLOUR
    assert question.preview.title == "Which colour?"
    assert question.preview.text.splitlines() == ["Which colour?", "1. red", "2. blue"]
    assert (play.run.state, play.session.settled, play.session.runnable) == ("WAITING", True, False)
    assert not [e for e in play.events if isinstance(e, ToolCallReady) or getattr(e, "kind", "") == "TOOL"]
    assert [e.approval.id for e in play.events if isinstance(e, ApprovalRequested)] == [question.id]


def test_the_digest_is_about_exactly_these_words() -> None:
    play = asking(question="Which?")
    [question] = play.pending
    assert question.digest == sha256(question.preimage)
    assert f"arguments_sha256: {sha256(play.calls[0].arguments_json)}" in question.preimage.splitlines()


def test_what_would_deceive_the_eye_is_made_visible() -> None:
    play = asking(question="Delete \u202egnihtyreve?", options=["yes\n2. no", "n\u200bo"])
    shown = play.pending[0].preview
    assert "\u202e" not in shown.title + shown.text
    assert "\u200b" not in shown.text
    assert shown.text.splitlines()[1:] == ["1. yes ↵ 2. no", "2. n⟦U+200B⟧o"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "'question' is a required property"),
        ({"question": ""}, "$.question"),
        ({"question": "x" * 8001}, "$.question"),
        ({"question": 1}, "$.question"),
        ({"question": "?", "options": []}, "$.options"),
        ({"question": "?", "options": ["a"] * 2}, "$.options"),
        ({"question": "?", "options": [str(n) for n in range(21)]}, "$.options"),
        ({"question": "?", "options": ["x" * 501]}, "$.options[0]"),
        ({"question": "?", "options": [1]}, "$.options[0]"),
        ({"question": "?", "answer_schema": "string"}, "$.answer_schema"),
        ({"question": "?", "answer_schema": {"pattern": "(a+)+$"}}, "'pattern' is not taken"),
        ({"question": "?", "answer_schema": {"$ref": "http://127.0.0.1:1/"}}, "'$ref' is not taken"),
        ({"question": "?", "answer_schema": {"enum": ["x" * MAX_SCHEMA_BYTES]}}, "bytes"),
        ({"question": "?", "more": 1}, "more"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_question_that_does_not_do_goes_back_to_the_model_with_the_reason(
    arguments: dict[str, Any], words: str
) -> None:
    play = asking(**arguments)
    [step] = play.calls
    assert (step.state, step.failure.reason, play.pending) == ("REJECTED", "TOOL_ARGUMENTS_INVALID", [])
    [(read, is_error)] = read_by_the_model(play)
    assert words in read
    assert is_error


# --- answered


@pytest.mark.parametrize(
    ("response_json", "read"), [('"blue, please"', "blue, please"), ('{"a":  1.50}', '{"a":  1.50}'), ("null", "null")]
)
def test_the_answer_is_the_result_that_the_model_reads(response_json: str, read: str) -> None:
    play = asking(question="Which?")
    change = play.decide("RESPOND", response_json=response_json)
    [step] = play.calls
    assert step.state == "SUCCEEDED"
    assert read_by_the_model(play) == [(read, False)]
    assert [(e.trigger, e.actor) for e in change.events if isinstance(e, StepFinished)] == [("responded", "anna")]
    assert [e.kind for e in change.events if isinstance(e, StepStarted)] == ["MODEL"]
    assert play.run.state == "RUNNING"


def test_an_answer_that_does_not_fit_is_refused_with_its_place_and_a_better_one_is_taken() -> None:
    play = asking(question="Which?", answer_schema=COLOUR)
    assert "response_json: $.colour" in refused(play, '{"colour": "green"}')
    assert "'colour' is a required property" in refused(play, "{}")
    assert "not of type 'object'" in refused(play, '"red"')
    play.decide("RESPOND", response_json='{"colour": "red"}')
    assert read_by_the_model(play) == [('{"colour": "red"}', False)]


@pytest.mark.parametrize(
    "text", ["red", '{"a":1,"a":2}', "NaN", '"' + "x" * MAX_ANSWER_BYTES + '"'], ids=lambda t: t[:9]
)
def test_an_answer_that_is_no_strict_json_or_too_long_is_refused(text: str) -> None:
    refused(asking(question="Which?"), text, InvalidJson)


def test_the_options_are_offers_unless_the_schema_says_otherwise() -> None:
    play = asking(question="Which?", options=["red"])
    play.decide("RESPOND", response_json='"green"')
    assert read_by_the_model(play) == [("green", False)]
    strict = asking(question="Which?", options=["red"], answer_schema={"enum": ["red"]})
    assert "not one of" in refused(strict, '"green"')


@pytest.mark.parametrize("action", ["APPROVE", "EDIT", "REJECT", "RETRY", "SKIP"])
def test_a_question_takes_an_answer_or_an_end_and_nothing_else(action: str) -> None:
    play = asking(question="?")
    with pytest.raises(ActionNotAllowed):
        play.decide(action)


def test_an_abort_ends_the_run_and_the_question_has_its_one_result() -> None:
    play = asking(question="?")
    run_id = play.run.id
    play.decide("ABORT")
    assert (play.snapshot.runs[run_id].state, play.calls[0].state, play.pending) == ("CANCELLED", "CANCELLED", [])
    assert play.calls[0].result is not None


def test_an_answer_to_a_paused_run_is_kept_and_read_after_the_resume() -> None:
    play = asking(question="?")
    run_id = play.run.id
    play.pause()
    play.decide("RESPOND", response_json='"yes"')
    assert (play.run.state, play.flying) == ("PAUSED", [])
    play.resume(run_id)
    assert read_by_the_model(play) == [("yes", False)]


def test_a_question_of_an_architect_stays_within_its_planning() -> None:
    agents = tuple(replace(a, tools=(*a.tools, "ask_user")) for a in catalog().agents.values())
    play = Play(catalog(agents=agents))
    play.say(agent="architect")
    play.reply("", call("ask_user", question="For whom?"))
    [question] = play.pending
    assert (play.session.state, question.preview.agent) == ("ARCHITECT_PLANNING", "architect")
    play.decide("RESPOND", response_json='"for children"')
    assert read_by_the_model(play) == [("for children", False)]
    assert play.flying[0].agent == "architect"


def test_as_many_as_a_reply_may_hold_are_asked_at_once_and_answered_one_by_one() -> None:
    play = Play(catalog(agents=[replace(a, max_steps=200) for a in catalog().agents.values()]))
    play.say(agent="coder")
    play.reply("", *(call("ask_user", f"c{n}", question=f"Question {n}?") for n in range(128)))
    asked: list[Approval] = play.pending
    assert len({a.id for a in asked}) == 128
    for approval in reversed(asked):
        assert not play.flying
        play.decide("RESPOND", approval, response_json=json.dumps(approval.preview.title))
    assert [text for text, _ in read_by_the_model(play)] == [f"Question {n}?" for n in range(128)]
