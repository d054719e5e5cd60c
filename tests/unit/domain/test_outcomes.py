"""Folding outcomes: each dispatch once, faults retried where that is safe, doubt never repeated."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.events import StepFinished
from orchestrator.domain.outcomes import MAX_CALLS, MAX_REPLY, Outcome, fold
from orchestrator.domain.records import Failure, ModelReply, Step, ToolResult, Usage
from orchestrator.domain.retries import DISPATCHES, LONGEST_RETRY_AFTER, MAX_LOSSES
from tests.unit.domain.build import SECOND, Play, call, failure, task

REPEATABLE = ["read_file", "index_files"]


def thinking() -> Play:
    play = Play()
    play.approved_plan(task("a"))
    return play


def calling(tool: str) -> Play:
    play = thinking()
    play.reply("", call(tool))
    return play


def no_op(play: Play, step: Step, **fields: Any) -> None:
    change = play.change()
    outcome = Outcome(**{"step_id": step.id, "dispatch_number": step.dispatch_number, "kind": "SUCCEEDED", **fields})
    assert not fold(change, outcome)
    assert change.is_empty


def now(play: Play, step: Step) -> Step:
    return play.snapshot.steps[step.id]


def test_a_reply_longer_than_any_may_be_fails_the_step_in_words() -> None:
    play = thinking()
    [step] = play.flying
    play.outcome("SUCCEEDED", reply=ModelReply("x" * (MAX_REPLY + 1)))
    assert now(play, step).failure.reason == "MODEL_OUTPUT_INVALID"
    assert str(MAX_REPLY) in now(play, step).failure.message


def test_a_reply_with_more_calls_than_any_may_have_fails_the_step_in_words() -> None:
    play = thinking()
    play.reply("", *[call("read_file", f"c{n}") for n in range(MAX_CALLS)])
    assert len(play.calls) == MAX_CALLS
    play = thinking()
    [step] = play.flying
    play.reply("", *[call("read_file", f"c{n}") for n in range(MAX_CALLS + 1)])
    assert now(play, step).failure.reason == "MODEL_OUTPUT_INVALID"
    assert (str(MAX_CALLS) in now(play, step).failure.message, play.calls) == (True, [])


# --- what changes nothing


@pytest.mark.parametrize("kind", ["SUCCEEDED", "FAILED", "REFUSED", "UNKNOWN", "LOST"])
def test_an_outcome_of_another_dispatch_changes_nothing(kind: str) -> None:
    play = calling("read_file")
    play.outcome("LOST")
    [step] = play.flying
    assert step.dispatch_number == 2
    no_op(play, step, dispatch_number=1, kind=kind)
    no_op(play, step, dispatch_number=3, kind=kind)


def test_a_duplicate_of_what_is_recorded_changes_nothing() -> None:
    play = calling("read_file")
    [step] = play.flying
    play.result("first")
    no_op(play, step, result=ToolResult("second"))
    no_op(play, step, kind="LOST")
    assert now(play, step).result == ToolResult("first")


def test_an_outcome_of_an_unknown_or_cancelled_step_changes_nothing() -> None:
    play = calling("send_mail")
    [step] = play.flying
    no_op(play, step, step_id="no such step")
    play.cancel()
    no_op(play, step, result=ToolResult("sent"))


def test_an_outcome_before_its_dispatch_changes_nothing() -> None:
    play = thinking()
    play.reply("", call("write_file", path="a"))
    [step] = play.calls
    no_op(play, step, dispatch_number=0)
    no_op(play, step, dispatch_number=1)


# --- success


def test_a_success_records_what_was_said_what_it_cost_and_where_it_came_from() -> None:
    play = thinking()
    [step] = play.flying
    play.outcome(
        "SUCCEEDED",
        reply=ModelReply("hello"),
        model="openai:gpt",
        usage=Usage(input_tokens=7, cost_usd_micros=3),
        latency=5,
        provider_request_id="req",
    )
    step = now(play, step)
    assert (step.model, step.latency, step.provider_request_id) == ("openai:gpt", 5, "req")
    assert step.usage == Usage(model_calls=1, input_tokens=7, cost_usd_micros=3)
    [run] = play.snapshot.runs.values()
    assert run.usage == step.usage


def test_a_runs_usage_counts_every_call_that_ran_also_those_that_failed() -> None:
    play = calling("read_file")
    play.result()
    play.fail("RETRYABLE", usage=Usage(input_tokens=5))
    play.wait(SECOND)
    play.reply("done")
    [run] = play.snapshot.runs.values()
    assert (run.usage.model_calls, run.usage.tool_calls, run.usage.input_tokens) == (3, 1, 25)


# --- transient faults


@pytest.mark.parametrize("tool", ["", *REPEATABLE])
def test_a_transient_fault_is_tried_again_after_a_growing_wait_and_then_fails(tool: str) -> None:
    play = calling(tool) if tool else thinking()
    [step] = play.flying
    for number in range(DISPATCHES.max_attempts - 1):
        play.fail("RETRYABLE")
        waiting = now(play, step)
        wait = waiting.not_before_time - play.now
        assert DISPATCHES.first_backoff * 2**number / 2 <= wait <= DISPATCHES.first_backoff * 2**number
        assert (waiting.faults, waiting.losses) == (number + 1, 0)
        assert (play.flying, play.run.state) == ([], "RUNNING")
        assert (play.session.due_time, play.session.runnable, play.session.settled) == (play.now + wait, False, False)
        play.wait(wait - 2)
        assert play.flying == []
        play.wait(0)
        assert [s.dispatch_number for s in play.flying] == [number + 2]
    play.fail("RETRYABLE")
    assert now(play, step).state == "FAILED"
    assert play.run.faults == DISPATCHES.max_attempts - 1


def test_a_provider_that_says_when_to_come_back_is_believed() -> None:
    play = thinking()
    play.fail("RETRYABLE", retry_after=90 * SECOND)
    assert play.session.due_time == play.now + 90 * SECOND


@pytest.mark.parametrize(("said", "wait"), [(10**18, LONGEST_RETRY_AFTER), (-SECOND, None)])
def test_a_provider_that_talks_nonsense_is_believed_within_reason(said: int, wait: int | None) -> None:
    play = thinking()
    play.fail("RETRYABLE", retry_after=said)
    due = play.session.due_time - play.now
    assert due == wait if wait else 0 < due <= DISPATCHES.first_backoff


def test_a_fault_that_needs_a_person_is_not_retried() -> None:
    play = thinking()
    play.fail("HUMAN_REQUIRED")
    assert (play.flying, [a.kind for a in play.pending]) == ([], ["FAILURE"])


def test_a_failed_tool_call_is_read_by_the_model_and_ends_nothing() -> None:
    play = calling("read_file")
    play.fail("FATAL")
    [step] = play.calls
    assert (step.state, step.result) == ("FAILED", ToolResult("The call failed: it broke", is_error=True))
    assert [s.kind for s in play.flying] == ["MODEL"]


def test_a_call_that_must_not_happen_twice_is_not_tried_again_after_a_fault() -> None:
    play = calling("send_mail")
    play.fail("RETRYABLE")
    assert [s.state for s in play.calls] == ["FAILED"]


# --- refused and unknown: it never started


@pytest.mark.parametrize("kind", ["REFUSED", "UNKNOWN"])
@pytest.mark.parametrize("tool", ["", "read_file", "send_mail"])
def test_what_never_started_is_dispatched_again_under_the_next_number(tool: str, kind: str) -> None:
    play = calling(tool) if tool else thinking()
    [step] = play.flying
    play.outcome(kind, failure=failure(reason="NO_SLOT"))
    play.wait(SECOND)
    assert [(s.id, s.dispatch_number) for s in play.flying] == [(step.id, 2)]
    assert now(play, step).faults == 0


def test_a_refused_step_is_not_sent_again_at_once() -> None:
    play = thinking()
    play.outcome("REFUSED", retry_after=3 * SECOND)
    assert (play.flying, play.session.due_time) == ([], play.now + 3 * SECOND)


@pytest.mark.parametrize(("reason", "seconds"), [("NO_SLOT", 2), ("DRAINING", 2), ("NOT_OFFERED", 30)])
def test_what_is_refused_again_and_again_is_sent_less_often_but_soon_where_only_room_is_missing(
    reason: str, seconds: int
) -> None:
    play, waits = thinking(), []
    for _ in range(15):
        play.outcome("REFUSED", failure=failure("RETRYABLE", reason))
        waits.append(play.session.due_time - play.now)
        play.wait(waits[-1])
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (SECOND // 20, seconds * SECOND)


def test_a_second_dispatch_is_the_same_use_of_the_same_approval() -> None:
    play = thinking()
    play.reply("", call("write_file", path="a"))
    play.decide("APPROVE")
    first_use = play.now
    play.outcome("REFUSED")
    play.wait(SECOND)
    [step] = play.flying
    assert step.dispatch_number == 2
    assert play.snapshot.approvals[step.approval_id].consume_time == first_use


# --- lost


@pytest.mark.parametrize("tool", ["", *REPEATABLE])
def test_a_lost_call_that_may_be_repeated_runs_again_as_the_same_step(tool: str) -> None:
    play = calling(tool) if tool else thinking()
    [step] = play.flying
    play.outcome("LOST")
    assert [(s.id, s.dispatch_number) for s in play.flying] == [(step.id, 2)]
    assert (now(play, step).losses, now(play, step).faults) == (1, 0)


@pytest.mark.parametrize("tool", ["", *REPEATABLE])
def test_a_step_that_executors_keep_dying_under_is_quarantined_and_a_person_is_asked(tool: str) -> None:
    play = calling(tool) if tool else thinking()
    [step] = play.flying
    for losses in range(1, MAX_LOSSES + 1):
        assert play.flying
        play.outcome("LOST")
        assert now(play, step).losses == losses
        play.wait(DISPATCHES.longest_backoff)
    step = now(play, step)
    assert (step.state, step.dispatch_number, step.faults) == ("FAILED", MAX_LOSSES, 0)
    assert (play.flying, [a.kind for a in play.pending]) == ([], ["FAILURE"])
    assert "EXECUTOR_LOST" in play.pending[0].preview.title
    assert "quarantined" in play.pending[0].preview.text
    [attempt] = play.snapshot.attempts.values()
    subtask = play.subtask("a")
    assert (attempt.losses, subtask.losses, play.run.losses, play.run.faults) == (MAX_LOSSES,) * 3 + (0,)
    assert subtask.failure.disposition == "HUMAN_REQUIRED"


def test_losses_and_faults_are_counted_apart() -> None:
    play = thinking()
    [step] = play.flying
    for _ in range(DISPATCHES.max_attempts - 1):
        play.fail("RETRYABLE")
        play.wait(DISPATCHES.longest_backoff)
    play.outcome("LOST")
    assert (now(play, step).state, now(play, step).losses) == ("DISPATCHED", 1)
    play.fail("RETRYABLE")
    assert now(play, step).state == "FAILED"


def test_a_lost_call_that_must_not_happen_twice_is_in_doubt_and_a_person_is_asked() -> None:
    play = calling("send_mail")
    [step] = play.flying
    change = play.outcome("LOST")
    step = now(play, step)
    assert (step.state, step.failure.reason, step.dispatch_number) == ("IN_DOUBT", "IN_DOUBT", 1)
    assert (step.result, step.end_time) == (None, 0)
    assert [e.trigger for e in change.events if isinstance(e, StepFinished)] == ["doubted"]
    assert (play.subtask("a").state, play.session.state) == ("RUNNING", "PLAN_EXECUTION")
    assert (play.run.state, play.session.settled, play.session.due_time) == ("WAITING", True, 0)
    assert [a.kind for a in play.pending] == ["IN_DOUBT"]
    assert play.flying == []


@pytest.mark.parametrize("kind", ["LOST", "FAILED"])
@pytest.mark.parametrize("side_effect", ["", "SOMETHING_NEW"])
def test_a_call_of_an_unknown_class_counts_as_one_that_must_not_happen_twice(side_effect: str, kind: str) -> None:
    play = thinking()
    play.catalog.tools["send_mail"] = replace(play.catalog.tools["send_mail"], side_effect=side_effect)
    play.reply("", call("send_mail"))
    [step] = play.flying
    play.outcome(kind, failure=failure("RETRYABLE"))
    expected = "IN_DOUBT" if kind == "LOST" else "FAILED"
    assert (now(play, step).state, now(play, step).dispatch_number) == (expected, 1)


def test_the_success_after_a_fault_clears_the_fault() -> None:
    play = calling("read_file")
    [step] = play.flying
    play.fail("RETRYABLE")
    play.wait(SECOND)
    play.result()
    assert now(play, step).failure == Failure()
