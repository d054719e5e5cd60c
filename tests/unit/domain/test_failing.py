"""What has failed for good is tried again, skipped or planned anew; nothing that is done is done twice."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.digests import plan_preimage
from orchestrator.domain.errors import ApprovalAlreadyResolved
from orchestrator.domain.events import PlanStateChanged, SessionStateChanged, StepFinished, SubtaskStateChanged
from orchestrator.domain.records import Approval, Step
from tests.unit.domain.build import AGENTS, CLIENT_TOOLS, Play, call, catalog, draft, plan_answer, task


def step_of(play: Play, key: str) -> Step:
    return next(s for s in play.flying if s.subtask_id == play.subtask(key).id)


def failure_of(play: Play, key: str) -> Approval:
    return next(a for a in play.pending if a.kind == "FAILURE" and a.subtask_id == play.subtask(key).id)


def working(play: Play) -> list[str]:
    return [s.key for s in play.snapshot.subtasks.values() if s.state == "RUNNING"]


def failed() -> Play:
    """`a` is done, `b` has failed, `c` and `d` depend on it, `e` on nothing."""
    play = Play()
    play.approved_plan(task("a"), task("b", "a"), task("c", "b"), task("d", "a", "c"))
    play.reply("a is done")
    play.fail("FATAL")
    return play


# --- again


def test_the_next_try_is_told_what_the_person_said() -> None:
    play = failed()
    play.decide("RETRY", feedback="use the other door")
    words = play.seen().messages[-1].text
    assert words == (
        "The try before failed: it broke. Go on from where it stopped. "
        "A person had it tried again, and says: use the other door"
    )


def test_what_was_said_is_heard_once() -> None:
    play = failed()
    play.decide("RETRY", feedback="use the other door")
    play.fail("FATAL")
    play.decide("RETRY")
    words = [m.text for m in play.seen().messages if m.role == "USER"]
    assert sum("the other door" in text for text in words) == 1
    assert words[-1] == "The try before failed: it broke. Go on from where it stopped."


def test_planning_is_tried_again_with_what_was_said() -> None:
    play = Play()
    play.say(agent="architect")
    play.fail("FATAL")
    [asked] = play.pending
    assert asked.allowed_actions == ["RETRY", "ABORT"]
    play.decide("RETRY", feedback="think smaller")
    assert play.seen().purpose == "PLANNING"
    assert play.seen().messages[-1].text.endswith("says: think smaller")


# --- on without it


def test_what_depends_on_a_skipped_subtask_runs_and_reads_why() -> None:
    play = failed()
    play.decide("SKIP", feedback="the old one will do")
    skipped = play.subtask("b")
    assert (skipped.state, skipped.skip_reason, skipped.failure.reason) == (
        "SKIPPED",
        "the old one will do",
        "MODEL_FAILED",
    )
    assert (play.session.state, working(play)) == ("PLAN_EXECUTION", ["c"])
    words = play.seen().messages[1].text
    assert (
        "b (Do b) was not done: it failed (it broke) and was skipped by a person, who said: the old one will do"
        in words
    )
    play.reply("c is done")
    play.reply("d is done")
    assert play.session.state == "COMPLETED"
    [message] = [m for m in play.snapshot.messages.values() if m.role == "AGENT"]
    assert "- Do b: skipped: the old one will do" in message.text
    [event] = [e for e in play.events if isinstance(e, SubtaskStateChanged) and e.trigger == "skipped"]
    assert (event.actor, event.reason) == ("anna", "the old one will do")


def test_a_plan_of_which_all_is_skipped_is_completed() -> None:
    play = Play()
    play.approved_plan(task("a"))
    play.fail("FATAL")
    play.decide("SKIP")
    assert (play.session.state, play.subtask("a").state) == ("COMPLETED", "SKIPPED")


def test_what_is_no_subtask_is_not_skipped() -> None:
    play = Play()
    play.say(agent="coder")
    play.fail("FATAL")
    assert play.pending[0].allowed_actions == ["RETRY", "REPLAN", "ABORT"]


def test_of_several_failures_the_last_one_answered_ends_the_error_handling() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), parallel_limit=3)
    for key in ("a", "b", "c"):
        play.fail("FATAL", step=step_of(play, key))
    play.decide("SKIP", failure_of(play, "b"))
    play.decide("RETRY", failure_of(play, "a"))
    assert play.session.state == "ERROR_HANDLING"
    play.decide("SKIP", failure_of(play, "c"))
    assert (play.session.state, working(play)) == ("PLAN_EXECUTION", ["a"])


# --- planned anew


def test_what_is_done_is_carried_into_the_new_plan_and_not_run_again() -> None:
    play = failed()
    done, old = play.subtask("a"), play.plan
    play.decide("REPLAN", feedback="try another way")
    assert (play.session.state, play.plan.state) == ("ARCHITECT_PLANNING", "SUPERSEDED")
    assert play.triggers(SessionStateChanged)[-1] == "replan"
    assert {s.key: s.state for s in play.snapshot.subtasks.values()} == {
        "a": "SUCCEEDED",
        "b": "CANCELLED",
        "c": "CANCELLED",
        "d": "CANCELLED",
    }
    play.reply(plan_answer(task("x", "a"), task("y", "x")))
    assert (play.plan.version, play.session.state) == (2, "PLAN_REVIEW")
    carried = play.subtask("a")
    assert carried.id != done.id
    assert (carried.plan_id, carried.state, carried.result) == (play.plan.id, "SUCCEEDED", "a is done")
    assert (carried.carried_subtask_id, carried.position) == (done.id, 1)
    assert "(SUCCEEDED already, in an earlier version)" in play.pending[0].preview.text
    play.decide("APPROVE")
    assert working(play) == ["x"]
    assert "Result of a (Do a):\na is done" in play.seen().messages[1].text
    play.reply("x is done")
    play.reply("y is done")
    assert play.session.state == "COMPLETED"
    assert play.snapshot.plans[old.id].state == "SUPERSEDED"


def test_the_architect_reads_what_is_done_what_failed_what_was_under_way_and_what_was_never_begun() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), task("d", "b"), parallel_limit=3)
    play.reply("a is built", step=step_of(play, "a"))
    play.reply("", call("index_files", path="."), step=step_of(play, "b"))
    play.result("indexed 7 files", step=step_of(play, "b"))
    play.fail("FATAL", step=step_of(play, "b"))
    play.decide("REPLAN", feedback="try another way")
    told = play.seen().messages[-1].text
    assert "They say: try another way" in told
    assert "Done:\n- a (Do a), by coder: a is built" in told
    assert "Failed:\n- b (Do b), by coder: MODEL_FAILED: it broke" in told
    assert "Under way, and ended where they were:\n- c (Do c), by coder" in told
    assert "Never begun:\n- d (Do d), by coder" in told
    assert '- index_files {"path": "."}: indexed 7 files' in told


@pytest.mark.parametrize("changes", [{"result": "another"}, {"state": "SKIPPED"}, {"carried_subtask_id": "other"}])
def test_what_is_carried_is_part_of_what_is_approved(changes: dict[str, Any]) -> None:
    play = failed()
    play.decide("REPLAN")
    play.reply(plan_answer(task("x", "a")))
    subtasks = [s for s in play.snapshot.subtasks.values() if s.plan_id == play.plan.id]
    assert plan_preimage(play.plan, subtasks, play.run.goal) == play.pending[0].preimage
    others = [replace(s, **changes) if s.carried_subtask_id else s for s in subtasks]
    assert plan_preimage(play.plan, others, play.run.goal) != play.pending[0].preimage


def test_a_new_draft_may_not_define_anew_what_is_done() -> None:
    play = failed()
    play.decide("REPLAN")
    play.reply(plan_answer(task("a"), task("x", "a")))  # as it was: that is no other definition
    assert [s.key for s in play.snapshot.subtasks.values() if s.plan_id == play.plan.id] == ["a", "x"]
    play.decide("REQUEST_CHANGES", feedback="again")
    play.reply(plan_answer(task("a", agent="ask"), task("x", "a")))
    assert play.plan.state == "SUPERSEDED", "no draft came of it"
    assert "'a' is done already" in play.seen().messages[-1].text


def test_what_is_done_stays_through_revisions_and_a_second_new_plan() -> None:
    play = failed()
    first = play.subtask("a")
    play.decide("REPLAN")
    play.reply(plan_answer(task("x", "a")))
    play.revise(draft(task("x", "a"), task("z", "x")))
    assert play.subtask("a").carried_subtask_id == first.id
    play.decide("APPROVE")
    play.reply("x is done")
    play.fail("FATAL")
    play.decide("REPLAN")
    play.reply(plan_answer(task("w", "x", "a")))
    mine = [s for s in play.snapshot.subtasks.values() if s.plan_id == play.plan.id]
    assert [(s.key, s.state, s.position) for s in mine] == [
        ("a", "SUCCEEDED", 1),
        ("x", "SUCCEEDED", 2),
        ("w", "PENDING", 3),
    ]
    assert play.subtask("a").carried_subtask_id == first.id


def test_a_skipped_subtask_is_carried_with_the_reason() -> None:
    play = failed()
    play.decide("SKIP", feedback="the old one will do")
    play.fail("FATAL")
    play.decide("REPLAN")
    assert "- b (Do b), by coder: skipped by a person: the old one will do" in play.seen().messages[-1].text
    play.reply(plan_answer(task("x", "b")))
    assert (play.subtask("b").state, play.subtask("b").skip_reason) == ("SKIPPED", "the old one will do")
    play.decide("APPROVE")
    assert "b (Do b) was not done" in play.seen().messages[1].text


def siblings() -> Play:
    """`failed` has failed; the others wait for an approval, have a call in flight, in doubt, at a client, or think."""
    play = Play(client_tools=CLIENT_TOOLS)
    keys = ("failed", "waits", "flies", "doubts", "client", "thinks")
    play.approved_plan(*(task(key) for key in keys), parallel_limit=6)
    play.reply("", call("write_file", path="a"), step=step_of(play, "waits"))
    play.reply("", call("send_mail", to="flies"), step=step_of(play, "flies"))
    play.reply("", call("send_mail", to="doubts"), step=step_of(play, "doubts"))
    play.outcome("LOST", step_of(play, "doubts"))
    play.reply("", call("open_tab"), step=step_of(play, "client"))
    play.fail("FATAL", step=step_of(play, "failed"))
    return play


def test_all_that_is_under_way_ends_with_one_result_each_and_nothing_of_it_is_asked_any_more() -> None:
    play = siblings()
    asked = {a.kind: a for a in play.pending}
    assert set(asked) == {"TOOL_CALL", "IN_DOUBT", "FAILURE"}
    change = play.decide("REPLAN", failure_of(play, "failed"))
    calls = {play.snapshot.subtasks[s.subtask_id].key: s for s in play.calls}
    assert {s.state for s in calls.values()} == {"CANCELLED"}
    said = {key: s.result.content if s.result else "" for key, s in calls.items()}
    assert said == {
        "waits": "The work was planned anew before this call began.",
        "flies": "The work was planned anew while this call was under way: it may have taken effect.",
        "doubts": "The work was planned anew while it was not known whether this call took effect.",
        "client": "The work was planned anew before this call began.",
    }
    assert {a.state for a in play.snapshot.approvals.values() if a.kind in ("TOOL_CALL", "IN_DOUBT")} == {"SUPERSEDED"}
    assert play.pending == []
    assert {play.snapshot.subtasks[s.subtask_id].key for s in change.ends} == {"flies", "thinks"}
    finished = [e.step_id for e in play.events if isinstance(e, StepFinished) and e.trigger == "cancelled"]
    assert len(finished) == len(set(finished)) == 5
    assert [a.state for a in play.snapshot.attempts.values() if a.subtask_id].count("RUNNING") == 0


def test_the_architect_reads_which_calls_may_have_taken_effect() -> None:
    play = siblings()
    play.decide("REPLAN", failure_of(play, "failed"))
    told = play.seen().messages[-1].text
    assert '- send_mail {"to": "flies"} (CANCELLED): The work was planned anew while this call was under way' in told
    assert '- send_mail {"to": "doubts"} (CANCELLED): The work was planned anew while it was not known' in told
    assert "write_file" not in told, "it never began"


def test_the_late_outcome_of_a_call_that_was_given_up_changes_nothing() -> None:
    play = siblings()
    flying = step_of(play, "flies")
    play.decide("REPLAN", failure_of(play, "failed"))
    before = dict(play.snapshot.steps)
    play.result("sent", step=flying)
    assert play.snapshot.steps == before


def test_what_was_asked_of_the_old_plan_cannot_be_answered() -> None:
    play = siblings()
    [call_asked] = [a for a in play.pending if a.kind == "TOOL_CALL"]
    play.decide("REPLAN", failure_of(play, "failed"))
    with pytest.raises(ApprovalAlreadyResolved) as refused:
        play.decide("APPROVE", play.snapshot.approvals[call_asked.id])
    assert (refused.value.state, refused.value.decided_by) == ("SUPERSEDED", "anna")


def test_a_failure_of_several_that_has_the_work_planned_anew_answers_them_all() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    play.fail("FATAL", step=step_of(play, "a"))
    play.fail("FATAL", step=step_of(play, "b"))
    other = failure_of(play, "b")
    play.decide("REPLAN", failure_of(play, "a"))
    assert play.snapshot.approvals[other.id].state == "SUPERSEDED"
    assert (play.session.state, play.pending) == ("ARCHITECT_PLANNING", [])


def test_a_sibling_that_was_to_be_tried_again_later_keeps_nobody_waiting() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    while play.run.retries == 0:
        for step in [s for s in play.flying if s.subtask_id == play.subtask("a").id]:
            play.fail("RETRYABLE", step=step)
        if play.run.retries == 0:
            play.wait(play.session.due_time - play.now)
    play.fail("FATAL", step=step_of(play, "b"))
    play.decide("REPLAN")
    play.reply(plan_answer(task("x")))
    assert (play.run.state, play.session.due_time) == ("WAITING", 0)


def test_an_answer_that_failed_is_planned() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("send_mail", to="x"))
    play.result("sent")
    play.fail("FATAL")
    play.decide("REPLAN", feedback="in steps")
    assert (play.session.state, play.run.route) == ("ARCHITECT_PLANNING", "COMPLEX")
    told = play.seen().messages[-1].text
    assert "without a plan, by coder, and failed: MODEL_FAILED: it broke" in told
    assert '- send_mail {"to": "x"}: sent' in told
    assert "in steps" in told
    play.reply(plan_answer(task("x")))
    play.decide("APPROVE")
    play.reply("x is done")
    assert play.session.state == "COMPLETED"


def test_nothing_is_planned_anew_where_nobody_plans() -> None:
    play = Play(catalog(agents=[a for a in AGENTS if a.name != "architect"]))
    play.approved_plan(task("a"))
    play.fail("FATAL")
    assert play.pending[0].allowed_actions == ["RETRY", "SKIP", "ABORT"]


def test_a_paused_run_that_is_planned_anew_stays_paused() -> None:
    play = failed()
    play.pause()
    play.decide("REPLAN", feedback="try another way")
    assert (play.run.state, play.session.state, play.flying) == ("PAUSED", "ARCHITECT_PLANNING", [])
    play.resume()
    assert "try another way" in play.seen().messages[-1].text


def test_a_cancel_while_it_is_planned_anew_leaves_the_old_version_as_it_is() -> None:
    play = failed()
    old = play.plan
    play.decide("REPLAN")
    play.cancel()
    assert play.snapshot.plans[old.id].state == "SUPERSEDED"
    assert play.triggers(PlanStateChanged)[-1] == "replanned"
    assert play.session.state == "IDLE"


@pytest.mark.parametrize(("action", "agent"), [("RETRY", "architect"), ("REPLAN", "coder")])
def test_what_was_said_of_a_run_that_has_ended_is_nothing_to_the_next(action: str, agent: str) -> None:
    """Said while there was no room to begin, and cancelled before there was; the same snapshot goes on."""
    play = Play()
    play.say(agent=agent)
    play.fail("FATAL")
    play.may_run = False
    play.decide(action, feedback="mind the gap")
    play.say(agent="architect")
    play.cancel()
    play.may_run = True
    play.do()
    assert play.run.state == "RUNNING"
    [attempt] = [a for a in play.snapshot.attempts.values() if a.run_id == play.run.id]
    assert (attempt.number, attempt.feedback, attempt.heeds_approval_id) == (1, "", "")
