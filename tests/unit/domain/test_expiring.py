"""What time does to a question: reminders, and what each kind comes to when nobody answers in time."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.deciding import decide
from orchestrator.domain.errors import ApprovalAlreadyResolved, DeciderNotAllowed
from orchestrator.domain.events import (
    ApprovalReminder,
    ApprovalRequested,
    ApprovalResolved,
    RunFinished,
    RunStateChanged,
)
from orchestrator.domain.records import Approval, ApprovalTerms, Decision
from tests.unit.domain.build import SECOND, Play, call, catalog, task
from tests.unit.domain.terms import HOUR, KINDS, asked, policy

MINUTE = 60 * SECOND
DENY = ApprovalTerms(wait=MINUTE, on_expiry="DENY")
HALT = ApprovalTerms(["lead"], 2, wait=MINUTE, on_expiry="HALT", remind_every=10 * SECOND)
ESCALATE = ApprovalTerms(["lead"], 2, wait=MINUTE, on_expiry="ESCALATE", escalation_roles=["director"])


def overdue(kind: str, terms: ApprovalTerms, **session: Any) -> tuple[Play, Approval]:
    """A play in which such a question has just expired, and that as it was."""
    play = asked(kind, terms, **session)
    [approval] = play.pending
    play.wait(approval.expire_time - play.now)
    return play, play.snapshot.approvals[approval.id]


def result(play: Play) -> tuple[str, str]:
    [step] = play.calls
    assert step.result is not None
    assert step.result.is_error
    return step.state, step.result.content


def reasons(play: Play) -> list[tuple[str, str, str]]:
    return [(e.state, e.decider, e.reason) for e in play.events if isinstance(e, ApprovalResolved)]


# --- when


@pytest.mark.parametrize("kind", KINDS)
def test_it_expires_when_its_time_is_up_and_not_before(kind: str) -> None:
    play = asked(kind, DENY)
    [approval] = play.pending
    assert approval.expire_time == approval.create_time + MINUTE
    assert (play.session.due_time, play.session.runnable) == (approval.expire_time, False)
    play.wait(approval.expire_time - play.now - 2)
    assert [a.id for a in play.pending] == [approval.id]
    play.wait(0)
    assert (play.pending, play.snapshot.approvals[approval.id].state) == ([], "EXPIRED")


@pytest.mark.parametrize("terms", [ApprovalTerms(), ApprovalTerms(wait=MINUTE), ApprovalTerms(on_expiry="DENY")])
def test_what_has_no_time_or_nothing_that_happens_then_waits_for_ever(terms: ApprovalTerms) -> None:
    play = asked("TOOL_CALL", terms)
    assert (play.pending[0].expire_time, play.session.due_time) == (0, 0)
    assert play.wait(10_000 * HOUR).events == []
    play.decide("APPROVE")
    assert len(play.flying) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_comes_when_the_time_is_up_is_too_late_though_nobody_has_looked(kind: str) -> None:
    play = asked(kind, replace(DENY, quorum=2))
    [approval] = play.pending
    for action in approval.allowed_actions:
        change = play.change()
        change.now = approval.expire_time
        with pytest.raises(ApprovalAlreadyResolved) as refused:
            decide(change, approval, Decision(action, "anna", 1, approval.digest), play.catalog)
        assert (refused.value.state, refused.value.decide_time) == ("EXPIRED", approval.expire_time)
        assert change.is_empty


def test_an_answer_just_in_time_counts() -> None:
    play = asked("TOOL_CALL", DENY)
    [approval] = play.pending
    play.now = approval.expire_time - 2
    play.decide("APPROVE")
    assert play.wait(HOUR).events == []
    assert play.snapshot.approvals[approval.id].state == "RESOLVED"


def test_one_look_sees_to_all_that_is_overdue() -> None:
    play = Play(catalog(policy=policy(DENY, "TOOL_CALL")))
    play.say(agent="coder")
    play.reply("", call("write_file", "c1", path="a"), call("write_file", "c2", path="b"))
    play.wait(HOUR)
    assert [s.state for s in play.calls] == ["REJECTED", "REJECTED"]
    assert [s.kind for s in play.flying] == ["MODEL"]


# --- DENY


def test_a_call_that_nobody_allowed_is_rejected_and_its_agent_reads_why() -> None:
    play, approval = overdue("TOOL_CALL", DENY)
    state, words = result(play)
    assert (state, "Nobody answered in time" in words) == ("REJECTED", True)
    assert approval.decision is None
    assert reasons(play) == [("EXPIRED", "", "nobody answered in time: so it is refused")]
    assert (play.run.state, [s.kind for s in play.flying]) == ("RUNNING", ["MODEL"])
    assert words in [m.text for m in play.seen().messages]


def test_a_question_that_nobody_answered_is_told_so_to_its_agent() -> None:
    play, _ = overdue("QUESTION", DENY)
    assert result(play) == ("REJECTED", "Nobody answered in time.")
    assert [m.text for m in play.seen().messages if m.role == "TOOL"] == ["Nobody answered in time."]


def test_a_plan_that_nobody_approved_ends_its_run() -> None:
    play, _ = overdue("PLAN", DENY)
    [run], [plan] = play.snapshot.runs.values(), play.snapshot.plans.values()
    assert (run.state, plan.state, play.session.state) == ("CANCELLED", "REJECTED", "IDLE")
    [finished] = [e for e in play.events if isinstance(e, RunFinished)]
    assert (finished.actor, finished.reason) == ("engine", "nobody answered in time")
    assert (play.session.due_time, play.session.settled) == (0, True)


def test_a_doubt_that_nobody_settled_is_given_up_and_never_repeated() -> None:
    play, _ = overdue("IN_DOUBT", DENY)
    state, words = result(play)
    assert (state, "not repeated" in words) == ("FAILED", True)
    assert [(s.kind, s.dispatch_number) for s in play.flying] == [("MODEL", 1)]


def test_a_limit_that_nobody_raised_ends_the_run_as_failed() -> None:
    play, _ = overdue("BUDGET", DENY)
    [run] = play.snapshot.runs.values()
    assert (run.state, run.failure.reason) == ("FAILED", "BUDGET_REACHED")
    assert "nobody answered in time" in run.failure.message


def test_a_failure_that_nobody_dealt_with_ends_the_run_with_it() -> None:
    play, _ = overdue("FAILURE", DENY)
    [run] = play.snapshot.runs.values()
    assert (run.state, run.failure.reason, play.session.state) == ("FAILED", "MODEL_FAILED", "IDLE")
    assert run.failure.message == "it broke (nobody answered in time what to do about it)"


def test_of_two_failures_the_first_to_expire_ends_the_run_and_closes_the_other() -> None:
    play = Play(catalog(policy=policy(DENY, "FAILURE")))
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    for step in play.flying:
        play.fail("FATAL", step)
    first, second = play.pending
    play.wait(HOUR)
    states = [play.snapshot.approvals[a.id].state for a in (first, second)]
    assert states == ["EXPIRED", "CANCELLED"]
    assert [r.state for r in play.snapshot.runs.values()] == ["FAILED"]


# --- HALT


@pytest.mark.parametrize("kind", KINDS)
def test_a_halt_pauses_the_run_and_asks_the_same_for_as_long_as_it_takes(kind: str) -> None:
    play, approval = overdue(kind, HALT)
    assert approval.state == "EXPIRED"
    [again] = play.pending
    assert (again.kind, again.digest, again.preview, again.earlier_approval_id) == (
        kind,
        approval.digest,
        approval.preview,
        approval.id,
    )
    assert again.terms == replace(HALT, wait=0, on_expiry="NEVER")
    assert (again.expire_time, again.create_time, again.requester) == (0, play.now, "anna")
    assert (play.run.state, play.session.settled) == ("PAUSED", True)
    assert play.run.pause is not None
    assert play.run.pause.requester == "engine"
    assert "nobody answered in time" in play.run.pause.reason
    assert play.flying == []


def test_what_is_answered_while_halted_is_done_when_the_run_goes_on() -> None:
    play, _ = overdue("TOOL_CALL", replace(HALT, quorum=1))
    play.decide("APPROVE", roles=["lead"])
    assert (play.run.state, play.flying) == ("PAUSED", [])
    play.resume()
    assert [s.tool for s in play.flying] == ["write_file"]
    [step] = play.calls
    used = [a.id for a in play.snapshot.approvals.values() if a.consume_time]
    assert used == [step.approval_id]


def test_a_halted_run_that_goes_on_still_waits_for_its_answer() -> None:
    play, _ = overdue("TOOL_CALL", HALT)
    play.resume()
    assert (play.run.state, len(play.pending), play.flying) == ("WAITING", 1, [])


def test_a_halt_lets_what_is_in_flight_end_first() -> None:
    play = Play(catalog(policy=policy(HALT, "TOOL_CALL")))
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    a, b = play.flying
    play.reply("", call("write_file", path="a"), step=a)
    play.wait(HOUR)
    assert (play.run.state, [s.id for s in play.flying]) == ("RUNNING", [b.id])
    play.reply("b is done", step=b)
    assert (play.run.state, play.flying) == ("PAUSED", [])


# --- ESCALATE


@pytest.mark.parametrize("kind", KINDS)
def test_an_escalation_asks_the_same_of_others_for_as_long(kind: str) -> None:
    play, approval = overdue(kind, ESCALATE)
    state = play.run.state
    [again] = play.pending
    assert (approval.state, again.digest, again.earlier_approval_id) == ("EXPIRED", approval.digest, approval.id)
    assert again.terms == replace(ESCALATE, roles=["director"], on_expiry="HALT", escalation_roles=[])
    assert again.expire_time == play.now + MINUTE == play.session.due_time
    assert (state, play.session.settled) == ("WAITING", True)
    with pytest.raises(DeciderNotAllowed):
        play.decide("ABORT", roles=["lead"])
    play.wait(HOUR)
    [last] = play.pending
    assert (play.run.state, last.terms.roles, last.expire_time) == ("PAUSED", ["director"], 0)
    play.decide("ABORT", roles=["director"])
    assert play.pending == []


def test_an_escalation_to_nobody_lets_nobody_else_decide() -> None:
    play, _ = overdue("TOOL_CALL", replace(ESCALATE, escalation_roles=[]))
    assert play.pending[0].terms.roles == ["lead"]


def test_votes_for_what_expired_count_for_nothing() -> None:
    play = asked("TOOL_CALL", ESCALATE)
    [approval] = play.pending
    play.decide("APPROVE", by="anna", roles=["lead"])
    play.wait(MINUTE)
    [again] = play.pending
    assert again.votes == []
    assert [v.voter for v in play.snapshot.approvals[approval.id].votes] == ["anna"]
    play.decide("APPROVE", again, by="boris", roles=["director"])
    assert play.flying == []
    play.decide("APPROVE", play.pending[0], by="clara", roles=["director"])
    assert [s.tool for s in play.flying] == ["write_file"]


# --- while the run is held


@pytest.mark.parametrize("terms", [DENY, ESCALATE, HALT])
def test_a_question_expires_though_its_run_is_paused_and_stays_so(terms: ApprovalTerms) -> None:
    play = asked("TOOL_CALL", terms)
    [approval] = play.pending
    play.pause()
    assert (play.run.state, play.session.due_time) == ("PAUSED", approval.remind_time or approval.expire_time)
    play.wait(HOUR)
    assert play.snapshot.approvals[approval.id].state == "EXPIRED"
    assert (play.run.state, play.flying) == ("PAUSED", [])
    assert play.run.pause is not None
    assert play.run.pause.requester == "anna"
    assert [e.trigger for e in play.events if isinstance(e, RunStateChanged)] == ["waiting", "paused"]


def test_a_queued_session_still_minds_the_time() -> None:
    play = asked("TOOL_CALL", DENY)
    play.may_run = False
    play.wait(HOUR)
    assert [s.state for s in play.calls] == ["REJECTED"]
    assert (play.run.state, play.run.waits_for) == ("RESUMED", "RUNS_PER_TENANT")


# --- reminders


def reminders(play: Play) -> list[tuple[int, int]]:
    return [(e.number, e.expire_time) for e in play.events if isinstance(e, ApprovalReminder)]


def test_people_are_reminded_as_often_as_the_terms_say_until_it_expires() -> None:
    play = asked("PLAN", replace(DENY, remind_every=25 * SECOND))
    [approval] = play.pending
    due = []
    while play.pending:
        due.append(play.session.due_time - approval.create_time)
        play.wait(play.session.due_time - play.now)
    assert due == [25 * SECOND, 50 * SECOND, MINUTE]
    assert reminders(play) == [(1, approval.expire_time), (2, approval.expire_time)]
    assert play.snapshot.approvals[approval.id].reminders == 2


def test_a_reminder_changes_nothing_else() -> None:
    play = asked("TOOL_CALL", ApprovalTerms(remind_every=MINUTE))
    run, steps = play.run, play.steps
    change = play.wait(MINUTE)
    assert [type(e) for e in change.events] == [ApprovalReminder]
    assert (play.run, play.steps, play.session.settled) == (run, steps, True)
    assert play.session.due_time == play.pending[0].remind_time
    play.pause()
    assert [type(e) for e in play.wait(MINUTE).events] == [ApprovalReminder]


def test_reminders_that_nobody_was_there_for_are_not_caught_up_on() -> None:
    play = asked("TOOL_CALL", ApprovalTerms(remind_every=MINUTE))
    [approval] = play.pending
    play.wait(approval.create_time + 3 * HOUR + SECOND - play.now)
    assert [number for number, _ in reminders(play)] == [1]
    assert play.pending[0].remind_time == approval.create_time + 3 * HOUR + MINUTE


def test_a_hundred_reminders_are_enough() -> None:
    play = asked("TOOL_CALL", ApprovalTerms(remind_every=SECOND))
    for _ in range(110):
        play.wait(SECOND)
    assert [number for number, _ in reminders(play)] == list(range(1, 101))
    assert (play.pending[0].remind_time, play.session.due_time) == (0, 0)


def test_nobody_is_reminded_of_what_was_answered() -> None:
    play = asked("PLAN", ApprovalTerms(remind_every=MINUTE))
    play.decide("APPROVE")
    play.wait(HOUR)
    assert reminders(play) == []


def test_each_asking_has_reminders_of_its_own() -> None:
    play = asked("TOOL_CALL", HALT)
    [asked_first] = play.pending
    play.wait(10 * SECOND)
    play.wait(MINUTE)
    approval = play.snapshot.approvals[asked_first.id]
    [again] = play.pending
    assert (approval.reminders, again.reminders) == (1, 0)
    assert again.remind_time == again.create_time + 10 * SECOND
    assert len([e for e in play.events if isinstance(e, ApprovalRequested)]) == 2


@pytest.mark.parametrize("every", [MINUTE, HOUR])
def test_there_is_no_reminder_of_what_has_expired_by_then(every: int) -> None:
    play = asked("TOOL_CALL", replace(DENY, remind_every=every))
    assert play.pending[0].remind_time == 0
