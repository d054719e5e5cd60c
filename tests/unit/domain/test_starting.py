"""Where a step runs also settles where its session's files are, once."""

import pytest

from orchestrator.domain.records import Workspace
from orchestrator.domain.starting import Place
from tests.unit.domain.build import Play, call


def place_under(root_id: str) -> object:
    return lambda step, workspace: Place("executor-1", "127.0.0.1:1", root_id)


def test_a_session_without_a_workspace_root_gets_that_of_the_executor_of_its_first_tool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play(workspace=Workspace("", "s1"))
    monkeypatch.setattr(play, "_place", place_under("first"))
    play.say(agent="coder")
    assert play.session.workspace == Workspace("", "s1")
    play.reply("", call("read_file", path="a"))
    assert play.session.workspace == Workspace("first", "s1")
    play.result()
    monkeypatch.setattr(play, "_place", place_under("second"))
    play.reply("", call("read_file", path="b"))
    assert play.session.workspace == Workspace("first", "s1")
