"""Who may decide: the terms a question is asked on, and who they let answer it."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.catalog import Policy
from orchestrator.domain.deciding import decide
from orchestrator.domain.errors import ApprovalAlreadyResolved, DeciderNotAllowed, DigestMismatch, SelfApproval
from orchestrator.domain.events import ApprovalRequested
from orchestrator.domain.records import ApprovalTerms, Budget, Decision
from tests.unit.domain.build import AGENTS, Play, call, catalog, draft, plan_answer, task
from tests.unit.domain.terms import HOUR, KINDS, asked, policy, rule_with

LEADS = ApprovalTerms(roles=["lead", "owner"])
OTHERS = ApprovalTerms(requester_excluded=True)
NEEDS: dict[tuple[str, str], dict[str, Any]] = {
    ("QUESTION", "RESPOND"): {"response_json": '"this one"'},
    ("BUDGET", "APPROVE"): {"new_limit": Budget(work_duration=3 * HOUR)},
}


def refused(play: Play, error: type[Exception], action: str, by: str, roles: frozenset[str] = frozenset()) -> Exception:
    """The decision is refused, and nothing at all has changed."""
    [approval] = play.pending
    before, change = deepcopy(play.snapshot), play.change()
    with pytest.raises(error) as caught:
        decide(change, approval, Decision(action, by, play.now, approval.digest), play.catalog, roles)
    assert change.is_empty
    assert play.snapshot == before
    return caught.value


# --- which terms


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_is_asked_on_the_terms_that_the_policy_has_for_its_kind(kind: str) -> None:
    play = asked(kind, LEADS)
    [approval] = play.pending
    assert approval.terms == LEADS
    assert [e.approval.terms for e in play.events if isinstance(e, ApprovalRequested)] == [LEADS]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_asked_in_the_name_of_whose_run_it_is(kind: str) -> None:
    [approval] = asked(kind, ApprovalTerms()).pending
    assert approval.requester == "anna"
    if kind not in ("PLAN", "BUDGET"):
        assert approval.preview.agent == "coder"


def test_a_call_is_asked_about_on_the_terms_of_the_rule_that_asks() -> None:
    play = Play(catalog(policy=rule_with(LEADS, TOOL_CALL=OTHERS)))
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    [approval] = play.pending
    assert (approval.terms, approval.policy_rule) == (LEADS, "changes")


def test_a_call_that_no_rule_speaks_of_has_the_terms_of_calls() -> None:
    play = Play(catalog(policy=rule_with(LEADS, TOOL_CALL=OTHERS)))
    play.say(agent="coder")
    play.reply("", call("format_disk"))
    assert play.pending[0].terms == OTHERS
    play = Play(catalog(policy=rule_with(None, TOOL_CALL=OTHERS)))
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    assert play.pending[0].terms == OTHERS


def test_a_doubt_has_the_terms_of_its_calls_rule() -> None:
    play = Play(catalog(policy=rule_with(LEADS, IN_DOUBT=OTHERS, TOOL_CALL=OTHERS)))
    play.say(agent="coder")
    play.reply("", call("run_command", command="make"))
    play.decide("APPROVE", roles=["lead"])
    play.outcome("LOST")
    [doubt] = play.pending
    assert (doubt.kind, doubt.terms, doubt.policy_rule) == ("IN_DOUBT", LEADS, "changes")


def test_a_doubt_about_a_call_whose_rule_is_gone_has_the_terms_it_was_asked_on() -> None:
    play = Play(catalog(policy=rule_with(LEADS)))
    play.say(agent="coder")
    play.reply("", call("run_command", command="make"))
    play.decide("APPROVE", roles=["lead"])
    play.catalog.policy = Policy()
    play.outcome("LOST")
    assert play.pending[0].terms == LEADS


def test_what_the_policy_says_later_changes_no_open_question() -> None:
    play = asked("TOOL_CALL", LEADS)
    play.catalog.policy = policy(ApprovalTerms(), "TOOL_CALL")
    play.wait(HOUR)
    assert play.pending[0].terms == LEADS
    refused(play, DeciderNotAllowed, "APPROVE", "boris")


def test_a_session_whose_policy_is_gone_asks_on_the_defaults_terms() -> None:
    play = Play(catalog(policy=policy(LEADS, *KINDS)), policy="gone")
    play.say(agent="coder")
    play.reply("", call("send_mail"))
    assert (play.pending[0].policy_rule, play.pending[0].terms) == ("policy-gone", LEADS)
    refused(play, DeciderNotAllowed, "APPROVE", "boris")


def test_a_session_whose_policy_is_gone_asks_about_plans_and_of_failures_on_the_defaults_terms() -> None:
    play = Play(catalog(policy=policy(LEADS, *KINDS)), policy="gone")
    play.submit(draft(task("a")))
    refused(play, DeciderNotAllowed, "APPROVE", "boris")
    play.decide("APPROVE", roles=["lead"])
    play.fail("FATAL")
    assert (play.pending[0].kind, play.pending[0].terms) == ("FAILURE", LEADS)


# --- roles


@pytest.mark.parametrize("roles", [[], ["developer"], ["Lead"], ["lead "], [""]])
def test_who_holds_none_of_the_roles_may_not_decide_in_any_way(roles: list[str]) -> None:
    for kind in KINDS:
        play = asked(kind, LEADS)
        for action in play.pending[0].allowed_actions:
            error = refused(play, DeciderNotAllowed, action, "boris", frozenset(roles))
            assert isinstance(error, DeciderNotAllowed)
            assert (error.decider, error.roles) == ("boris", ("lead", "owner"))


@pytest.mark.parametrize("roles", [["lead"], ["owner", "developer"], ["*"]])
@pytest.mark.parametrize("kind", KINDS)
def test_one_of_the_roles_does(kind: str, roles: list[str]) -> None:
    play = asked(kind, LEADS)
    [approval] = play.pending
    action = approval.allowed_actions[0] if kind != "IN_DOUBT" else "RETRY"
    play.decide(action, roles=roles, **NEEDS.get((kind, action), {}))
    assert play.snapshot.approvals[approval.id].state == "RESOLVED"


def test_who_may_not_decide_is_told_that_whatever_else_is_wrong() -> None:
    play = asked("PLAN", LEADS)
    [approval] = play.pending
    wrong = Decision("SKIP", "boris", play.now, "another digest")
    with pytest.raises(DeciderNotAllowed):
        decide(play.change(), approval, wrong, play.catalog)
    said = replace(wrong, action="APPROVE")
    with pytest.raises(DigestMismatch):
        decide(play.change(), approval, said, play.catalog, frozenset(["lead"]))


def test_what_is_settled_is_told_before_who_might_have_decided() -> None:
    play = asked("PLAN", LEADS)
    [approval] = play.pending
    play.cancel()
    with pytest.raises(ApprovalAlreadyResolved):
        play.decide("APPROVE", play.snapshot.approvals[approval.id])


# --- the requester


@pytest.mark.parametrize("kind", KINDS)
def test_who_asked_for_the_run_may_not_decide_where_they_are_excluded(kind: str) -> None:
    play = asked(kind, OTHERS)
    [approval] = play.pending
    for action in approval.allowed_actions:
        error = refused(play, SelfApproval, action, "anna", frozenset(["*"]))
        assert "anna asked for what approval" in str(error)
    action = approval.allowed_actions[0] if kind != "IN_DOUBT" else "RETRY"
    play.decide(action, by="boris", **NEEDS.get((kind, action), {}))
    assert play.snapshot.approvals[approval.id].state == "RESOLVED"


@pytest.mark.parametrize("kind", KINDS)
def test_where_nobody_is_excluded_the_requester_may(kind: str) -> None:
    play = asked(kind, ApprovalTerms())
    play.decide("ABORT", by="anna")
    assert play.pending == []


def test_who_wrote_the_plan_may_not_approve_it_though_the_run_is_anothers() -> None:
    play = Play(catalog(policy=policy(OTHERS, "PLAN")))
    play.submit(draft(task("a")))
    play.snapshot.plans[play.plan.id] = replace(play.plan, author="boris")
    assert "boris wrote the plan that approval" in str(refused(play, SelfApproval, "APPROVE", "boris"))
    assert "anna asked for what approval" in str(refused(play, SelfApproval, "APPROVE", "anna"))
    play.decide("APPROVE", by="clara")
    assert play.plan.state == "IN_PROGRESS"


def test_an_agents_plan_excludes_only_who_asked_for_the_run() -> None:
    play = Play(catalog(agents=AGENTS, policy=policy(OTHERS, "PLAN")))
    play.say(agent="architect")
    play.reply(plan_answer())
    refused(play, SelfApproval, "APPROVE", "anna")
    play.decide("APPROVE", by="boris")
    assert play.plan.state == "IN_PROGRESS"
