"""An edited call runs as exactly the bytes a person wrote, once; what policy denies no edit makes possible."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.catalog import Policy, Rule
from orchestrator.domain.deciding import decide
from orchestrator.domain.digests import sha256
from orchestrator.domain.errors import InvalidInput, InvalidJson
from orchestrator.domain.events import ApprovalResolved, StepFinished
from orchestrator.domain.records import Approval, ApprovalTerms, Decision, Step, ToolResult
from orchestrator.domain.terms import covers
from tests.unit.domain.build import SECOND, Play, call, catalog, failure, task

EDITED = '{"path": "b", "id": 1234567890123456789}'
SCHEMA = '{"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}'


def asked(*tools: str, agent: str = "coder") -> Play:
    """One call of each tool, `write_file` without a word; policy asks about each."""
    play = Play()
    play.approved_plan(task("a", agent=agent))
    play.reply("", *(call(tool, f"c{n}", path="a") for n, tool in enumerate(tools or ("write_file",))))
    return play


def edit(play: Play, text: str = EDITED, approval: Approval | None = None) -> tuple[Step, Step]:
    """The step that was asked about, and the one that took its place."""
    approval = approval or play.pending[0]
    play.decide("EDIT", approval, edited_arguments_json=text)
    [new] = [s for s in play.calls if s.replaces_step_id == approval.step_id]
    return play.snapshot.steps[approval.step_id], new


def test_another_step_of_the_edited_bytes_takes_the_place_of_the_call() -> None:
    play = asked()
    [approval] = play.pending
    old, new = edit(play)
    assert (old.state, old.result, old.dispatch_number) == ("EDITED", None, 0)
    assert (new.state, new.arguments_json, new.call_id, new.model_step_id) == (
        "DISPATCHED",
        EDITED,
        old.call_id,
        old.model_step_id,
    )
    lines = new.approval_preimage.splitlines()
    assert {f"step: {new.id}", f"arguments_sha256: {sha256(EDITED)}"} <= set(lines)
    decided = play.snapshot.approvals[approval.id]
    assert decided.decision is not None
    assert (decided.decision.edited_arguments_json, decided.decision.edited_digest) == (
        EDITED,
        sha256(new.approval_preimage),
    )
    assert (new.approval_id, decided.consume_time) == (approval.id, play.now)
    assert play.pending == []


def test_the_edit_is_in_the_log() -> None:
    play = asked()
    edit(play)
    [resolved] = [e for e in play.events if isinstance(e, ApprovalResolved) and e.action == "EDIT"]
    assert (resolved.edited_arguments_json, resolved.decider) == (EDITED, "anna")
    [ended] = [e for e in play.events if isinstance(e, StepFinished) and e.trigger == "edited"]
    assert (ended.state, ended.actor) == ("EDITED", "anna")


def test_the_model_reads_one_result_for_each_call_in_its_order() -> None:
    play = asked("write_file", "write_file")
    first, second = play.pending
    _, new = edit(play, approval=first)
    play.result("edited", new)
    play.decide("RESPOND", second, response_json='"not needed"')
    results = [(m.call_id, m.text, m.is_error) for m in play.seen().messages if m.role == "TOOL"]
    assert results == [("c0", "edited", False), ("c1", "not needed", False)]


def test_a_respond_stands_in_for_the_result_and_nothing_runs() -> None:
    play = asked()
    play.decide("RESPOND", response_json='{"size": 3}')
    [step] = play.calls
    assert (step.state, step.result, step.dispatch_number) == (
        "SUCCEEDED",
        ToolResult('{"size": 3}', '{"size": 3}'),
        0,
    )
    assert [s.kind for s in play.flying] == ["MODEL"]


def test_an_edited_call_that_waits_for_room_uses_up_nothing_and_then_runs_once() -> None:
    play = asked()
    play.has_room = False
    [approval] = play.pending
    _, new = edit(play)
    assert (new.state, play.snapshot.approvals[approval.id].consume_time) == ("APPROVED", 0)
    play.has_room = True
    play.wait(0)
    play.outcome("REFUSED")
    play.wait(SECOND)
    assert [(s.id, s.dispatch_number) for s in play.flying] == [(new.id, 2)]


def test_an_edited_call_in_doubt_is_asked_about_as_it_was_edited() -> None:
    play = asked("run_command")
    _, new = edit(play, '{"command": "ls"}')
    play.outcome("LOST", new)
    [doubt] = play.pending
    assert (doubt.kind, doubt.step_id, doubt.arguments_json) == ("IN_DOUBT", new.id, '{"command": "ls"}')
    play.now += 3600 * SECOND
    play.decide("RETRY")
    assert [(s.id, s.dispatch_number, s.approval_id) for s in play.flying] == [(new.id, 2, doubt.id)]


# --- refused, and the question stays


def refuse(play: Play, text: str, error: type[InvalidInput]) -> str:
    [approval] = play.pending
    before, change = deepcopy(play.snapshot), play.change()
    decision = Decision("EDIT", "anna", 1, approval.digest, edited_arguments_json=text)
    with pytest.raises(error) as refused:
        decide(change, approval, decision, play.catalog)
    assert change.is_empty
    assert play.snapshot == before
    return str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"a":1,"a":2}', '{"a": NaN}', '{"a": "\\ud800"}', '{"a": "\\u0000"}'])
def test_an_edit_that_could_be_read_in_two_ways_is_refused(text: str) -> None:
    refuse(asked(), text, InvalidJson)


def test_an_edit_without_arguments_is_none() -> None:
    refuse(asked(), "", InvalidInput)


def test_an_edit_must_fit_the_tools_schema() -> None:
    play = asked()
    play.catalog.tools["write_file"] = replace(play.catalog.tools["write_file"], input_schema_json=SCHEMA)
    assert "$.path" in refuse(play, '{"path": 7}', InvalidInput)
    assert "'path' is a required property" in refuse(play, "{}", InvalidInput)


@pytest.mark.parametrize(
    "schema", ['{"type": "strin"}', '{"$ref": "http://127.0.0.1:1/schema.json"}', '{"$ref": "#"}', "{", "7"]
)
def test_a_schema_that_does_not_do_refuses_in_words_and_fetches_nothing(schema: str) -> None:
    play = asked()
    play.catalog.tools["write_file"] = replace(play.catalog.tools["write_file"], input_schema_json=schema)
    assert "cannot be checked" in refuse(play, '{"path": "b"}', InvalidInput)


def test_what_policy_denies_cannot_be_edited_in() -> None:
    play = Play()
    play.say(agent="architect")  # who writes only *.md
    play.reply("", call("write_file", path="a.md", content=""))
    assert "architect" in refuse(play, '{"path": "a.py", "content": ""}', InvalidInput)


def gone_tool(play: Play) -> None:
    del play.catalog.tools["write_file"]


def gone_agent(play: Play) -> None:
    del play.catalog.agents["coder"]


@pytest.mark.parametrize("lose", [gone_tool, gone_agent])
def test_a_call_that_cannot_be_made_any_more_cannot_be_edited(lose: Callable[[Play], None]) -> None:
    play = asked()
    lose(play)
    assert "there is no" in refuse(play, EDITED, InvalidInput)


def test_policy_judges_the_edited_call_again_before_it_runs() -> None:
    play = asked()
    [approval] = play.pending
    change = play.change()
    decide(change, approval, Decision("EDIT", "anna", 1, approval.digest, edited_arguments_json=EDITED), play.catalog)
    play.keep(change)
    never = replace(play.catalog.policy.rules[0], tools=("write_*",))
    play.catalog.policy = replace(play.catalog.policy, rules=(never,))
    play.do()
    [new] = [s for s in play.calls if s.replaces_step_id]
    assert (new.state, new.dispatch_number, new.failure.reason) == ("REJECTED", 0, "TOOL_DENIED")


# --- an edit allows one call


@pytest.mark.parametrize(
    "tampered",
    [
        {"arguments_json": '{"path": "c"}'},
        {"replaces_step_id": "another"},
        {"approval_preimage": "another"},
        {"approval_id": "no such approval"},
        {"doubt_number": 1, "dispatch_number": 1},
    ],
    ids=str,
)
def test_an_edit_allows_no_other_call(tampered: dict[str, Any]) -> None:
    play = asked()
    play.has_room = False
    _, new = edit(play)
    play.snapshot.steps[new.id] = replace(new, **tampered)
    play.has_room = True
    play.wait(0)
    step = play.snapshot.steps[new.id]
    assert (step.state, step.failure.reason) == ("CANCELLED", "DIGEST_MISMATCH")


def test_an_edit_does_not_allow_the_call_it_replaced() -> None:
    play = asked()
    old, _ = edit(play)
    play.snapshot.steps[old.id] = replace(old, state="APPROVED")
    play.do()
    assert play.snapshot.steps[old.id].state == "CANCELLED"


def test_a_failed_edited_call_is_read_by_the_model() -> None:
    play = asked()
    _, new = edit(play)
    play.outcome("FAILED", new, failure=failure())
    assert [m.text for m in play.seen().messages if m.role == "TOOL"] == ["The call failed: it broke"]


LEAD = ApprovalTerms(["lead"])


@pytest.mark.parametrize(
    "guarded",
    [ApprovalTerms(["release-manager"]), ApprovalTerms(["lead"], quorum=2), ApprovalTerms(requester_excluded=True)],
    ids=["others", "several", "another"],
)
def test_an_edit_into_what_others_decide_about_is_asked_of_them(guarded: ApprovalTerms) -> None:
    """Who may say yes to one call must not turn it into one that they may not say yes to."""
    rules = (
        Rule("infra", "ASK", ("write_file",), paths=("infra/**",), terms=guarded),
        Rule("source", "ASK", ("write_file",), terms=LEAD),
    )
    play = Play(catalog(policy=Policy("default", "policy-digest", rules)))
    play.say(agent="coder")
    play.reply("", call("write_file", path="src/a"))
    [first] = play.pending
    play.decide("EDIT", first, roles=["lead"], edited_arguments_json='{"path": "infra/prod"}')
    assert play.flying == []
    [again] = play.pending
    assert (again.kind, again.policy_rule, again.terms, again.earlier_approval_id) == (
        "TOOL_CALL",
        "infra",
        guarded,
        first.id,
    )
    for n in range(guarded.quorum):
        play.decide("APPROVE", play.pending[0], by=f"boss-{n}", roles=guarded.roles)
    [step] = play.flying
    assert (step.arguments_json, step.approval_id) == ('{"path": "infra/prod"}', again.id)


def test_an_edit_within_what_the_same_people_decide_about_is_their_yes() -> None:
    rules = (
        Rule("docs", "ASK", ("write_file",), paths=("docs/**",), terms=ApprovalTerms(["writer", "lead"])),
        Rule("source", "ASK", ("write_file",), terms=LEAD),
    )
    play = Play(catalog(policy=Policy("default", "policy-digest", rules)))
    play.say(agent="coder")
    play.reply("", call("write_file", path="src/a"))
    play.decide("EDIT", roles=["lead"], edited_arguments_json='{"path": "docs/a"}')
    [step] = play.flying
    assert (step.arguments_json, play.pending) == ('{"path": "docs/a"}', [])


def test_a_yes_on_some_terms_is_one_on_others_where_nobody_else_is_wanted() -> None:
    anybody, excluded = ApprovalTerms(), ApprovalTerms(requester_excluded=True)
    assert covers(LEAD, anybody)
    assert not covers(anybody, LEAD)
    assert not covers(ApprovalTerms(["lead", "writer"]), LEAD)
    assert covers(excluded, anybody)
    assert not covers(anybody, excluded)
    assert not covers(LEAD, ApprovalTerms(["lead"], quorum=2))
