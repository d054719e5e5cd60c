"""One attempt: its model calls and tool calls in turn, each call to its one result, until an answer or an end."""

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.calls import tidy_reply
from orchestrator.domain.records import ModelReply, ToolCall
from tests.unit.domain.build import AGENTS, Play, call, catalog, plan_answer, route_answer, task


def coding(*calls: ToolCall, **book: Any) -> Play:
    play = Play(catalog(**book))
    play.say(agent="coder")
    if calls:
        play.reply("", *calls)
    return play


def states(play: Play) -> list[str]:
    return [step.state for step in play.calls]


def test_a_message_is_routed_planned_reviewed_carried_out_and_completed() -> None:
    play = Play()
    play.say()
    play.reply(route_answer())
    play.reply(plan_answer(task("a")))
    play.decide("APPROVE")
    play.reply("", call("write_file", path="a.txt", content="x"))
    play.decide("APPROVE")
    play.result()
    play.reply("all done")
    assert (play.session.state, play.session.active_run_id, play.flying) == ("COMPLETED", "", [])
    said = list(play.snapshot.messages.values())[-1]
    assert (said.role, said.agent) == ("AGENT", "architect")
    assert "all done" in said.text


def test_a_mix_of_calls_is_decided_one_by_one_and_the_model_waits_for_all() -> None:
    play = coding(call("read_file", "c1"), call("write_file", "c2", path="a"), call("format_disk", "c3"))
    assert states(play) == ["DISPATCHED", "AWAITING_APPROVAL", "REJECTED"]
    play.decide("APPROVE")
    assert states(play) == ["DISPATCHED", "DISPATCHED", "REJECTED"]
    read, write = play.flying
    play.result(step=write)
    assert [s.kind for s in play.flying] == ["TOOL"]
    play.result(step=read)
    assert [s.kind for s in play.flying] == ["MODEL"]


@pytest.mark.parametrize("arguments", ["{bad", "[]", '{"a":1,"a":2}', "1" * 5000, '{"a": NaN}', '{"a":"\\u0000"}'])
def test_arguments_that_are_no_plain_object_come_back_to_the_model_and_never_run(arguments: str) -> None:
    play = coding(ToolCall("c1", "send_mail", arguments))
    [step] = play.calls
    assert (step.state, step.failure.reason, step.dispatch_number) == ("REJECTED", "TOOL_ARGUMENTS_INVALID", 0)
    assert step.result is not None
    assert step.result.is_error
    assert step.arguments_json == arguments


def test_a_call_of_a_tool_nobody_offers_is_denied() -> None:
    [step] = coding(call("no_such_tool")).calls
    assert (step.state, step.policy_rule, step.failure.reason) == ("REJECTED", "unknown-tool", "TOOL_UNKNOWN")
    assert step.failure.disposition == "FATAL"


def test_the_exact_bytes_of_the_arguments_are_kept() -> None:
    text = '{ "id":1234567890123456789 }'
    assert coding(ToolCall("c1", "send_mail", text)).flying[0].arguments_json == text


def test_an_attempt_without_an_answer_ends_at_the_agents_limit() -> None:
    agents = [replace(a, max_steps=4) for a in AGENTS]
    play = coding(call("read_file"), agents=agents)
    play.result()
    play.reply("", call("read_file"))
    play.result()
    assert play.flying == []
    assert [a.kind for a in play.pending] == ["FAILURE"]
    assert "LIMIT_EXCEEDED" in play.pending[0].preview.title


def test_a_conversation_that_no_frame_could_carry_is_sent_to_nobody_and_a_person_is_asked() -> None:
    """What people and clients hand in as results may be a mebibyte each; one frame too large breaks a whole stream."""
    play = coding(*(call("write_file", f"c{n}", path="a") for n in range(9)))
    for approval in play.pending:
        play.decide("RESPOND", approval, response_json=json.dumps("x" * 1_000_000))
    assert play.flying == []
    [asked] = play.pending
    assert (asked.kind, "LIMIT_EXCEEDED" in asked.preview.title) == ("FAILURE", True)
    play.decide("RETRY")
    assert (play.flying, [a.kind for a in play.pending]) == ([], ["FAILURE"])


def test_routing_is_corrected_once_and_then_keywords_decide() -> None:
    play = Play()
    play.say("What is this?")
    play.reply("hm")
    assert play.session.state == "CLASSIFY"
    play.reply("hm")
    assert (play.session.state, play.run.route, play.run.route_agent) == ("EXECUTION", "ATOMIC", "ask")
    assert play.flying[0].agent == "ask"


def test_a_routing_model_that_fails_costs_nothing() -> None:
    play = Play()
    play.say("создай игру")
    play.fail("FATAL")
    assert (play.session.state, play.run.route) == ("ARCHITECT_PLANNING", "COMPLEX")


def test_planning_is_corrected_twice_and_then_a_person_is_asked() -> None:
    play = Play()
    play.say(agent="architect")
    for _ in range(3):
        assert play.session.state == "ARCHITECT_PLANNING"
        play.reply(plan_answer(task("a", "ghost")))
    assert play.session.state == "ERROR_HANDLING"
    assert "INVALID_PLAN" in play.pending[0].preview.title
    assert "ghost" in play.pending[0].preview.text
    assert play.snapshot.plan is None


def test_an_agent_the_catalog_has_lost_fails_its_attempt_and_a_person_is_asked() -> None:
    play = coding()
    play.catalog.agents.pop("coder")
    play.reply("", call("send_mail"))
    assert states(play) == ["REJECTED"]
    assert "AGENT_NOT_FOUND" in play.pending[0].preview.title


def test_a_second_run_does_not_read_the_failures_of_the_first() -> None:
    play = coding()
    play.fail("FATAL")
    play.decide("ABORT")
    play.say("something else", agent="coder")
    [attempt] = [a for a in play.snapshot.attempts.values() if a.run_id == play.run.id]
    assert (attempt.number, attempt.feedback) == (1, "")


@pytest.mark.parametrize(
    ("given", "tidy"),
    [
        (["a", "b"], ["a", "b"]),
        (["", ""], ["call-2", "call-3"]),
        (["a", "a", "a"], ["a", "a-2", "a-3"]),
        (["a", "a-2", "a"], ["a", "a-2", "a-3"]),
        (["a", "a", "a-2"], ["a", "a-3", "a-2"]),
        (["", "call-2"], ["call-3", "call-2"]),
    ],
)
def test_call_ids_are_unique_within_a_reply_and_kept_where_they_were(given: list[str], tidy: list[str]) -> None:
    reply = tidy_reply(ModelReply(tool_calls=[ToolCall(call_id, "t", "{}") for call_id in given]))
    assert [c.call_id for c in reply.tool_calls] == tidy


def test_a_step_waits_visibly_while_no_executor_has_room() -> None:
    play = Play()
    play.has_room = False
    play.say(agent="coder")
    assert [s.state for s in play.steps] == ["PENDING"]
    assert (play.run.state, play.session.runnable, play.session.settled) == ("RUNNING", False, False)
    assert play.session.due_time > play.now
    play.has_room = True
    play.wait(0)
    assert [s.dispatch_number for s in play.flying] == [1]


def test_no_room_uses_up_no_approval() -> None:
    play = coding(call("write_file", path="a"))
    play.has_room = False
    play.decide("APPROVE")
    [approval] = play.snapshot.approvals.values()
    assert (states(play), approval.consume_time) == (["APPROVED"], 0)
    play.has_room = True
    play.wait(0)
    assert states(play) == ["DISPATCHED"]
    assert play.snapshot.approvals[approval.id].consume_time == play.now


@pytest.mark.parametrize(
    "tampered",
    [{"arguments_json": '{"path":"b"}'}, {"approval_preimage": "another"}, {"approval_id": "no such approval"}],
    ids=str,
)
def test_a_call_that_is_not_what_was_approved_never_runs(tampered: dict[str, Any]) -> None:
    play = coding(call("write_file", path="a"))
    [step] = play.calls
    play.snapshot.steps[step.id] = replace(step, **tampered)
    play.decide("APPROVE")
    [step] = play.calls
    assert (step.state, step.failure.reason, step.dispatch_number) == ("CANCELLED", "DIGEST_MISMATCH", 0)
    assert [s.kind for s in play.flying] == ["MODEL"]


def test_an_approval_is_not_used_a_second_time() -> None:
    play = coding(call("write_file", "c1", path="a"), call("write_file", "c2", path="a"))
    used, other = play.pending
    play.decide("APPROVE", used)
    play.result()
    [_, step] = play.calls
    play.snapshot.steps[step.id] = replace(step, approval_id=used.id, approval_preimage=used.preimage)
    play.decide("APPROVE", other)
    assert [(s.state, s.dispatch_number) for s in play.calls] == [("SUCCEEDED", 1), ("CANCELLED", 0)]


def test_a_step_has_a_deadline_by_its_kind() -> None:
    play = coding()
    agent = play.catalog.agents["coder"]
    assert play.flying[0].deadline_time == play.now + agent.model_timeout
    play.reply("", call("read_file"))
    assert play.flying[0].deadline_time == play.now + agent.tool_timeout
