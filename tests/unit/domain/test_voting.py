"""Where several people must say yes: what counts, who counts once, and what still decides alone."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.catalog import Policy, Rule
from orchestrator.domain.deciding import decide, is_repeat
from orchestrator.domain.digests import allows
from orchestrator.domain.errors import ApprovalAlreadyResolved, DigestMismatch, InvalidInput, SelfApproval
from orchestrator.domain.events import ApprovalRequested, ApprovalResolved, VoteRecorded
from orchestrator.domain.records import Approval, ApprovalTerms, Budget, Decision, ModelReply, Remember, Usage
from tests.unit.domain.build import POLICY, Play, call, catalog, task
from tests.unit.domain.terms import HOUR, asked, rule_with

TWO, THREE = ApprovalTerms(quorum=2), ApprovalTerms(quorum=3)
MORE = Budget(work_duration=3 * HOUR)


def now(play: Play, approval: Approval) -> Approval:
    return play.snapshot.approvals[approval.id]


@pytest.mark.parametrize("kind", ["PLAN", "TOOL_CALL", "BUDGET", "IN_DOUBT"])
def test_the_last_yes_that_is_needed_decides_and_those_before_change_nothing(kind: str) -> None:
    play = asked(kind, THREE)
    [approval] = play.pending
    action = "RETRY" if kind == "IN_DOUBT" else "APPROVE"
    said: dict[str, Any] = {"new_limit": MORE} if kind == "BUDGET" else {}
    for number, voter in enumerate(("anna", "boris"), start=1):
        before = play.run
        change = play.decide(action, approval, f"so says {voter}", by=voter, **said)
        assert change.events == [
            VoteRecorded(approval.id, kind, play.run.id, voter, action, f"so says {voter}", number, 3)
        ]
        assert (now(play, approval).state, play.run, play.session.settled) == ("PENDING", before, True)
        assert play.flying == []
        approval = now(play, approval)
    change = play.decide(action, approval, by="clara", **said)
    assert [type(e) for e in change.events[:2]] == [VoteRecorded, ApprovalResolved]
    decided = now(play, approval)
    assert decided.decision is not None
    assert (decided.state, decided.decision.decider, decided.decision.action) == ("RESOLVED", "clara", action)
    assert [(v.voter, v.action, v.feedback) for v in decided.votes] == [
        ("anna", action, "so says anna"),
        ("boris", action, "so says boris"),
        ("clara", action, ""),
    ]
    assert (play.run.state, play.session.runnable or play.session.due_time > 0) == ("RUNNING", True)


def test_one_person_has_one_vote() -> None:
    play = asked("TOOL_CALL", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna")
    voted = now(play, approval)
    assert is_repeat(voted, Decision("APPROVE", "anna", 5, approval.digest, "other words"))
    change = play.decide("APPROVE", voted, by="anna")
    assert change.events == []
    assert now(play, approval) == voted
    assert play.flying == []


def test_a_vote_is_no_repeat_of_anothers_or_of_another_answer() -> None:
    play = asked("BUDGET", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna", new_limit=MORE)
    voted = now(play, approval)
    said = Decision("APPROVE", "anna", 5, approval.digest, new_limit=MORE)
    assert is_repeat(voted, said)
    for other in (
        replace(said, decider="boris"),
        replace(said, action="REJECT", new_limit=None),
        replace(said, digest="another"),
        replace(said, new_limit=Budget(work_duration=4 * HOUR)),
    ):
        assert not is_repeat(voted, other)


def test_who_voted_is_answered_so_when_the_others_have_followed_and_not_when_they_have_not() -> None:
    play = asked("TOOL_CALL", TWO)
    [approval] = play.pending
    said = Decision("APPROVE", "anna", 5, approval.digest)
    play.decide("APPROVE", approval, by="anna")
    play.decide("APPROVE", now(play, approval), by="boris")
    assert is_repeat(now(play, approval), said)
    play = asked("TOOL_CALL", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna")
    play.decide("REJECT", now(play, approval), by="boris")
    assert not is_repeat(now(play, approval), replace(said, digest=approval.digest))
    with pytest.raises(ApprovalAlreadyResolved):
        play.decide("APPROVE", now(play, approval), by="anna")


@pytest.mark.parametrize("action", ["REJECT", "RESPOND", "ABORT"])
def test_any_other_answer_decides_at_once(action: str) -> None:
    play = asked("TOOL_CALL", THREE)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna")
    said: dict[str, Any] = {"response_json": '"done"'} if action == "RESPOND" else {}
    play.decide(action, now(play, approval), by="boris", **said)
    decided = now(play, approval)
    assert decided.decision is not None
    assert (decided.state, decided.decision.decider) == ("RESOLVED", "boris")
    assert [v.voter for v in decided.votes] == ["anna"]
    assert [s.dispatch_number for s in play.calls] == [0]


def test_who_voted_yes_may_still_say_no() -> None:
    play = asked("PLAN", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna")
    play.decide("REJECT", now(play, approval), by="anna")
    assert now(play, approval).state == "RESOLVED"
    assert [p.state for p in play.snapshot.plans.values()] == ["REJECTED"]


def test_a_vote_is_for_exactly_what_was_seen_and_by_who_may() -> None:
    play = asked("TOOL_CALL", replace(TWO, requester_excluded=True))
    [approval] = play.pending
    with pytest.raises(SelfApproval):
        play.decide("APPROVE", by="anna")
    with pytest.raises(DigestMismatch):
        decide(play.change(), approval, Decision("APPROVE", "boris", 1, "another"), play.catalog)
    assert now(play, approval).votes == []


def test_all_vote_for_the_same_limit() -> None:
    play = asked("BUDGET", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna", new_limit=MORE)
    for other in (Budget(work_duration=4 * HOUR), Budget(work_duration=2 * HOUR)):
        with pytest.raises(InvalidInput, match="new_limit: must be the one that anna voted for"):
            play.decide("APPROVE", now(play, approval), by="boris", new_limit=other)
    play.decide("APPROVE", now(play, approval), by="boris", new_limit=MORE)
    assert play.run.budget == MORE


def test_a_failure_takes_one_answer_whatever_the_quorum() -> None:
    play = asked("FAILURE", THREE)
    play.decide("RETRY")
    assert (play.pending, len(play.flying)) == ([], 1)


def test_an_edited_call_is_asked_about_anew_where_several_must_say_yes() -> None:
    play = asked("TOOL_CALL", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna")
    play.decide("EDIT", now(play, approval), by="boris", edited_arguments_json='{"path": "b"}')
    assert now(play, approval).state == "RESOLVED"
    old, new = play.calls
    assert (old.state, new.state, new.replaces_step_id) == ("EDITED", "AWAITING_APPROVAL", old.id)
    assert play.flying == []
    [again] = play.pending
    assert (again.earlier_approval_id, again.step_id, again.arguments_json) == (approval.id, new.id, '{"path": "b"}')
    assert (again.terms, again.votes) == (TWO, [])
    assert again.digest != approval.digest
    play.decide("APPROVE", again, by="boris")
    assert play.flying == []
    play.decide("APPROVE", now(play, again), by="anna")
    assert [s.arguments_json for s in play.flying] == ['{"path": "b"}']


def test_an_edit_is_its_own_yes_where_one_person_decides() -> None:
    play = asked("TOOL_CALL", ApprovalTerms(quorum=1))
    play.decide("EDIT", edited_arguments_json='{"path": "b"}')
    assert [s.arguments_json for s in play.flying] == ['{"path": "b"}']
    assert len([e for e in play.events if isinstance(e, ApprovalRequested)]) == 1


def test_too_few_votes_are_no_yes_whatever_the_row_says() -> None:
    play = asked("TOOL_CALL", TWO)
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna")
    play.has_room = False
    play.decide("APPROVE", now(play, approval), by="boris")
    [step] = play.calls
    decided = now(play, approval)
    assert allows(decided, step)
    assert not allows(replace(decided, votes=decided.votes[:1]), step)
    assert not allows(replace(decided, votes=decided.votes[:1] * 2), step)


def test_a_doubt_after_a_quorum_takes_the_same_quorum() -> None:
    play = Play(catalog(policy=rule_with(TWO)))
    play.say(agent="coder")
    play.reply("", call("run_command", command="make"))
    for who in ("anna", "boris"):
        play.decide("APPROVE", by=who)
    play.outcome("LOST")
    play.decide("RETRY", by="anna")
    assert [a.kind for a in play.pending] == ["IN_DOUBT"]
    play.decide("RETRY", by="boris")
    assert play.pending == []


def test_votes_for_a_limit_that_has_been_used_up_since_stand_in_nobodys_way() -> None:
    """What was in flight when it was asked goes on, and may use more than the first of them has voted for."""
    book = catalog(policy=replace(POLICY, terms={"BUDGET": TWO}))
    play = Play(book, budget=Budget(total_tokens=20)).approved_plan(task("a"), task("b"), parallel_limit=2)
    first, second = play.flying
    play.outcome(
        "SUCCEEDED", first, reply=ModelReply("", tool_calls=[call("index_files")]), usage=Usage(input_tokens=30)
    )
    [approval] = play.pending
    play.decide("APPROVE", approval, by="anna", new_limit=Budget(total_tokens=50))
    play.outcome("SUCCEEDED", second, reply=ModelReply("done"), usage=Usage(input_tokens=100))
    voted = now(play, approval)
    with pytest.raises(InvalidInput, match="must be more than"):
        play.decide("APPROVE", voted, by="boris", new_limit=Budget(total_tokens=50))
    play.decide("APPROVE", voted, by="boris", new_limit=Budget(total_tokens=500))
    assert [(v.voter, v.new_limit) for v in now(play, approval).votes] == [("boris", Budget(total_tokens=500))]
    play.decide("APPROVE", now(play, approval), by="anna", new_limit=Budget(total_tokens=500))
    assert (now(play, approval).state, play.run.budget.total_tokens) == ("RESOLVED", 500)


def test_an_edit_where_several_must_say_yes_to_what_policy_allows_anyway_runs() -> None:
    rules = (
        Rule("scratch", "ALLOW", ("write_file",), condition="arguments.path == 'scratch'"),
        Rule("changes", "ASK", ("write_file",), condition="arguments.path != 'scratch'", terms=TWO),
    )
    play = Play(catalog(policy=Policy("default", "policy-digest", rules)))
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    play.decide("EDIT", edited_arguments_json='{"path": "scratch"}')
    [step] = play.flying
    assert (step.arguments_json, step.policy_rule, step.approval_id, play.pending) == (
        '{"path": "scratch"}',
        "scratch",
        "",
        [],
    )


def test_an_edit_where_several_must_say_yes_to_what_they_have_granted_runs_by_the_grant() -> None:
    rules = (Rule("changes", "ASK", ("write_file",), remember=True, terms=TWO),)
    play = Play(catalog(policy=Policy("default", "policy-digest", rules)))
    play.say(agent="coder")
    play.reply("", call("write_file", path="known"))
    for voter in ("anna", "boris"):
        play.decide("APPROVE", play.pending[0], by=voter, remember=Remember("", HOUR))
    play.result()
    play.reply("", call("write_file", path="other"))
    play.decide("EDIT", edited_arguments_json=call("write_file", path="known").arguments_json)
    [step] = play.flying
    [grant] = play.snapshot.grants.values()
    assert (step.grant_id, step.approval_id, grant.uses, play.pending) == (grant.id, "", 1, [])
