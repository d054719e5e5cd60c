"""Carrying out a plan: who starts when, how many at once, and how it ends."""

from dataclasses import replace

import pytest

from orchestrator.domain.events import StepStarted, SubtaskStateChanged
from tests.unit.domain.build import Play, call, plan_answer, task


def working(play: Play) -> list[str]:
    return [s.key for s in play.snapshot.subtasks.values() if s.state == "RUNNING"]


def step_of(play: Play, key: str) -> str:
    return next(s.id for s in play.flying if s.subtask_id == play.subtask(key).id)


def finish(play: Play, key: str) -> None:
    play.reply(f"{key} is done", step=play.snapshot.steps[step_of(play, key)])


def test_one_subtask_runs_at_a_time_in_the_plans_order_unless_more_are_allowed() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"))
    for key in ("a", "b", "c"):
        assert working(play) == [key]
        finish(play, key)
    assert play.session.state == "COMPLETED"


@pytest.mark.parametrize("limit", [2, 3, 16])
def test_no_more_run_at_once_than_the_plan_allows(limit: int) -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), parallel_limit=limit)
    assert working(play) == ["a", "b", "c"][:limit]


def test_a_subtask_starts_when_all_it_depends_on_has_succeeded() -> None:
    play = Play()
    play.approved_plan(task("d", "b", "c"), task("b", "a"), task("c", "a"), task("a"), parallel_limit=4)
    assert working(play) == ["a"]
    finish(play, "a")
    assert working(play) == ["b", "c"]
    finish(play, "c")
    assert working(play) == ["b"]
    finish(play, "b")
    assert working(play) == ["d"]


def test_later_subtasks_wait_for_the_tool_approval_of_an_earlier_one() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b", "a"), parallel_limit=2)
    play.reply("", call("write_file", path="a"))
    assert (working(play), play.run.state) == (["a"], "WAITING")
    play.decide("APPROVE")
    play.result()
    assert working(play) == ["a"]
    finish(play, "a")
    assert working(play) == ["b"]


def test_a_subtask_keeps_its_agent_through_tools_approvals_and_retries() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b", "a", agent="ask"))
    play.reply("", call("write_file", path="a"))
    play.decide("APPROVE")
    play.result()
    play.fail("FATAL")
    play.decide("RETRY")
    finish(play, "a")
    finish(play, "b")
    agents = [(e.subtask_id, e.agent) for e in play.events if isinstance(e, StepStarted)]
    assert set(agents) == {(play.subtask("a").id, "coder"), (play.subtask("b").id, "ask")}


def test_a_failure_holds_up_what_depends_on_it_and_nothing_else() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b", "a"), task("c"))
    play.fail("FATAL")
    assert (play.subtask("a").state, working(play)) == ("FAILED", ["c"])
    assert (play.session.state, play.run.state) == ("ERROR_HANDLING", "RUNNING")
    finish(play, "c")
    assert (working(play), play.run.state, play.session.settled) == ([], "WAITING", True)
    play.decide("RETRY")
    assert working(play) == ["a"]


def test_the_limit_holds_while_more_are_ready_and_places_are_taken_in_the_plans_order() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), task("d"), task("e", "a"), parallel_limit=2)
    assert working(play) == ["a", "b"]
    finish(play, "b")
    assert working(play) == ["a", "c"]
    finish(play, "a")
    assert working(play) == ["c", "d"]
    finish(play, "d")
    assert working(play) == ["c", "e"]
    finish(play, "c")
    finish(play, "e")
    assert play.session.state == "COMPLETED"


def test_one_that_fails_gives_its_place_back_and_its_siblings_go_on() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), task("d", "a"), parallel_limit=2)
    play.fail("FATAL", step=play.snapshot.steps[step_of(play, "a")])
    assert (play.session.state, working(play)) == ("ERROR_HANDLING", ["b", "c"])
    play.decide("RETRY")
    assert (play.subtask("a").state, working(play)) == ("PENDING", ["b", "c"])
    finish(play, "b")
    assert working(play) == ["a", "c"]
    finish(play, "c")
    assert working(play) == ["a"]


def test_one_that_waits_for_an_approval_keeps_its_place_and_its_siblings_go_on() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), parallel_limit=2)
    play.reply("", call("write_file", path="a"), step=play.snapshot.steps[step_of(play, "a")])
    assert working(play) == ["a", "b"]
    finish(play, "b")
    assert (working(play), play.run.state) == (["a", "c"], "RUNNING")
    finish(play, "c")
    assert (working(play), play.run.state) == (["a"], "WAITING")
    play.decide("APPROVE")
    assert [s.tool for s in play.flying] == ["write_file"]


@pytest.mark.parametrize("state", ["VALIDATING", "AWAITING_APPROVAL"])
def test_one_that_is_checked_keeps_its_place_until_it_has_ended(state: str) -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), task("d"), parallel_limit=2)
    play.snapshot.subtasks[play.subtask("a").id] = replace(play.subtask("a"), state=state)
    finish(play, "b")
    assert working(play) == ["c"]
    finish(play, "c")
    assert working(play) == ["d"]
    assert play.subtask("a").state == state


def test_a_retry_counts_its_attempts_and_clears_the_failure() -> None:
    play = Play()
    play.approved_plan(task("a"))
    for number in (1, 2):
        assert play.subtask("a").attempts == number
        play.fail("FATAL")
        assert play.subtask("a").failure.reason == "MODEL_FAILED"
        play.decide("RETRY")
    assert play.subtask("a").failure.reason == ""
    assert [a.number for a in play.snapshot.attempts.values()] == [1, 2, 3]


def test_a_finished_plan_ends_its_run_with_what_each_subtask_said_first() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"))
    play.reply("made it\nand much more")
    play.reply("x" * 300)
    [plan], [run] = play.snapshot.plans.values(), play.snapshot.runs.values()
    assert (plan.state, run.state, plan.end_time, run.end_time) == ("COMPLETED", "COMPLETED", play.now, play.now)
    message = play.snapshot.messages[run.final_message_id]
    assert message.text.splitlines() == [
        "Title: all 2 subtasks are done.",
        "- Do a: made it",
        f"- Do b: {'x' * 199}…",
    ]


def test_every_change_of_a_subtask_is_an_event_with_its_key_and_attempt() -> None:
    play = Play()
    play.approved_plan(task("a"))
    play.fail("FATAL")
    play.decide("RETRY")
    finish(play, "a")
    told = [(e.key, e.trigger, e.to_state, e.attempt) for e in play.events if isinstance(e, SubtaskStateChanged)]
    assert told == [
        ("a", "started", "RUNNING", 1),
        ("a", "failed", "FAILED", 1),
        ("a", "retried", "PENDING", 1),
        ("a", "started", "RUNNING", 2),
        ("a", "succeeded", "SUCCEEDED", 2),
    ]


def test_nothing_of_a_plan_runs_before_it_is_approved() -> None:
    play = Play()
    play.say(agent="architect")
    play.reply(plan_answer(task("a")))
    assert (play.plan.state, play.flying, working(play)) == ("DRAFT", [], [])
    play.wait(3_600_000_000)
    assert (play.plan.state, play.flying, play.run.state) == ("DRAFT", [], "WAITING")
