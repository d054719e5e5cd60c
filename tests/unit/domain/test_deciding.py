"""Decisions: each kind with each action, what it leads to, and who wins."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.deciding import decide, is_repeat
from orchestrator.domain.errors import ActionNotAllowed, ApprovalAlreadyResolved, DigestMismatch, DomainError
from orchestrator.domain.events import ApprovalResolved
from orchestrator.domain.records import Decision
from tests.unit.domain.build import Play, call, draft, task

ACTIONS = ["APPROVE", "EDIT", "REJECT", "REQUEST_CHANGES", "RESPOND", "RETRY", "REPLAN", "SKIP", "ABORT"]


def plan_asked() -> Play:
    play = Play()
    play.submit(draft(task("a")))
    return play


def call_asked() -> Play:
    play = Play()
    play.approved_plan(task("a"))
    play.reply("", call("write_file", path="a"))
    return play


def doubt_asked() -> Play:
    play = Play()
    play.approved_plan(task("a"))
    play.reply("", call("send_mail"))
    play.outcome("LOST")
    return play


def failure_asked() -> Play:
    play = Play()
    play.approved_plan(task("a"))
    play.fail("FATAL")
    return play


KINDS: dict[str, tuple[Callable[[], Play], set[str]]] = {
    "PLAN": (plan_asked, {"APPROVE", "REQUEST_CHANGES", "REJECT", "ABORT"}),
    "TOOL_CALL": (call_asked, {"APPROVE", "EDIT", "REJECT", "RESPOND", "ABORT"}),
    "IN_DOUBT": (doubt_asked, {"RESPOND", "RETRY", "REJECT", "ABORT"}),
    "FAILURE": (failure_asked, {"RETRY", "REPLAN", "SKIP", "ABORT"}),
}
NEEDS: dict[str, dict[str, Any]] = {
    "RESPOND": {"response_json": '"sent"'},
    "EDIT": {"edited_arguments_json": '{"path": "b"}'},
    "REQUEST_CHANGES": {"feedback": "smaller steps"},
}


def refuse(play: Play, decision: Decision, error: type[DomainError]) -> DomainError:
    """The decision is refused, and nothing at all has changed."""
    approval = next(a for a in play.snapshot.approvals.values() if a.kind in KINDS)
    approval = play.pending[0] if play.pending else approval
    before, change = deepcopy(play.snapshot), play.change()
    with pytest.raises(error) as refused:
        decide(change, approval, decision, play.catalog)
    assert change.is_empty
    assert play.snapshot == before
    return refused.value


@pytest.mark.parametrize("action", [*ACTIONS, "", "approve", "NONSENSE"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_takes_its_actions_and_no_others(kind: str, action: str) -> None:
    make, allowed = KINDS[kind]
    play = make()
    [approval] = play.pending
    assert approval.kind == kind
    if action in allowed:
        play.decide(action, **NEEDS.get(action, {}))
        decided = play.snapshot.approvals[approval.id]
        assert decided.state == "RESOLVED"
        expected = Decision(action, "anna", play.now - 1, approval.digest, **NEEDS.get(action, {}))
        assert decided.decision is not None
        assert replace(decided.decision, edited_digest="") == expected
        return
    error = refuse(play, Decision(action, "anna", 1, approval.digest), ActionNotAllowed)
    assert isinstance(error, ActionNotAllowed)
    assert set(error.allowed) == allowed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_decision_about_another_digest_is_refused(kind: str, digest: str) -> None:
    play = KINDS[kind][0]()
    [approval] = play.pending
    error = refuse(play, Decision(approval.allowed_actions[0], "anna", 1, digest), DigestMismatch)
    assert isinstance(error, DigestMismatch)
    assert (error.expected, error.given) == (approval.digest, digest)


def test_the_second_decision_is_told_who_won_with_what() -> None:
    play = plan_asked()
    [approval] = play.pending
    play.decide("APPROVE")
    approval = play.snapshot.approvals[approval.id]
    change = play.change()
    with pytest.raises(ApprovalAlreadyResolved) as refused:
        decide(change, approval, Decision("REJECT", "boris", 1, approval.digest), play.catalog)
    assert (refused.value.action, refused.value.decided_by) == ("APPROVE", "anna")
    assert (refused.value.state, refused.value.decide_time) == ("RESOLVED", approval.resolve_time)
    assert "RESOLVED with APPROVE by anna" in str(refused.value)
    assert change.is_empty


def test_a_decision_on_what_a_cancel_closed_is_told_so() -> None:
    play = plan_asked()
    [approval] = play.pending
    play.cancel()
    with pytest.raises(ApprovalAlreadyResolved, match=r"already CANCELLED by anna$"):
        play.decide("APPROVE", play.snapshot.approvals[approval.id])


def test_only_the_same_person_saying_the_same_again_repeats_a_decision() -> None:
    play = plan_asked()
    [pending] = play.pending
    said = Decision("APPROVE", "anna", 1, pending.digest, "fine")
    assert not is_repeat(pending, said)
    play.do(lambda c: decide(c, pending, said, play.catalog))
    decided = play.snapshot.approvals[pending.id]
    assert is_repeat(decided, Decision("APPROVE", "anna", 99, pending.digest, "fine"))
    for other in (
        Decision("REJECT", "anna", 1, pending.digest, "fine"),
        Decision("APPROVE", "boris", 1, pending.digest, "fine"),
        Decision("APPROVE", "anna", 1, "another", "fine"),
        Decision("APPROVE", "anna", 1, pending.digest, "well"),
        Decision("APPROVE", "anna", 1, pending.digest, "fine", response_json="1"),
        Decision("APPROVE", "anna", 1, pending.digest, "fine", edited_arguments_json="{}"),
    ):
        assert not is_repeat(decided, other)


# --- what each leads to


def test_an_approved_plan_starts_and_nothing_of_it_before() -> None:
    play = plan_asked()
    assert (play.session.state, play.plan.state, play.steps) == ("PLAN_REVIEW", "DRAFT", [])
    play.decide("APPROVE")
    assert (play.session.state, play.plan.state, play.run.state) == ("PLAN_EXECUTION", "IN_PROGRESS", "RUNNING")
    assert [s.agent for s in play.flying] == ["coder"]
    assert 0 < play.plan.create_time < play.plan.approve_time == play.plan.start_time


def test_a_rejected_plan_ends_its_run_with_the_reason() -> None:
    play = plan_asked()
    play.decide("REJECT", feedback="too big")
    [run], [plan] = play.snapshot.runs.values(), play.snapshot.plans.values()
    assert (play.session.state, run.state, plan.state) == ("IDLE", "CANCELLED", "REJECTED")
    assert play.events[-2].reason == "too big"  # type: ignore[union-attr]  # run_finished
    assert play.subtask("a").state == "CANCELLED"


def test_an_approved_call_runs_once_and_uses_its_approval_up() -> None:
    play = call_asked()
    [approval] = play.pending
    play.decide("APPROVE")
    assert [s.tool for s in play.flying] == ["write_file"]
    assert play.snapshot.approvals[approval.id].consume_time == play.now


def test_a_rejected_call_never_runs_and_its_agent_goes_on() -> None:
    play = call_asked()
    play.decide("REJECT", feedback="not there")
    [step] = play.calls
    assert (step.state, step.failure.reason, step.dispatch_number) == ("REJECTED", "REJECTED", 0)
    assert [(s.kind, s.agent) for s in play.flying] == [("MODEL", "coder")]


def test_retry_takes_the_session_back_where_it_came_from() -> None:
    for agent, state in (("architect", "ARCHITECT_PLANNING"), ("coder", "EXECUTION")):
        play = Play()
        play.say(agent=agent)
        play.fail("FATAL")
        assert play.session.state == "ERROR_HANDLING"
        play.decide("RETRY")
        assert play.session.state == state
        assert len(play.flying) == 1
    play = failure_asked()
    play.decide("RETRY")
    assert (play.session.state, play.subtask("a").state, play.subtask("a").attempts) == ("PLAN_EXECUTION", "RUNNING", 2)


def test_the_session_leaves_error_handling_with_the_last_failure_only() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    for step in play.flying:
        play.fail("FATAL", step)
    first, second = play.pending
    play.decide("RETRY", first)
    assert (play.session.state, play.run.state) == ("ERROR_HANDLING", "RUNNING")
    play.decide("RETRY", second)
    assert play.session.state == "PLAN_EXECUTION"


@pytest.mark.parametrize("kind", KINDS)
def test_abort_cancels_the_run_with_everything_of_it(kind: str) -> None:
    play = KINDS[kind][0]()
    play.decide("ABORT", feedback="enough")
    [run], [plan] = play.snapshot.runs.values(), play.snapshot.plans.values()
    assert (play.session.state, run.state, plan.state) == ("IDLE", "CANCELLED", "CANCELLED")
    assert (play.pending, play.flying) == ([], [])
    assert (play.session.settled, play.session.runnable, play.session.due_time) == (True, False, 0)


def test_a_waiting_run_resumes_with_a_decision_and_says_who_made_it() -> None:
    play = plan_asked()
    assert (play.run.state, play.session.settled, play.session.runnable) == ("WAITING", True, False)
    change = play.decide("APPROVE")
    [resolved] = [e for e in change.events if isinstance(e, ApprovalResolved)]
    assert (resolved.action, resolved.decider, resolved.state) == ("APPROVE", "anna", "RESOLVED")
    assert (play.session.settled, play.session.runnable) == (False, True)


def test_a_decision_while_others_are_awaited_leaves_the_run_waiting() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("write_file", "c1", path="a"), call("run_command", "c2", command="x"))
    play.decide("REJECT")
    assert play.run.state == "WAITING"
    play.decide("REJECT")
    assert play.run.state == "RUNNING"


def test_an_approval_of_the_run_before_means_nothing_to_the_next() -> None:
    play = call_asked()
    [old] = play.pending
    play.decide("ABORT")
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    assert play.pending[0].digest != old.digest
    assert [s.state for s in play.calls] == ["CANCELLED", "AWAITING_APPROVAL"]
