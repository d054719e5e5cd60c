"""`assent plan`: what is shown, what comes out of an editor or a file, and that nothing that was written is lost."""

import asyncio
import os
import re
import sys
from pathlib import Path

import grpc
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cli.plans import request_of, text_of
from cli.trouble import ExitCode, Trouble
from gen.assent.v1.plan_pb2 import (
    PLAN_STATE_APPROVED,
    PLAN_STATE_DRAFT,
    SUBTASK_STATE_PENDING,
    SUBTASK_STATE_SUCCEEDED,
    Plan,
    Subtask,
)
from gen.assent.v1.plan_service_pb2 import RevisePlanRequest
from rpc.problem import Problem
from tests.unit.cli.stand_in import StandIn
from tests.unit.cli.test_commands import Command, assent, stand_in  # fixtures

__all__ = ["assent", "stand_in"]

PLAN = "01a1f7ba-caff-7e3b-8b28-a8c75a93b49f"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    "a :-#\n\t|>\"'{}[]é\u202e\x1b", max_size=40
)
subtasks = st.builds(
    Subtask,
    key=st.sampled_from(["a", "b", "1", "true", "null", "2026-01-01"]),
    title=texts,
    instructions=texts,
    agent=st.sampled_from(["coder", "ask"]),
    depends_on=st.lists(st.sampled_from(["a", "b", "no"]), max_size=2),
)


def a_draft() -> Plan:
    plan = Plan(id=PLAN, version=1, title="An app", summary="Two\nlines", parallel_limit=2, digest="d1")
    plan.state = PLAN_STATE_DRAFT
    first = plan.subtasks.add(key="a", title="The first", instructions="Write\nit", agent="coder")
    first.retry_policy.max_attempts = 3
    first.retry_policy.first_backoff.seconds = 5
    first.state = SUBTASK_STATE_PENDING
    return plan


@example("", "\x85", [])
@example("a\u2028b", "\u2029", [Subtask(key="a", title="\x85", instructions="c\x85\nd", agent="ask")])
@given(texts, texts, st.lists(subtasks, max_size=3))
def test_a_plan_that_is_saved_as_it_was_opened_is_the_same_plan(title: str, summary: str, nodes: list[Subtask]) -> None:
    plan = Plan(id=PLAN, version=1, title=title, summary=summary, parallel_limit=3, subtasks=nodes)
    read = request_of(text_of(plan))
    assert (read.title, read.summary, read.parallel_limit) == (title, summary, 3)
    fields = ("key", "title", "instructions", "agent", "depends_on")
    assert [[getattr(s, f) for f in fields] for s in read.subtasks] == [[getattr(s, f) for f in fields] for s in nodes]


def test_all_that_a_draft_may_say_of_a_subtask_comes_back() -> None:
    plan = a_draft()
    plan.subtasks[0].artifacts.add(name="app.json", media_type="application/json")
    plan.subtasks[0].gates.append("review")
    [read] = request_of(text_of(plan)).subtasks
    assert read.retry_policy == plan.subtasks[0].retry_policy
    assert list(read.artifacts) == list(plan.subtasks[0].artifacts)
    assert list(read.gates) == ["review"]


def test_what_is_done_is_told_of_and_not_edited() -> None:
    plan = a_draft()
    plan.subtasks.add(key="z", title="Done\nlong ago", carried_subtask_id="x", state=SUBTASK_STATE_SUCCEEDED)
    text = text_of(plan)
    assert "# Done already, and staying; subtasks may depend on it: z (Done long ago)\n" in text
    assert [s.key for s in request_of(text).subtasks] == ["a"]


def test_a_plan_may_be_written_as_json() -> None:
    assert request_of('{"title": "T", "subtasks": [{"key": "a"}]}').subtasks[0].key == "a"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: [", "neither YAML nor JSON"),
        ("title: a\ntitle: b", "neither YAML nor JSON"),
        ("just words", "a plan has: title"),
        ("", "a plan has: title"),
        ("plan_id: other", "a plan has no plan_id"),
        ("titel: T", "a plan has no titel"),
        ("subtasks:\n  - key: a\n    colour: red", "colour"),
        ("subtasks: all of them", "this is no plan"),
        ("title: 17", "this is no plan"),
    ],
)
def test_what_is_no_text_of_a_plan_says_why(text: str, words: str) -> None:
    with pytest.raises(Trouble, match=re.escape(words)) as trouble:
        request_of(text)
    assert trouble.value.code == ExitCode.USAGE


async def test_a_plan_is_shown_with_what_became_of_it(assent: Command, stand_in: StandIn) -> None:
    stand_in.plan = a_draft()
    stand_in.plan.subtasks.add(
        key="b", title="Skipped\x1b[31m", skip_reason="not needed", agent="ask", depends_on=["a"]
    )
    shown = await assent("plan", "show", PLAN)
    assert (shown.code, shown.errors) == (0, "")
    assert "DRAFT, version 1" in shown.output
    assert "a: The first (coder) PENDING\n      Write\n      it\n" in shown.output
    assert "b: Skipped\\x1b[31m (ask after a)" in shown.output
    assert "not needed" in shown.output
    assert f"assent plan edit {PLAN}" in shown.output
    assert (await assent("plan", "show", PLAN, "--yaml")).output == text_of(stand_in.plan)


async def test_a_draft_is_edited_from_a_file_for_the_digest_that_was_read(
    assent: Command, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.plan = a_draft()
    file = tmp_path / "plan.yaml"
    file.write_text(text_of(a_draft()).replace("The first", "Another"))
    ended = await assent("plan", "edit", PLAN, "--file", str(file))
    assert (ended.code, ended.errors) == (0, "")
    assert "version 2, a draft; version 1 is SUPERSEDED" in ended.output
    (asked,) = stand_in.revised
    assert (asked.plan_id, asked.digest, asked.subtasks[0].title) == (PLAN, "d1", "Another")
    assert asked.request_id


def editor(tmp_path: Path, *lines: str) -> dict[str, str]:
    """An editor that does this to the text of the file."""
    script = tmp_path / "editor.py"
    script.write_text("\n".join(["import pathlib, sys", "path = pathlib.Path(sys.argv[1])", *lines]))
    return {"EDITOR": f"{sys.executable} {script}", "VISUAL": "", "TMPDIR": str(tmp_path)}


async def test_a_draft_is_edited_in_the_persons_own_editor(assent: Command, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.plan = a_draft()
    own = editor(tmp_path, "path.write_text(path.read_text().replace('The first', 'Ещё одна'))")
    ended = await assent("plan", "edit", PLAN, environment=own)
    assert (ended.code, ended.errors) == (0, "")
    assert [request.subtasks[0].title for request in stand_in.revised] == ["Ещё одна"]
    assert os.listdir(tmp_path) == ["editor.py"], "nothing is left behind"


@pytest.mark.parametrize("does", ["pass", "path.write_text('# hm\\n' + path.read_text())"])
async def test_who_changes_nothing_revises_nothing(
    assent: Command, stand_in: StandIn, tmp_path: Path, does: str
) -> None:
    stand_in.plan = a_draft()
    ended = await assent("plan", "edit", PLAN, environment=editor(tmp_path, does))
    assert (ended.code, ended.output) == (0, "nothing was changed\n")
    assert stand_in.revised == []


@pytest.mark.parametrize("refused", [True, False])
async def test_what_was_written_is_kept_when_it_does_not_do(
    assent: Command, stand_in: StandIn, tmp_path: Path, refused: bool
) -> None:
    stand_in.plan = a_draft()
    if refused:
        problem = Problem(grpc.StatusCode.ABORTED, "STALE_VERSION", "the newest plan is version 7")
        stand_in.refuse.append(problem)
    own = editor(tmp_path, f"path.write_text({'title: Mine' if refused else 'title: ['!r})")
    ended = await assent("plan", "edit", PLAN, environment=own)
    assert ended.code == (1 if refused else 2)
    assert ("STALE_VERSION" if refused else "neither YAML nor JSON") in ended.errors
    [kept] = re.findall(rf"assent plan edit {PLAN} --file (\S+)", ended.errors)
    assert await asyncio.to_thread(Path(kept).read_text) == ("title: Mine" if refused else "title: [")


@pytest.mark.parametrize("name", ["no-such-editor", "false"])
async def test_an_editor_that_does_not_work_changes_nothing(assent: Command, stand_in: StandIn, name: str) -> None:
    stand_in.plan = a_draft()
    ended = await assent("plan", "edit", PLAN, environment={"EDITOR": name, "VISUAL": ""})
    assert ended.code
    assert name in ended.errors
    assert "Traceback" not in ended.errors
    assert stand_in.revised == []


async def test_only_a_draft_is_edited(assent: Command, stand_in: StandIn) -> None:
    stand_in.plan = a_draft()
    stand_in.plan.state = PLAN_STATE_APPROVED
    ended = await assent("plan", "edit", PLAN)
    assert ended.code == 1
    assert "only a draft can be edited" in ended.errors


def test_nothing_of_a_request_but_its_plan_is_written() -> None:
    written = {"title", "summary", "goal", "parallel_limit", "subtasks"}
    addressed = {"plan_id", "request_id", "digest"}
    assert {field.name for field in RevisePlanRequest.DESCRIPTOR.fields} == written | addressed
