"""A call that may have happened: a person says what became of it, and nothing repeats it without them."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.deciding import decide
from orchestrator.domain.errors import DigestMismatch, InvalidInput, InvalidJson
from orchestrator.domain.events import StepFinished
from orchestrator.domain.records import Decision, Step, ToolResult
from orchestrator.domain.starting import OVERDUE_GRACE
from tests.unit.domain.build import SECOND, Play, call, failure, task

MAIL = '{"to": "bob", "id": 1234567890123456789}'


def in_doubt(*, tool: str = "send_mail", **lost: Any) -> Play:
    """`send_mail` policy allows by itself; `run_command` a person has approved."""
    play = Play()
    play.approved_plan(task("a"))
    play.reply("", replace(call(tool), arguments_json=MAIL))
    if play.pending:
        play.decide("APPROVE")
    play.outcome(**{"kind": "LOST", **lost})
    return play


def the_step(play: Play) -> Step:
    [step] = play.calls
    return step


def over(play: Play) -> int:
    """How long until the doubtful call is surely over."""
    return the_step(play).deadline_time + OVERDUE_GRACE - play.now


def read_by_the_model(play: Play) -> list[tuple[str, bool]]:
    return [(m.text, m.is_error) for m in play.seen().messages if m.role == "TOOL"]


# --- the question


def test_the_question_says_what_was_sent_when_where_and_why_nobody_knows() -> None:
    play = in_doubt()
    [asked], step = play.pending, the_step(play)
    assert (asked.step_id, asked.tool, asked.arguments_json) == (step.id, "send_mail", MAIL)
    assert asked.preview.title == "In doubt: Call send_mail"
    assert asked.preview.text == MAIL
    for words in ("1970-01-01 00:16:40 UTC", "127.0.0.1:1", "executor-1", "executor was lost"):
        assert words in asked.preview.reason
    lines = asked.preimage.splitlines()
    assert {f"step: {step.id}", "tool: send_mail", "dispatch: 1", "kind: in_doubt"} <= set(lines)


def test_a_failure_that_may_have_had_an_effect_is_a_doubt_too() -> None:
    play = in_doubt(kind="FAILED", failure=failure(message="timed out"), effect_possible=True)
    assert the_step(play).state == "IN_DOUBT"
    assert "timed out" in play.pending[0].preview.reason


def test_the_next_doubt_about_a_call_is_another_question() -> None:
    play = in_doubt()
    [first] = play.pending
    play.decide("RETRY")
    play.wait(over(play))
    play.outcome("LOST")
    [second] = play.pending
    assert second.digest != first.digest
    refused(play, DigestMismatch, action="RETRY", digest=first.digest)


def test_other_subtasks_go_on_while_one_is_in_doubt() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    one, other = play.flying
    play.reply("", call("send_mail"), step=one)
    [mail] = [s for s in play.flying if s.kind == "TOOL"]
    play.outcome("LOST", mail)
    assert (play.run.state, [s.id for s in play.flying]) == ("RUNNING", [other.id])
    play.reply("done", step=other)
    assert (play.subtask("b").state, play.run.state) == ("SUCCEEDED", "WAITING")


def test_the_replys_other_calls_go_on_and_the_model_waits_for_all() -> None:
    play = Play()
    play.approved_plan(task("a"))
    play.reply("", call("send_mail", "c1"), call("read_file", "c2"))
    mail, read = play.flying
    play.outcome("LOST", mail)
    play.result("text", read)
    assert (play.flying, play.run.state) == ([], "WAITING")
    play.decide("RESPOND", response_json='"sent"')
    assert read_by_the_model(play) == [("sent", False), ("text", False)]


# --- the answers


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ('"sent as 17"', ToolResult("sent as 17")),
        ('{"id": 1234567890123456789}', ToolResult('{"id": 1234567890123456789}', '{"id": 1234567890123456789}')),
        ("null", ToolResult("null", "null")),
    ],
)
def test_respond_says_it_happened_and_what_came_of_it(said: str, result: ToolResult) -> None:
    play = in_doubt()
    [asked] = play.pending
    change = play.decide("RESPOND", response_json=said)
    step = the_step(play)
    assert (step.state, step.result, step.failure.reason, step.dispatch_number) == ("SUCCEEDED", result, "", 1)
    [finished] = [e for e in change.events if isinstance(e, StepFinished)]
    assert (finished.trigger, finished.actor) == ("responded", "anna")
    decision = play.snapshot.approvals[asked.id].decision
    assert decision is not None
    assert decision.response_json == said
    assert read_by_the_model(play) == [(result.content, False)]


def test_reject_gives_the_call_up_and_the_agent_reads_why() -> None:
    play = in_doubt()
    play.decide("REJECT", feedback="leave it")
    assert (the_step(play).state, the_step(play).failure.reason) == ("FAILED", "IN_DOUBT")
    [(text, is_error)] = read_by_the_model(play)
    assert "not known whether" in text
    assert "leave it" in text
    assert is_error
    assert play.subtask("a").state == "RUNNING"


@pytest.mark.parametrize("tool", ["send_mail", "run_command"])
def test_retry_does_it_again_once_the_old_call_is_surely_over(tool: str) -> None:
    play = in_doubt(tool=tool)
    [asked] = play.pending
    play.decide("RETRY")
    assert (the_step(play).state, play.flying, play.run.state) == ("APPROVED", [], "RUNNING")
    assert play.session.due_time == the_step(play).deadline_time + OVERDUE_GRACE
    play.wait(over(play) - 2)
    assert play.flying == []
    play.wait(2)
    [step] = play.flying
    assert (step.dispatch_number, step.arguments_json, step.approval_id) == (2, MAIL, asked.id)
    assert (step.approval_preimage, play.snapshot.approvals[asked.id].consume_time) == (asked.preimage, play.now)
    play.result("sent")
    assert read_by_the_model(play) == [("sent", False)]


def test_a_retry_long_after_is_done_at_once() -> None:
    play = in_doubt()
    play.now += 3600 * SECOND
    play.decide("RETRY")
    assert [s.dispatch_number for s in play.flying] == [2]


def test_a_retry_that_was_not_taken_is_sent_again_as_the_same_use() -> None:
    play = in_doubt()
    play.decide("RETRY")
    play.wait(over(play))
    play.outcome("REFUSED")
    play.wait(SECOND)
    assert [s.dispatch_number for s in play.flying] == [3]
    assert play.pending == []


def test_abort_ends_the_run_and_the_call_says_that_it_may_have_happened() -> None:
    play = in_doubt()
    play.decide("ABORT")
    assert the_step(play).state == "CANCELLED"
    assert "not known whether" in the_step(play).result.content  # type: ignore[union-attr]  # a cancelled call has one


@pytest.mark.parametrize("retried", [False, True])
def test_a_cancelled_run_closes_the_question(retried: bool) -> None:
    play = in_doubt()
    if retried:
        play.decide("RETRY")
    play.cancel()
    assert (play.pending, the_step(play).state, play.session.due_time) == ([], "CANCELLED", 0)
    assert "not known whether" in the_step(play).result.content  # type: ignore[union-attr]  # a cancelled call has one


# --- what must not be


def refused(play: Play, error: type[Exception], **said: Any) -> None:
    [asked] = play.pending
    change = play.change()
    with pytest.raises(error):
        decide(
            change, asked, Decision(**{"decider": "anna", "digest": asked.digest, **said}, decide_time=1), play.catalog
        )
    assert change.is_empty


@pytest.mark.parametrize("text", ["sent", '{"a":1,"a":2}', '{"a": NaN}', '"\\u0000"', '"\\ud800"', "[" * 70 + "]" * 70])
def test_a_result_that_could_be_read_in_two_ways_is_refused(text: str) -> None:
    refused(in_doubt(), InvalidJson, action="RESPOND", response_json=text)


def test_a_response_goes_with_respond_and_respond_with_a_response() -> None:
    refused(in_doubt(), InvalidInput, action="RESPOND")
    refused(in_doubt(), InvalidInput, action="RETRY", response_json="1")
    refused(in_doubt(), InvalidInput, action="ABORT", response_json="1")


def test_a_late_outcome_does_not_change_what_a_person_is_asked() -> None:
    play = in_doubt()
    step = the_step(play)
    play.outcome("SUCCEEDED", step, result=ToolResult("sent after all"))
    assert (the_step(play).state, len(play.pending)) == ("IN_DOUBT", 1)


def tampered(play: Play, **fields: Any) -> Step:
    """The doubtful step, put back to APPROVED by something else than a RETRY."""
    step = play.snapshot.steps[the_step(play).id] = replace(
        the_step(play), **{"state": "APPROVED", "not_before_time": 0, **fields}
    )
    play.do()
    return play.snapshot.steps[step.id]


@pytest.mark.parametrize("tool", ["send_mail", "run_command"])
def test_no_call_in_doubt_is_dispatched_without_a_persons_retry(tool: str) -> None:
    step = tampered(in_doubt(tool=tool))
    assert (step.state, step.failure.reason, step.dispatch_number) == ("CANCELLED", "DIGEST_MISMATCH", 1)


def test_a_retry_that_nobody_decided_is_no_retry() -> None:
    play = in_doubt()
    [asked] = play.pending
    step = tampered(play, approval_id=asked.id, approval_preimage=asked.preimage)
    assert (step.state, step.dispatch_number) == ("CANCELLED", 1)


def test_the_retry_of_the_first_doubt_is_none_of_the_second() -> None:
    play = in_doubt()
    [first] = play.pending
    play.decide("RETRY")
    play.wait(over(play))
    play.outcome("LOST")
    step = tampered(play, approval_id=first.id, approval_preimage=first.preimage)
    assert (step.state, step.dispatch_number) == ("CANCELLED", 2)
