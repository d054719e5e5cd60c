"""A draft is revised by a person, or by the architect whom one asks for changes; what is approved is one version."""

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.deciding import decide
from orchestrator.domain.errors import (
    ApprovalAlreadyResolved,
    DigestMismatch,
    InvalidInput,
    InvalidPlan,
    SelfApproval,
    StaleVersion,
    WrongState,
)
from orchestrator.domain.events import AttemptSuperseded, PlanDrafted, PlanStateChanged, SessionStateChanged
from orchestrator.domain.records import ApprovalTerms, Decision, ExpectedArtifact, RetryPolicy
from tests.unit.domain.build import AGENTS, POLICY, Play, call, catalog, draft, plan_answer, route_answer, task


def drafted() -> Play:
    """An architect's plan is asked about."""
    play = Play()
    play.say()
    play.reply(route_answer())
    play.reply(plan_answer(task("a"), task("b", "a")))
    return play


def submitted() -> Play:
    """A client's."""
    play = Play()
    play.submit(draft(task("a"), task("b", "a")))
    return play


# --- a person edits


def test_a_revised_draft_is_a_new_version_with_a_question_of_its_own() -> None:
    play = submitted()
    first, [question] = play.plan, play.pending
    play.revise(draft(task("c"), task("a", "c", agent="ask"), parallel_limit=2))
    second, [asked] = play.plan, play.pending
    assert (second.version, second.state, second.author, second.parallel_limit) == (2, "DRAFT", "boris", 2)
    assert second.digest == asked.digest != first.digest
    assert (asked.kind, asked.plan_id, asked.plan_version) == ("PLAN", second.id, 2)
    assert asked.earlier_approval_id == question.id
    assert play.snapshot.plans[first.id].state == "SUPERSEDED"
    assert play.snapshot.approvals[question.id].state == "SUPERSEDED"
    assert {s.state for s in play.snapshot.subtasks.values() if s.plan_id == first.id} == {"CANCELLED"}
    mine = [s for s in play.snapshot.subtasks.values() if s.plan_id == second.id]
    assert [(s.key, s.agent, s.position) for s in mine] == [("c", "coder", 1), ("a", "ask", 2)]
    assert (play.session.state, play.run.state) == ("PLAN_REVIEW", "WAITING")
    assert play.triggers(SessionStateChanged)[-1] == "plan_revised"


def test_only_the_newest_version_is_carried_out() -> None:
    play = submitted()
    play.revise(draft(task("z")))
    play.decide("APPROVE")
    assert [play.snapshot.subtasks[s.subtask_id].key for s in play.flying] == ["z"]


def test_nobody_approves_a_version_they_have_not_seen() -> None:
    play = submitted()
    [old] = play.pending
    play.revise(draft(task("z")))
    [new] = play.pending
    with pytest.raises(ApprovalAlreadyResolved) as refused:
        play.decide("APPROVE", play.snapshot.approvals[old.id])
    assert refused.value.state == "SUPERSEDED"
    seen = Decision("APPROVE", "anna", 1, old.digest)
    with pytest.raises(DigestMismatch):
        decide(play.change(), new, seen, play.catalog)


def test_the_draft_of_a_queued_run_is_revised_and_asked_about_when_its_turn_comes() -> None:
    play = Play()
    play.say(agent="ask")
    play.submit(draft(task("a")))
    [waiting] = [p for p in play.snapshot.plans.values() if p.state == "DRAFT"]
    play.revise(draft(task("z")), waiting)
    assert (play.pending, play.session.state) == ([], "EXECUTION")
    play.reply("done")
    [asked] = play.pending
    assert (asked.plan_version, play.plan.version, play.session.state) == (2, 2, "PLAN_REVIEW")


def test_a_draft_of_a_paused_run_is_revised_and_the_run_stays_paused() -> None:
    play = submitted()
    play.pause()
    play.revise(draft(task("z")))
    assert (play.run.state, play.plan.version) == ("PAUSED", 2)
    assert len(play.pending) == 1


def test_the_goal_stays_unless_another_one_is_given() -> None:
    play = submitted()
    play.revise(draft(task("z")))
    assert play.run.goal == "the goal"
    play.revise(draft(task("z")), goal="another one")
    assert play.run.goal == "another one"


def test_who_edited_an_older_version_learns_the_newest() -> None:
    play = submitted()
    first = play.plan
    play.revise(draft(task("z")), digest=first.digest)
    newest = play.plan
    for version in (first, newest):
        with pytest.raises(StaleVersion) as refused:
            play.revise(draft(task("y")), version, digest=first.digest)
        assert (refused.value.newest_id, refused.value.newest_digest) == (newest.id, newest.digest)
    with pytest.raises(WrongState):
        play.revise(draft(task("y")), first)
    assert play.plan == newest


@pytest.mark.parametrize("action", ["APPROVE", "REQUEST_CHANGES"])
def test_what_is_decided_is_no_draft_any_more(action: str) -> None:
    play = submitted()
    play.decide(action, feedback="why")
    before = play.plan
    with pytest.raises(WrongState) as refused:
        play.revise(draft(task("z")))
    assert refused.value.accepting == ("DRAFT",)
    assert play.plan == before


def test_a_revision_that_is_no_plan_changes_nothing() -> None:
    play = submitted()
    before, events = play.plan, len(play.events)
    with pytest.raises(InvalidPlan) as refused:
        play.revise(draft(task("a", "b"), task("b", "a")))
    assert "cycle" in str(refused.value)
    assert (play.plan, len(play.events)) == (before, events)


def test_how_many_may_run_at_once_is_shown_to_who_decides() -> None:
    play = submitted()
    assert "at the same time" not in play.pending[0].preview.text
    play.revise(draft(task("a"), parallel_limit=3))
    assert "Up to 3 subtasks at the same time." in play.pending[0].preview.text


def test_a_revision_that_could_never_start_is_no_plan() -> None:
    play = submitted()
    with pytest.raises(InvalidPlan, match="parallel_limit"):
        play.revise(draft(task("a"), parallel_limit=0))


def test_what_a_revision_says_of_retries_is_part_of_its_digest() -> None:
    play = submitted()
    play.revise(draft(task("a")))
    digest = play.plan.digest
    play.revise(draft(replace(task("a"), retry_policy=RetryPolicy(max_attempts=1))))
    assert play.plan.digest != digest
    assert play.subtask("a").retry_policy == RetryPolicy(max_attempts=1)


def reviewed_on(**terms: Any) -> Play:
    """Plans are asked about on these terms."""
    play = Play(catalog(policy=replace(POLICY, terms={"PLAN": ApprovalTerms(**terms)})))
    play.submit(draft(task("a")))
    return play


def test_votes_for_a_version_are_no_votes_for_the_next() -> None:
    play = reviewed_on(quorum=2)
    play.decide("APPROVE")
    assert len(play.pending[0].votes) == 1
    play.revise(draft(task("z")))
    [asked] = play.pending
    assert asked.votes == []
    play.decide("APPROVE")
    assert play.plan.state == "DRAFT", "one of two"


def test_who_revised_a_plan_does_not_approve_it_where_its_author_may_not() -> None:
    play = reviewed_on(requester_excluded=True)
    play.revise(draft(task("z")))
    [asked] = play.pending
    seen = Decision("APPROVE", "boris", 1, asked.digest)
    with pytest.raises(SelfApproval):
        decide(play.change(), asked, seen, play.catalog)


# --- a person asks for changes


def test_the_architect_drafts_anew_with_its_own_draft_and_what_was_said() -> None:
    play = drafted()
    first = play.plan
    play.decide("REQUEST_CHANGES", feedback="test it first")
    assert (play.session.state, play.plan.state) == ("ARCHITECT_PLANNING", "SUPERSEDED")
    assert play.triggers(SessionStateChanged)[-1] == "changes_requested"
    seen = play.seen()
    assert seen.purpose == "PLANNING"
    assert [m.role for m in seen.messages] == ["SYSTEM", "USER", "ASSISTANT", "USER"]
    assert seen.messages[2].text == plan_answer(task("a"), task("b", "a"))
    assert "asks for changes: test it first" in seen.messages[3].text
    assert "Instructions for a" not in seen.messages[3].text, "it has its own draft before it"
    play.reply(plan_answer(task("tests"), task("a", "tests")))
    assert (play.plan.version, play.plan.state, play.session.state) == (2, "DRAFT", "PLAN_REVIEW")
    assert play.plan.digest != first.digest
    assert [a.kind for a in play.pending] == ["PLAN"]


def test_changes_may_be_asked_again_and_again_and_each_is_heeded_once() -> None:
    play = drafted()
    play.decide("REQUEST_CHANGES", feedback="test it first")
    play.reply(plan_answer(task("tests")))
    play.decide("REQUEST_CHANGES", feedback="and write it down")
    words = [m.text for m in play.seen().messages]
    assert sum("test it first" in w for w in words) == sum("and write it down" in w for w in words) == 1
    play.reply(plan_answer(task("docs")))
    assert play.plan.version == 3


def test_of_a_plan_that_somebody_else_wrote_the_architect_sees_every_word() -> None:
    play = submitted()
    play.decide("REQUEST_CHANGES", feedback="smaller steps")
    assert play.flying[0].agent == "architect"
    words = play.seen().messages[-1].text
    shown = json.loads(words[words.index("{") : words.rindex("}") + 1])
    assert [s["key"] for s in shown["subtasks"]] == ["a", "b"]
    assert "smaller steps" in words
    play.reply(plan_answer(task("c")))
    assert (play.plan.version, play.plan.author) == (2, "architect")


def test_what_an_architect_cannot_write_of_a_subtask_stays_with_its_key() -> None:
    play = Play()
    expected = (ExpectedArtifact("report", path="report.md"),)
    strict = replace(task("a"), retry_policy=RetryPolicy(max_attempts=1), artifacts=expected, gates=("review",))
    play.submit(draft(strict, task("b")))
    play.decide("REQUEST_CHANGES", feedback="smaller steps")
    assert "keeps the files it must leave, their gates and its retries" in play.seen().messages[-1].text
    play.reply(plan_answer(task("a", agent="ask"), task("c")))
    kept, new = play.subtask("a"), play.subtask("c")
    assert (kept.agent, kept.retry_policy, kept.gates) == ("ask", RetryPolicy(max_attempts=1), ["review"])
    assert tuple(kept.artifacts) == expected
    assert (new.retry_policy, new.gates, new.artifacts) == (None, [], [])


def test_of_its_own_draft_that_somebody_revised_the_architect_sees_what_it_became() -> None:
    play = drafted()
    play.revise(draft(task("z")))
    play.decide("REQUEST_CHANGES", feedback="smaller steps")
    assert '"key": "z"' in play.seen().messages[-1].text


def test_the_next_try_after_a_fault_is_told_of_the_fault_and_has_the_wish_before_it() -> None:
    play = drafted()
    play.decide("REQUEST_CHANGES", feedback="test it first")
    while play.run.retries == 0:
        play.fail("RETRYABLE")
        play.wait(play.session.due_time - play.now)
    words = [m.text for m in play.seen().messages if m.role == "USER"]
    assert sum("test it first" in w for w in words) == 1
    assert words[-1].startswith("The try before failed")


def test_the_words_of_the_draft_before_no_longer_count() -> None:
    play = drafted()
    play.decide("REQUEST_CHANGES", feedback="test it first")
    [told] = [e for e in play.events if isinstance(e, AttemptSuperseded)]
    assert told.reason == "a person asked for changes"


@pytest.mark.parametrize("feedback", ["", "  \n"])
def test_to_ask_for_changes_is_to_say_which(feedback: str) -> None:
    play = drafted()
    with pytest.raises(InvalidInput) as refused:
        play.decide("REQUEST_CHANGES", feedback=feedback)
    assert [v.field for v in refused.value.violations] == ["feedback"]
    assert len(play.pending) == 1


def test_changes_are_offered_only_where_an_architect_can_make_them() -> None:
    play = Play(catalog(agents=[a for a in AGENTS if a.name != "architect"]))
    play.submit(draft(task("a")))
    assert play.pending[0].allowed_actions == ["APPROVE", "REJECT", "ABORT"]


def test_changes_asked_of_a_paused_run_are_made_when_it_is_resumed() -> None:
    play = drafted()
    play.pause()
    play.decide("REQUEST_CHANGES", feedback="test it first")
    assert (play.run.state, play.session.state, play.flying) == ("PAUSED", "ARCHITECT_PLANNING", [])
    play.resume()
    assert "test it first" in play.seen().messages[-1].text


def test_an_architect_that_fails_at_the_changes_asks_a_person() -> None:
    play = drafted()
    play.decide("REQUEST_CHANGES", feedback="test it first")
    play.fail("FATAL")
    assert (play.session.state, [a.kind for a in play.pending]) == ("ERROR_HANDLING", ["FAILURE"])
    play.decide("RETRY", feedback="use fewer steps")
    assert "use fewer steps" in play.seen().messages[-1].text
    play.reply(plan_answer(task("c")))
    assert play.plan.version == 2


# --- and otherwise a plan stays what it is


def test_after_its_approval_a_plan_is_never_drafted_a_second_time_by_itself() -> None:
    """Pain: after a tool approval the plan was made and put up for approval a second time."""
    play = drafted()
    play.decide("APPROVE")
    for subtask in ("a", "b"):
        play.reply("", call("write_file", path=subtask))
        play.decide("APPROVE")
        play.result()
        play.reply("", call("write_file", path=subtask))
        play.decide("REJECT", feedback="no more")
        play.reply("done")
    assert play.session.state == "COMPLETED"
    assert sum(isinstance(e, PlanDrafted) for e in play.events) == 1
    assert play.triggers(PlanStateChanged) == ["approved", "started", "completed"]
