"""A call is judged again when it is about to begin: between a yes and that, a day may lie, and another catalog."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain import policy
from orchestrator.domain.catalog import Policy, Rule
from orchestrator.domain.grants import revoke_grant
from orchestrator.domain.policy import Call, Look
from orchestrator.domain.records import Remember
from tests.unit.domain.build import CLIENT_TOOLS, POLICY, Play, call, catalog

DENY = Rule("no-more", "DENY", ("write_*", "send_mail"), reason="it is closed for today")
ASK = Rule("now-ask", "ASK", ("send_mail",), reason="it asks from now on")


def another(play: Play, *rules: Rule) -> None:
    """Another catalog is read, as after a restart."""
    play.catalog.policy = replace(play.catalog.policy, digest="another", rules=(*rules, *POLICY.rules))


def waiting(tool: str) -> Play:
    """A call that is allowed, and waits for an executor with room."""
    play = Play(catalog())
    play.say(agent="coder")
    play.has_room = False
    play.reply("", call(tool, path="a", content="b"))
    if play.pending:
        play.decide("APPROVE")
    assert [c.state for c in play.calls] == ["APPROVED"]
    return play


def goes_on(play: Play) -> None:
    play.has_room = True
    play.do()


@pytest.mark.parametrize("tool", ["write_file", "send_mail"])
def test_what_is_denied_now_never_begins_whoever_approved_it(tool: str) -> None:
    play = waiting(tool)
    another(play, DENY)
    goes_on(play)
    [ended] = play.calls
    assert (ended.state, ended.failure.reason, ended.policy_rule) == ("REJECTED", "TOOL_DENIED", "no-more")
    assert ended.result is not None
    assert "it is closed for today" in ended.result.content
    assert [step.kind for step in play.flying] == ["MODEL"], "the model reads it, and goes on"
    assert all(approval.consume_time == 0 for approval in play.snapshot.approvals.values())


def test_a_persons_yes_stays_good_where_only_the_policy_has_changed() -> None:
    play = waiting("write_file")
    another(play, replace(ASK, tools=("*",)))
    goes_on(play)
    assert [step.tool for step in play.flying] == ["write_file"]


def test_what_was_allowed_without_a_person_and_asks_now_asks() -> None:
    play = waiting("send_mail")
    another(play, ASK)
    goes_on(play)
    [asked] = play.pending
    assert (asked.policy_rule, asked.preview.reason, play.calls[0].state) == (
        "now-ask",
        ASK.reason,
        "AWAITING_APPROVAL",
    )
    assert not play.flying
    play.decide("APPROVE")
    assert [step.tool for step in play.flying] == ["send_mail"], "and their yes is enough"


@pytest.mark.parametrize("changed", [{"schema_digest": "another schema"}, {"side_effect": "READ_ONLY"}])
@pytest.mark.parametrize("tool", ["write_file", "send_mail"])
def test_a_tool_that_has_changed_since_is_asked_about_again(tool: str, changed: dict[str, Any]) -> None:
    play = waiting(tool)
    play.catalog.tools[tool] = offered = replace(play.catalog.tools[tool], **changed)
    before = play.calls[0].approval_id
    goes_on(play)
    [asked] = play.pending
    assert (asked.policy_rule, asked.earlier_approval_id) == ("schema-changed", before)
    assert f"schema_digest: {offered.schema_digest}" in asked.preimage
    play.decide("APPROVE")
    assert [(s.schema_digest, s.side_effect) for s in play.flying] == [(offered.schema_digest, offered.side_effect)]


def test_a_call_that_does_not_fit_the_tool_as_it_is_now_ends_without_asking_anybody() -> None:
    play = waiting("send_mail")
    other = replace(play.catalog.tools["send_mail"], schema_digest="another", input_schema_json='{"required": ["to"]}')
    play.catalog.tools["send_mail"] = other
    goes_on(play)
    [step] = play.calls
    assert (step.state, step.failure.reason) == ("REJECTED", "TOOL_ARGUMENTS_INVALID")
    assert "'to' is a required property" in step.failure.message
    assert not play.pending


def test_a_yes_to_the_tool_as_it_was_is_none_to_the_tool_as_it_is() -> None:
    play = waiting("write_file")
    old = next(iter(play.snapshot.approvals.values()))
    play.catalog.tools["write_file"] = replace(play.catalog.tools["write_file"], schema_digest="another schema")
    goes_on(play)
    play.decide("REJECT")
    assert play.calls[0].state == "REJECTED"
    assert play.snapshot.approvals[old.id].consume_time == 0


def test_a_tool_that_nobody_offers_after_a_restart_is_waited_for() -> None:
    play = waiting("send_mail")
    play.catalog.tools.clear()
    play.do()
    assert (play.calls[0].state, play.pending) == ("APPROVED", [])
    play.catalog = catalog()
    goes_on(play)
    assert [step.tool for step in play.flying] == ["send_mail"]


def test_what_was_sent_and_comes_back_is_denied_and_says_that_it_may_have_happened() -> None:
    play = waiting("write_file")
    goes_on(play)
    play.has_room = False
    play.outcome("LOST")
    assert play.calls[0].state == "APPROVED"
    another(play, DENY)
    play.wait(3_600_000_000)
    assert play.calls[0].state == "REJECTED"
    assert "may have taken effect" in play.calls[0].failure.message


def test_what_was_sent_and_comes_back_is_not_asked_about_twice() -> None:
    play = waiting("index_files")
    goes_on(play)
    another(play, replace(ASK, tools=("index_files",)))
    play.catalog.tools["index_files"] = replace(play.catalog.tools["index_files"], schema_digest="another schema")
    play.outcome("LOST")
    play.wait(3_600_000_000)
    assert not play.pending
    assert [step.tool for step in play.flying] == ["index_files"]


@pytest.mark.parametrize(("rules", "state"), [((DENY,), "REJECTED"), ((ASK,), "READY")])
def test_a_call_is_judged_again_before_a_client_gets_it(rules: Sequence[Rule], state: str) -> None:
    play = Play(catalog(), client_tools=CLIENT_TOOLS)
    play.say(agent="coder")
    play.reply("", call("ask_ide"))
    play.pause()
    play.decide("APPROVE")
    another(play, *(replace(rule, tools=("ask_ide",)) for rule in rules))
    play.resume()
    assert play.calls[0].state == state


def test_a_session_whose_policy_is_gone_asks_about_everything() -> None:
    play = Play(catalog(), policy="strict")
    play.say(agent="coder")
    play.reply("", call("read_file", path="a"), call("send_mail", "c2"), call("format_disk", "c3"))
    assert [approval.policy_rule for approval in play.pending] == ["policy-gone"] * 3
    play.catalog.policies["strict"] = Policy("strict", "d", (Rule("nothing", "DENY"),))
    play.decide("APPROVE")
    assert play.calls[0].state == "REJECTED", "and when it is there again, it judges what was approved meanwhile"


def test_a_session_is_judged_by_the_policy_it_names() -> None:
    play = Play(catalog(), policy="strict")
    play.catalog.policies["strict"] = Policy("strict", "d", (Rule("nothing", "DENY", reason="this one is strict"),))
    play.say(agent="coder")
    play.reply("", call("read_file", path="a"))
    assert play.calls[0].failure.message == "Not allowed: this one is strict."


def granted(play: Play) -> str:
    """A grant for calls as the one that waits; the one that waits goes by it now, for want of an executor not yet."""
    play.decide("APPROVE", remember=Remember())
    play.result()
    play.has_room = False
    play.reply("", call("write_file", path="a", content="b"))
    [grant] = play.snapshot.grants.values()
    assert (play.calls[-1].state, play.calls[-1].grant_id) == ("APPROVED", grant.id)
    return grant.id


def asking() -> Play:
    play = Play(catalog())
    play.say(agent="coder")
    play.reply("", call("write_file", path="a", content="b"))
    return play


def test_what_a_grant_allowed_begins_by_it_and_counts_once() -> None:
    play = asking()
    grant_id = granted(play)
    play.do()
    goes_on(play)
    assert [step.grant_id for step in play.flying] == [grant_id]
    assert play.snapshot.grants[grant_id].uses == 1


def test_what_a_grant_allowed_that_is_revoked_before_it_begins_asks() -> None:
    play = asking()
    grant_id = granted(play)
    play.do(lambda c: revoke_grant(c, c.snapshot.grants[grant_id], "boris", "enough"))
    goes_on(play)
    assert (play.calls[-1].state, play.calls[-1].grant_id, play.flying) == ("AWAITING_APPROVAL", "", [])


def test_what_a_grant_allowed_and_is_denied_now_never_begins() -> None:
    play = asking()
    granted(play)
    another(play, DENY)
    goes_on(play)
    assert (play.calls[-1].state, play.calls[-1].failure.reason) == ("REJECTED", "TOOL_DENIED")


def test_a_call_is_judged_once_in_one_look_and_again_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    explain = policy.explain

    def noted(rules: Policy, call: Call) -> Iterator[Look]:
        judged.append(call.name)
        return explain(rules, call)

    monkeypatch.setattr(policy, "explain", noted)
    play = Play(catalog())
    play.say(agent="coder")
    play.reply("", call("send_mail", "c1"), call("write_file", "c2", path="a", content="b"))
    assert [step.tool for step in play.flying] == ["send_mail"]
    assert judged == ["send_mail", "write_file"]
    play.decide("APPROVE")
    assert [step.tool for step in play.flying] == ["send_mail", "write_file"]
    assert judged == ["send_mail", "write_file", "write_file"]
