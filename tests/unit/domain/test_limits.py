"""A run's working time: what it counts, what stops when it is used up, and what a person may do about it."""

import pytest

from orchestrator.domain.commands import submit_plan
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.events import BudgetReached, RunFinished
from orchestrator.domain.records import Budget, Run
from orchestrator.domain.worktime import worked
from tests.unit.domain.build import CLIENT_TOOLS, SECOND, Play, call, draft, failure, task

MINUTE = 60 * SECOND


def working(limit: int = MINUTE, *, parallel_limit: int = 1) -> Play:
    play = Play(budget=Budget(work_duration=limit))
    return play.approved_plan(task("a"), task("b"), parallel_limit=parallel_limit)


def time_of(play: Play, run: Run | None = None) -> int:
    """In whole seconds: each act of a play takes a microsecond."""
    return round(worked(run or play.run, play.now) / SECOND)


def used_up(**options: int) -> Play:
    play = working(**options)
    play.wait(MINUTE)
    return play


# --- the clock


def test_only_work_counts_not_waiting_for_a_person() -> None:
    play = Play()
    play.say(agent="coder")
    play.wait(10 * SECOND)
    play.reply("", call("write_file", path="a"))
    assert (play.run.state, time_of(play)) == ("WAITING", 10)
    play.wait(1000 * SECOND)
    assert time_of(play) == 10
    play.decide("APPROVE")
    play.wait(5 * SECOND)
    assert (play.run.state, time_of(play)) == ("RUNNING", 15)
    play.cancel()
    [run] = play.snapshot.runs.values()
    play.wait(1000 * SECOND)
    assert (time_of(play, run), run.work_start_time) == (15, 0)


def test_a_queued_run_has_not_begun_to_work() -> None:
    play = Play()
    play.say(agent="coder")
    play.say(agent="coder")
    play.wait(100 * SECOND)
    queued = next(r for r in play.snapshot.runs.values() if r.state == "CREATED")
    assert time_of(play, queued) == 0
    play.reply("done")
    assert (play.run.id, time_of(play)) == (queued.id, 0)


def test_waiting_for_a_timer_or_for_an_executor_is_work() -> None:
    play = working()
    play.outcome("FAILED", failure=failure("RETRYABLE"), retry_after=20 * SECOND)
    play.has_room = False
    play.wait(30 * SECOND)
    assert (play.run.state, play.flying, time_of(play)) == ("RUNNING", [], 30)


def test_the_limits_of_a_run_are_those_of_its_session_when_it_starts() -> None:
    play = working(MINUTE)
    assert play.run.budget == Budget(work_duration=MINUTE)
    assert Play().session.budget == Budget()


# --- the limit


def test_the_session_is_looked_at_when_the_time_is_up_even_if_nothing_happens() -> None:
    play = working()
    assert (play.session.due_time, play.session.runnable) == (play.run.work_start_time + MINUTE, True)
    play.outcome("FAILED", failure=failure("RETRYABLE"), retry_after=3600 * SECOND)
    assert (play.session.due_time, play.session.runnable) == (play.run.work_start_time + MINUTE, False)


def test_a_run_without_a_limit_wakes_nobody() -> None:
    play = Play()
    play.say(agent="coder")
    assert play.session.due_time == 0


def test_when_the_time_is_up_a_person_is_asked_once_and_a_watcher_is_told() -> None:
    play = used_up()
    play.wait(MINUTE)
    [approval] = play.pending
    assert (approval.kind, approval.allowed_actions) == ("BUDGET", ["APPROVE", "REJECT", "ABORT"])
    assert "work_duration" in approval.preview.title
    [told] = [e for e in play.events if isinstance(e, BudgetReached)]
    assert (told.limit_name, told.limit, told.approval_id) == ("work_duration", MINUTE, approval.id)
    assert told.used >= MINUTE


def test_when_the_time_is_up_nothing_new_starts_and_what_is_in_flight_is_recorded() -> None:
    play = used_up(parallel_limit=2)
    a, b = play.flying
    assert (play.run.state, play.session.runnable, play.session.due_time) == ("RUNNING", True, 0)
    play.reply("", call("read_file"), step=a)
    assert [s.id for s in play.flying] == [b.id]
    play.reply("b is done", step=b)
    assert (play.flying, play.calls, play.run.state) == ([], [], "WAITING")
    assert (play.session.runnable, play.session.due_time, play.session.settled) == (False, 0, True)
    assert play.snapshot.steps[a.id].state == play.snapshot.steps[b.id].state == "SUCCEEDED"
    play.decide("APPROVE", new_limit=Budget(work_duration=10 * MINUTE))
    assert [s.tool for s in play.flying] == ["read_file"]
    assert play.subtask("b").state == "SUCCEEDED"


def test_timers_that_would_start_something_stop_with_the_time() -> None:
    play = working()
    play.outcome("FAILED", failure=failure("RETRYABLE"), retry_after=3600 * SECOND)
    play.wait(MINUTE)
    assert (play.run.state, play.session.due_time) == ("WAITING", 0)
    play.wait(3600 * SECOND)
    assert play.flying == []
    play.decide("APPROVE", new_limit=Budget(work_duration=2 * MINUTE))
    assert len(play.flying) == 1


def test_another_decision_does_not_make_a_stopped_run_go_on() -> None:
    play = working(parallel_limit=2)
    a, b = play.flying
    play.reply("", call("write_file", path="a"), step=a)
    play.wait(MINUTE)
    play.reply("b is done", step=b)
    play.decide("APPROVE", next(p for p in play.pending if p.kind == "TOOL_CALL"))
    assert (play.flying, play.run.state, [p.kind for p in play.pending]) == ([], "WAITING", ["BUDGET"])


# --- the answer


def test_a_higher_limit_lets_the_run_go_on_until_that_is_used_up() -> None:
    play = used_up()
    play.decide("APPROVE", new_limit=Budget(work_duration=2 * MINUTE))
    assert play.run.budget.work_duration == 2 * MINUTE
    assert play.session.due_time == play.run.work_start_time + 2 * MINUTE - play.run.work_duration
    play.wait(MINUTE)
    assert [a.kind for a in play.pending] == ["BUDGET"]
    asked = [a.digest for a in play.snapshot.approvals.values() if a.kind == "BUDGET"]
    assert len(set(asked)) == 2


@pytest.mark.parametrize("limit", [None, Budget(), Budget(work_duration=MINUTE), Budget(work_duration=3 * MINUTE)])
def test_a_limit_that_is_not_above_the_old_one_and_what_was_worked_is_refused(limit: Budget | None) -> None:
    play = used_up()
    play.wait(2 * MINUTE)  # what is in flight goes on
    with pytest.raises(InvalidInput) as refused:
        play.decide("APPROVE", new_limit=limit)
    assert [v.field for v in refused.value.violations] == ["new_limit.work_duration"]
    assert [a.state for a in play.pending] == ["PENDING"]


@pytest.mark.parametrize("action", ["REJECT", "ABORT"])
def test_a_new_limit_goes_with_nothing_but_a_yes_to_it(action: str) -> None:
    play = used_up()
    with pytest.raises(InvalidInput, match="new_limit"):
        play.decide(action, new_limit=Budget(work_duration=5 * MINUTE))
    asked = Play()
    asked.submit(draft(task("a")))
    with pytest.raises(InvalidInput, match="new_limit"):
        asked.decide("APPROVE", new_limit=Budget(work_duration=5 * MINUTE))
    assert play.run.budget.work_duration == MINUTE


def test_a_no_ends_the_run_as_failed_with_all_of_it_closed() -> None:
    play = used_up()
    change = play.decide("REJECT", feedback="enough")
    [run] = play.snapshot.runs.values()
    assert (run.state, run.failure.reason, play.session.state) == ("FAILED", "BUDGET_REACHED", "IDLE")
    assert "enough" in run.failure.message
    assert [s.state for s in play.steps] == ["CANCELLED"]
    assert [s.id for s in change.ends] == [s.id for s in play.steps]
    assert [p.state for p in play.snapshot.plans.values()] == ["FAILED"]
    assert {s.state for s in play.snapshot.subtasks.values()} == {"CANCELLED"}
    [finished] = [e for e in play.events if isinstance(e, RunFinished)]
    assert (finished.state, finished.trigger, finished.failure) == ("FAILED", "failed", run.failure)


def test_an_abort_cancels_the_run() -> None:
    play = used_up()
    play.decide("ABORT")
    assert [r.state for r in play.snapshot.runs.values()] == ["CANCELLED"]


# --- calls and tokens, which are looked at before each call


def counted(budget: Budget, *, parallel_limit: int = 1) -> Play:
    play = Play()
    plan = draft(task("a"), task("b"), parallel_limit=parallel_limit)
    play.do(lambda c: submit_plan(c, plan, "the goal", "anna", play.catalog, budget=budget))
    play.decide("APPROVE")
    return play


def test_at_the_limit_of_calls_the_next_one_does_not_start_and_a_person_is_asked() -> None:
    play = counted(Budget(calls=1))
    play.reply("", call("read_file"))
    assert (play.flying, play.run.state, play.session.settled) == ([], "WAITING", True)
    [approval] = play.pending
    assert approval.preview.title == "The limit is reached: calls, 1 of 1"
    [told] = [e for e in play.events if isinstance(e, BudgetReached)]
    assert (told.limit_name, told.limit, told.used, told.approval_id) == ("calls", 1, 1, approval.id)
    play.decide("APPROVE", new_limit=Budget(calls=2))
    assert [s.tool for s in play.flying] == ["read_file"]
    play.result()
    assert [a.preview.title for a in play.pending] == ["The limit is reached: calls, 2 of 2"]


def test_calls_under_way_count_so_that_siblings_do_not_pass_the_limit_together() -> None:
    play = counted(Budget(calls=1), parallel_limit=2)
    assert (len(play.flying), [a.kind for a in play.pending]) == (1, ["BUDGET"])
    play.decide("APPROVE", new_limit=Budget(calls=2))
    assert (len(play.flying), play.pending) == (2, [])


def test_a_clients_call_is_a_call_too() -> None:
    play = Play(client_tools=CLIENT_TOOLS, budget=Budget(calls=1))
    play.approved_plan(task("a"))
    play.reply("", call("open_tab"))
    assert (play.ready, [a.kind for a in play.pending]) == ([], ["BUDGET"])
    play.decide("APPROVE", new_limit=Budget(calls=2))
    assert [s.tool for s in play.ready] == ["open_tab"]


def test_a_run_whose_last_call_answers_is_done_and_nobody_is_asked() -> None:
    play = Play(budget=Budget(calls=1, total_tokens=11))
    play.approved_plan(task("a"))
    play.reply("all done")
    [run] = play.snapshot.runs.values()
    assert (run.state, play.pending, run.usage.input_tokens + run.usage.output_tokens) == ("COMPLETED", [], 11)


def test_tokens_that_are_used_up_stop_the_next_call() -> None:
    play = counted(Budget(total_tokens=11))
    play.reply("", call("read_file"))
    assert [a.preview.title for a in play.pending] == ["The limit is reached: total_tokens, 11 of 11"]
    assert play.flying == []


def test_what_a_plan_does_not_limit_is_limited_as_the_session_says_and_a_person_reads_both() -> None:
    play = Play(budget=Budget(calls=7, work_duration=MINUTE))
    play.do(lambda c: submit_plan(c, draft(), "the goal", "anna", play.catalog, budget=Budget(calls=3)))
    assert play.run.budget == Budget(calls=3, work_duration=MINUTE)
    assert "The run's limits: work_duration 60 s, calls 3." in play.pending[0].preview.text


def test_a_plan_that_waits_its_turn_keeps_its_limits() -> None:
    play = Play()
    play.say(agent="coder")
    play.do(lambda c: submit_plan(c, draft(), "the goal", "anna", play.catalog, budget=Budget(calls=3)))
    play.reply("the first is done")
    assert (play.run.kind, play.run.budget) == ("PLAN", Budget(calls=3))


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        (Budget(), "calls"),
        (Budget(calls=1), "calls"),
        (Budget(total_tokens=100), "calls"),
        (Budget(calls=9, total_tokens=11), "total_tokens"),
    ],
)
def test_a_yes_raises_the_limit_that_is_reached_and_no_other_below_what_was_used(limit: Budget, field: str) -> None:
    play = counted(Budget(calls=1))
    play.reply("", call("read_file"))
    with pytest.raises(InvalidInput) as refused:
        play.decide("APPROVE", new_limit=limit)
    assert [v.field for v in refused.value.violations] == [f"new_limit.{field}"]
    play.decide("APPROVE", new_limit=Budget(calls=9, total_tokens=12))
    assert play.run.budget == Budget(calls=9, total_tokens=12)


def test_a_no_to_more_calls_says_which_limit_it_was() -> None:
    play = counted(Budget(calls=1))
    play.reply("", call("read_file"))
    play.decide("REJECT")
    [run] = play.snapshot.runs.values()
    assert (run.state, run.failure.message) == ("FAILED", "calls: 1 of 1, and anna allowed no more")
