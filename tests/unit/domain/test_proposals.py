"""Proposed calls whose arguments break their tool's schema: nobody is asked, nothing runs, and the model reads why."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.catalog import Catalog
from tests.unit.domain.build import Play, call, catalog

SCHEMA = (
    '{"type": "object", "properties": {"path": {"type": "string"}, "n": {"multipleOf": 0.5}}, "required": ["path"]}'
)


def book(schema: str = SCHEMA) -> Catalog:
    found = catalog()
    found.tools = {name: replace(tool, input_schema_json=schema) for name, tool in found.tools.items()}
    return found


def proposing(tool: str, schema: str = SCHEMA, **arguments: Any) -> Play:
    play = Play(book(schema))
    play.say(agent="coder")
    play.reply("", call(tool, **arguments))
    return play


def read_by_the_model(play: Play) -> str:
    [read] = [m for m in play.seen().messages if m.role == "TOOL"]
    assert read.is_error
    return read.text


@pytest.mark.parametrize("tool", ["run_command", "send_mail", "read_file"], ids=["asks", "is allowed", "only reads"])
def test_arguments_that_do_not_fit_are_refused_before_anybody_is_asked(tool: str) -> None:
    play = proposing(tool, path=["x"])
    [step] = play.calls
    assert (step.state, step.failure.reason, step.dispatch_number) == ("REJECTED", "TOOL_ARGUMENTS_INVALID", 0)
    assert play.pending == []
    assert "$.path: ['x'] is not of type 'string'" in read_by_the_model(play)


def test_what_fits_is_asked_about_as_ever() -> None:
    assert len(proposing("run_command", path="x").pending) == 1


def test_what_policy_denies_is_denied_whatever_its_arguments() -> None:
    assert proposing("format_disk", path=1).calls[0].failure.reason == "TOOL_DENIED"


@pytest.mark.parametrize(
    "schema", ['{"$ref": "http://127.0.0.1:1/"}', '{"type": "strin"}', "{", '{"$ref": "#"}'], ids=str
)
def test_a_tool_whose_schema_cannot_be_applied_is_not_called(schema: str) -> None:
    play = proposing("run_command", schema, path="x")
    assert (play.calls[0].failure.reason, play.pending) == ("TOOL_ARGUMENTS_INVALID", [])
    assert "cannot be checked" in read_by_the_model(play)


def test_a_number_that_python_cannot_divide_does_not_stop_the_session() -> None:
    assert "cannot be checked" in read_by_the_model(proposing("read_file", path="x", n=10**400))


def test_the_other_calls_of_the_reply_are_not_held_up() -> None:
    play = Play(book())
    play.say(agent="coder")
    play.reply("", call("run_command", "c1"), call("run_command", "c2", path="x"), call("read_file", "c3", path="x"))
    assert [s.state for s in play.calls] == ["REJECTED", "AWAITING_APPROVAL", "DISPATCHED"]
