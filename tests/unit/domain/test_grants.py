"""Grants: what may be remembered, which later calls that answers, and how it ends."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain import conditions
from orchestrator.domain.catalog import Catalog, Policy, Rule
from orchestrator.domain.deciding import decide, is_repeat
from orchestrator.domain.digests import sha256
from orchestrator.domain.errors import (
    DomainError,
    GrantNotOffered,
    InvalidInput,
    LimitExceeded,
    WrongState,
)
from orchestrator.domain.events import GrantChanged, StepStarted
from orchestrator.domain.grants import MOST_STANDING, revoke_grant
from orchestrator.domain.records import ApprovalTerms, Decision, Grant, Remember, Step, ToolCall
from tests.unit.domain.build import CLIENT_TOOLS, POLICY, SECOND, Play, call, catalog, draft, task

HOUR = 3600 * SECOND
SAME = Remember()


def asked(*calls: str, policy: Policy = POLICY, path: str = "a") -> Play:
    """A coder's call of each tool waits for a decision."""
    play = Play(catalog(policy=policy))
    play.say(agent="coder")
    play.reply("", *(call(tool, f"c{n}", path=path) for n, tool in enumerate(calls or ["write_file"])))
    return play


def again(play: Play, tool: str = "write_file", path: str = "a") -> Step:
    """The same agent's next call, after it has read the results so far."""
    while play.flying and play.flying[0].kind == "TOOL":
        play.result()
    play.reply("", call(tool, path=path))
    return play.calls[-1]


def granted(policy: Policy = POLICY, remember: Remember = SAME) -> tuple[Play, Grant]:
    play = asked(policy=policy)
    play.decide("APPROVE", remember=remember)
    [grant] = play.snapshot.grants.values()
    return play, grant


def with_rule(**changes: object) -> Policy:
    """The policy, its rule that asks about changes changed."""
    rules = tuple(replace(r, **changes) if r.name == "changes" else r for r in POLICY.rules)  # type: ignore[arg-type]
    return replace(POLICY, rules=rules)


def refuse(play: Play, error: type[DomainError], action: str = "APPROVE", **said: Any) -> DomainError:
    """The decision to remember is refused, and changes nothing."""
    approval, change = play.pending[0], play.change()
    decision = replace(Decision(action, "anna", 1, approval.digest, remember=SAME), **said)
    with pytest.raises(error) as refused:
        decide(change, approval, decision, play.catalog)
    assert change.is_empty
    return refused.value


# Making one


def test_a_decision_that_asks_to_remember_makes_a_grant_and_says_so_in_the_log() -> None:
    play, grant = granted(remember=Remember(lifetime=2 * HOUR))
    [approval] = [a for a in play.snapshot.approvals.values() if a.kind == "TOOL_CALL"]
    step = play.calls[0]
    assert grant == Grant(
        "t",
        grant.id,
        "s1",
        "write_file",
        "schema of write_file",
        f'arguments_sha256 == "{sha256(step.arguments_json)}"',
        approval.id,
        "anna",
        play.now,
        play.now + 2 * HOUR,
        policy_rule="changes",
        policy_digest="policy-digest",
    )
    assert approval.decision is not None
    assert approval.decision.grant_id == grant.id
    assert [e for e in play.events if isinstance(e, GrantChanged)] == [GrantChanged(grant, "made", "anna")]
    assert step.state == "DISPATCHED"  # the call itself goes by its own approval
    assert step.grant_id == ""


def test_the_same_decision_said_again_is_a_repeat_and_another_wish_is_not() -> None:
    play, _ = granted()
    [approval] = play.snapshot.approvals.values()
    said = Decision("APPROVE", "anna", play.now, approval.digest, remember=SAME)
    assert is_repeat(approval, said)
    assert not is_repeat(approval, replace(said, remember=None))
    assert not is_repeat(approval, replace(said, remember=Remember(lifetime=1)))


@pytest.mark.parametrize(
    ("tool", "rule", "offered"),
    [
        ("write_file", {}, True),  # may run twice, and one person decides
        ("run_command", {}, False),  # may not run twice
        ("run_command", {"remember": True}, True),
        ("write_file", {"remember": False}, False),
        ("write_file", {"terms": ApprovalTerms(quorum=2)}, False),
        ("write_file", {"terms": ApprovalTerms(quorum=2), "remember": True}, True),
        ("write_file", {"terms": ApprovalTerms(quorum=2, requester_excluded=True), "remember": True}, False),
    ],
)
def test_remembering_is_offered_where_the_rule_says_so_or_says_nothing_and_the_call_may_run_twice(
    tool: str, rule: dict[str, object], offered: bool
) -> None:
    play = asked(tool, policy=with_rule(**rule))
    assert play.pending[0].may_remember == offered
    if not offered:
        refuse(play, GrantNotOffered, decider="boris")


def test_a_call_that_no_rule_speaks_of_may_be_remembered_if_it_may_run_twice() -> None:
    policy = Policy("bare", "bare-digest")
    assert asked("index_files", policy=policy).pending[0].may_remember
    assert not asked("send_mail", policy=policy).pending[0].may_remember


def test_a_clients_tool_may_do_anything_so_it_is_not_remembered() -> None:
    play = Play(client_tools=CLIENT_TOOLS)
    play.say(agent="coder")
    play.reply("", call("ask_ide"))
    assert not play.pending[0].may_remember


@pytest.mark.parametrize(
    ("action", "part"),
    [
        ("REJECT", {}),
        ("ABORT", {}),
        ("RESPOND", {"response_json": '"done"'}),
        ("EDIT", {"edited_arguments_json": '{"path": "b"}'}),
    ],
)
def test_only_a_yes_can_be_remembered(action: str, part: dict[str, str]) -> None:
    refused = refuse(asked(), InvalidInput, action, **part)
    assert "remember: goes with APPROVE only" in str(refused)


def test_a_yes_to_a_plan_cannot_be_remembered() -> None:
    play = Play()
    play.submit(draft(task("a")))
    refuse(play, GrantNotOffered)


BOTH = with_rule(terms=ApprovalTerms(quorum=2), remember=True)
ALL_THREE = with_rule(terms=ApprovalTerms(quorum=3), remember=True)


def test_where_several_decide_all_must_ask_to_remember_the_same() -> None:
    play = asked(policy=BOTH)
    play.decide("APPROVE", remember=SAME)
    assert not play.snapshot.grants
    assert "what anna voted for" in str(refuse(play, InvalidInput, decider="boris", remember=Remember(lifetime=1)))
    play.decide("APPROVE", by="boris", remember=SAME)
    assert [g.creator for g in play.snapshot.grants.values()] == ["boris"]
    assert again(play).grant_id


def test_what_one_of_several_leaves_out_is_not_remembered_whoever_asked_for_it() -> None:
    play = asked(policy=BOTH)
    play.decide("APPROVE", remember=SAME)
    play.decide("APPROVE", by="boris")
    assert (len(play.flying), play.snapshot.grants) == (1, {})
    assert again(play).state == "AWAITING_APPROVAL"


def test_who_comes_after_one_that_left_it_out_is_told_that_nothing_would_be_remembered() -> None:
    play = asked(policy=ALL_THREE)
    play.decide("APPROVE", remember=SAME)
    play.decide("APPROVE", by="boris")
    assert "what boris voted for" in str(refuse(play, InvalidInput, decider="clara", remember=SAME))
    play.decide("APPROVE", by="clara")
    assert (len(play.flying), play.snapshot.grants) == (1, {})


def test_who_has_voted_to_remember_cannot_be_taken_to_have_voted_otherwise() -> None:
    play = asked(policy=BOTH)
    play.decide("APPROVE", remember=SAME)
    [approval] = play.pending
    assert "your vote stands" in str(refuse(play, InvalidInput, remember=None))
    assert play.snapshot.approvals[approval.id] == approval


def test_where_the_policy_changes_between_votes_the_next_leave_it_out() -> None:
    play = asked(policy=BOTH)
    play.decide("APPROVE", remember=SAME)
    play.catalog.policy = replace(BOTH, digest="another")
    refuse(play, GrantNotOffered, decider="boris", remember=SAME)
    play.decide("APPROVE", by="boris")
    assert (len(play.flying), play.snapshot.grants) == (1, {})


def test_where_the_policy_has_changed_since_it_was_asked_nothing_is_remembered() -> None:
    play = asked()
    play.catalog.policy = replace(POLICY, digest="another")
    refuse(play, GrantNotOffered)
    play.decide("APPROVE")
    assert play.flying


def test_the_65th_standing_grant_is_refused_until_one_has_ended() -> None:
    play = asked(*(["write_file"] * (MOST_STANDING + 1)))
    for approval in play.pending[:MOST_STANDING]:
        play.decide("APPROVE", approval, remember=SAME)
    assert len(play.snapshot.grants) == MOST_STANDING
    refuse(play, LimitExceeded)
    play.do(lambda c: revoke_grant(c, next(iter(c.snapshot.grants.values())), "anna", ""))
    play.decide("APPROVE", remember=SAME)


# Using one


def test_a_grant_answers_the_same_call_again_and_is_named_where_it_did() -> None:
    play, grant = granted()
    step = again(play)
    assert (step.state, step.grant_id, step.policy_rule) == ("DISPATCHED", grant.id, "changes")
    assert (step.approval_id, play.pending) == ("", [])
    assert [e.grant_id for e in play.events if isinstance(e, StepStarted) and e.tool] == ["", grant.id]
    assert play.snapshot.grants[grant.id].uses == 1
    again(play)
    assert play.snapshot.grants[grant.id].uses == 2


def test_other_arguments_are_asked_about_even_if_they_mean_the_same() -> None:
    play, _ = granted()
    assert again(play, path="b").state == "AWAITING_APPROVAL"
    play.decide("REJECT")
    play.reply("", replace(call("write_file"), arguments_json='{"path":"a"}'))  # without the blank
    assert play.calls[-1].state == "AWAITING_APPROVAL"


@pytest.mark.parametrize(
    "constraint",
    [
        'arguments.path == "a"',
        'arguments.path in ["a", "b"]',
        'arguments.path.matches("^[ab]$")',
        'arguments_sha256 != "" && arguments.path != "c"',
    ],
)
def test_a_constraint_decides_which_calls_are_remembered(constraint: str) -> None:
    play, grant = granted(remember=Remember(constraint))
    assert grant.constraint == constraint
    assert again(play, path="a").grant_id == grant.id
    assert again(play, path="c").state == "AWAITING_APPROVAL"


def test_of_several_that_hold_the_newest_is_used() -> None:
    play, first = granted(remember=Remember('arguments.path == "a" || arguments.path == "b"'))
    assert again(play, path="c").state == "AWAITING_APPROVAL"
    play.decide("APPROVE", remember=Remember('arguments.path != "b"'))
    second = next(g for g in play.snapshot.grants.values() if g.id != first.id)
    assert again(play, path="a").grant_id == second.id
    assert again(play, path="b").grant_id == first.id


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        ("true", "says nothing of the arguments"),
        ('tool == "write_file"', "says nothing of the arguments"),
        ('arguments.path == "b"', "is not true of the call itself"),
        ("arguments.nothing == 1", "cannot be told of the call itself"),
        ("arguments.path", "cannot be told of the call itself"),
        ("arguments.path + 1 == 2", "cannot be told of the call itself"),
        ("arguments.path ==", "is no condition: line 1"),
        ("now() > 1 && arguments.path == 'a'", "is no condition"),
        ("arguments.path == 'a' //" + "x" * 3_000, "is no condition: line 1, column 1: is over"),
        (
            "".join(f"[1,2,3,4,5,6,7,8,9].all(v{n}, " for n in range(9)) + "arguments.path == 'a'" + ")" * 9,
            "is no condition",
        ),
        ("\x00", "is no condition"),
    ],
)
def test_a_constraint_that_will_not_do_decides_nothing(constraint: str, problem: str) -> None:
    refused = refuse(asked(), InvalidInput, remember=Remember(constraint))
    assert str(refused).startswith(f"remember.constraint: {problem}")


@pytest.mark.parametrize(
    "arguments", ["{}", '{"path": 1}', '{"path": "a", "n": 1e300}', '{"path": "a", "n": 36893488147419103232}']
)
def test_arguments_of_which_a_constraint_cannot_be_told_are_asked_about(arguments: str) -> None:
    play, _ = granted(remember=Remember("arguments.path.size() == 1"))
    play.result()
    play.reply("", ToolCall("c", "write_file", arguments))
    assert not play.calls[-1].grant_id
    assert play.calls[-1].state in ("AWAITING_APPROVAL", "REJECTED")  # without a path no agent may write


def test_constraints_that_would_take_long_together_are_not_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    play = asked(*["write_file"] * 8)
    for approval in play.pending:
        slow = Remember('arguments.path == "a" || arguments.more.exists(x, x == -1)')
        play.decide("APPROVE", approval, remember=slow)
    while play.flying[0].kind == "TOOL":
        play.result()
    looked: list[str] = []
    holds = conditions.holds

    def looked_at(condition: conditions.Condition, variables: Mapping[str, Any]) -> bool:
        looked.append(condition.text)
        return holds(condition, variables)

    monkeypatch.setattr(conditions, "holds", looked_at)
    play.reply("", ToolCall("c", "write_file", json.dumps({"path": "b", "more": [0] * 600})))
    assert play.calls[-1].state == "AWAITING_APPROVAL"
    assert 0 < len(looked) < 8


def test_a_call_of_another_tool_is_asked_about() -> None:
    play, _ = granted(policy=with_rule(remember=True))
    assert again(play, "run_command").state == "AWAITING_APPROVAL"


def changed_schema(book: Catalog) -> None:
    book.tools["write_file"] = replace(book.tools["write_file"], schema_digest="another")


def changed_policy(book: Catalog) -> None:
    book.policy = replace(POLICY, digest="another")


def another_rule(book: Catalog) -> None:
    book.policy = replace(POLICY, rules=(Rule("stricter", "ASK", ("write_*",)), *POLICY.rules))


def no_offer(book: Catalog) -> None:
    book.policy = with_rule(remember=False)


@pytest.mark.parametrize("change", [changed_schema, changed_policy, another_rule, no_offer])
def test_what_has_changed_since_is_asked_about_again(change: Callable[[Catalog], None]) -> None:
    play, grant = granted()
    change(play.catalog)
    step = again(play)
    assert (step.state, step.grant_id) == ("AWAITING_APPROVAL", "")
    assert play.snapshot.grants[grant.id].uses == 0


def test_no_grant_allows_what_is_denied() -> None:
    play, _ = granted()
    play.catalog.policy = replace(POLICY, rules=(Rule("stop", "DENY", ("write_*",)), *POLICY.rules))
    assert again(play).state == "REJECTED"


def test_nobody_grants_to_their_own_run_what_others_must_decide() -> None:
    play = asked(policy=with_rule(terms=ApprovalTerms(requester_excluded=True)))  # it is anna's run
    play.decide("APPROVE", by="boris", remember=SAME)
    [grant] = play.snapshot.grants.values()
    assert again(play).grant_id == grant.id
    play.snapshot.grants[grant.id] = replace(grant, creator="anna")  # as of a run of boris's
    assert again(play).state == "AWAITING_APPROVAL"


def test_a_grant_holds_in_later_runs_of_its_session() -> None:
    play, grant = granted()
    play.result()
    play.reply("done")
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    assert play.calls[-1].grant_id == grant.id


# Between the grant's yes and the dispatch


def granted_and_waiting() -> tuple[Play, Grant, Step]:
    """A call that a grant has allowed, and that no executor has room for."""
    play, grant = granted(remember=Remember(lifetime=HOUR))
    play.result()
    [model] = play.flying
    play.has_room = False
    play.reply("", call("write_file", path="a"), step=model)
    step = play.calls[-1]
    assert (step.state, step.grant_id) == ("APPROVED", grant.id)
    return play, grant, step


def revoke(play: Play, grant: Grant) -> None:
    play.do(lambda c: revoke_grant(c, c.snapshot.grants[grant.id], "boris", ""))


def run_out(play: Play, grant: Grant) -> None:
    play.now = grant.expire_time


@pytest.mark.parametrize("end", [revoke, run_out])
def test_a_call_whose_grant_ends_before_it_begins_is_asked_about(end: Callable[[Play, Grant], None]) -> None:
    play, grant, step = granted_and_waiting()
    end(play, grant)
    play.has_room = True
    play.do()
    step = play.snapshot.steps[step.id]
    assert (step.state, step.grant_id, [a.step_id for a in play.pending]) == ("AWAITING_APPROVAL", "", [step.id])
    assert step.dispatch_number == 0
    play.decide("APPROVE")
    assert play.snapshot.steps[step.id].state == "DISPATCHED"


def test_a_call_that_waits_goes_by_another_grant_when_its_own_has_ended_and_each_counts_once() -> None:
    play, grant, step = granted_and_waiting()
    another = replace(grant, id="another", create_time=grant.create_time - 1)
    play.snapshot.grants["another"] = another
    play.do()
    assert (play.snapshot.grants[grant.id].uses, play.snapshot.grants["another"].uses) == (1, 0)
    revoke(play, grant)
    play.has_room = True
    play.do()
    step = play.snapshot.steps[step.id]
    assert (step.state, step.grant_id) == ("DISPATCHED", "another")
    assert (play.snapshot.grants[grant.id].uses, play.snapshot.grants["another"].uses) == (1, 1)


def test_what_has_begun_by_a_grant_goes_on_when_the_grant_ends() -> None:
    play, grant = granted()
    step = again(play)
    revoke(play, grant)
    play.outcome("REFUSED", step)
    play.wait(60 * SECOND)
    assert play.snapshot.steps[step.id].state == "DISPATCHED"  # sent again: nothing had happened, it is the same use


def test_a_question_that_comes_of_a_changed_tool_is_not_remembered() -> None:
    play, _, step = granted_and_waiting()
    changed_schema(play.catalog)
    play.has_room = True
    play.do()
    assert [(a.step_id, a.may_remember) for a in play.pending] == [(step.id, False)]


# Ending one


def test_a_grant_that_was_revoked_allows_nothing_more_and_the_log_says_who_and_why() -> None:
    play, grant = granted()
    play.do(lambda c: revoke_grant(c, grant, "boris", "enough"))
    revoked = play.snapshot.grants[grant.id]
    assert (revoked.revoker, revoked.revoke_reason, revoked.revoke_time, revoked.end_time) == (
        "boris",
        "enough",
        play.now,
        play.now,
    )
    assert GrantChanged(revoked, "revoked", "boris") in play.events
    assert again(play).state == "AWAITING_APPROVAL"


def test_a_grant_is_revoked_once() -> None:
    play, grant = granted()
    play.do(lambda c: revoke_grant(c, grant, "anna", ""))
    change = play.change()
    with pytest.raises(WrongState) as refused:
        revoke_grant(change, play.snapshot.grants[grant.id], "anna", "")
    assert (refused.value.state, refused.value.accepting, change.is_empty) == ("REVOKED", ("STANDING",), True)


def test_a_grant_that_has_run_out_allows_nothing_is_found_once_and_cannot_be_revoked() -> None:
    play, grant = granted(remember=Remember(lifetime=HOUR))
    play.now += HOUR
    with pytest.raises(WrongState) as refused:
        revoke_grant(play.change(), grant, "anna", "")
    assert refused.value.state == "EXPIRED"
    assert again(play).state == "AWAITING_APPROVAL"
    play.do()
    ended = play.snapshot.grants[grant.id]
    assert (ended.end_time > grant.expire_time, ended.revoke_time) == (True, 0)
    expired = [e for e in play.events if isinstance(e, GrantChanged) and e.trigger == "expired"]
    assert expired == [GrantChanged(ended, "expired")]


def test_a_grant_can_be_revoked_in_a_closed_session() -> None:
    play, grant = granted()
    play.close()
    play.do(lambda c: revoke_grant(c, grant, "anna", ""))
    assert play.snapshot.grants[grant.id].revoke_time
    assert play.session.state == "CLOSED"
