"""What a model reads: a valid conversation, built from recorded rows alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.domain import transcript
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.records import ModelReply
from orchestrator.domain.transcript import HISTORY_MESSAGES, ChatMessage, is_too_long
from tests.unit.domain.build import Play, call, draft, plan_answer, route_answer, task


def shape(play: Play) -> list[str]:
    return [message.role for message in play.seen().messages]


def texts(play: Play, role: str) -> list[str]:
    return [message.text for message in play.seen().messages if message.role == role]


def test_every_call_is_followed_by_its_one_result_in_the_replys_order() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply(
        "I will", call("send_mail", "c1"), call("read_file", "c2"), call("format_disk", "c3"), call("write_file", "c4")
    )
    mail, read = play.flying
    play.result("read", step=read)
    play.result("sent", step=mail)
    messages = play.seen().messages
    assert [m.role for m in messages] == ["SYSTEM", "USER", "ASSISTANT", "TOOL", "TOOL", "TOOL", "TOOL"]
    assert [m.call_id for m in messages[3:]] == ["c1", "c2", "c3", "c4"]
    assert [m.text for m in messages[3:5]] == ["sent", "read"]
    assert [m.is_error for m in messages[3:]] == [False, False, True, True]
    assert [c.call_id for c in messages[2].tool_calls] == ["c1", "c2", "c3", "c4"]


def test_the_agents_instructions_come_first_and_its_tools_alone_are_offered() -> None:
    play = Play()
    play.say("what is this?", agent="ask")
    seen = play.seen()
    assert seen.messages == (ChatMessage("SYSTEM", "You answer."), ChatMessage("USER", "what is this?"))
    assert [tool.name for tool in seen.tools] == ["read_file"]
    assert (seen.purpose, seen.output_schema_json, seen.turn) == ("ANSWER", "", 0)


def test_routing_and_planning_get_their_schema_and_the_agents_there_are() -> None:
    play = Play()
    play.say()
    assert '"complexity"' in play.seen().output_schema_json
    assert texts(play, "SYSTEM") == ["You route.\n\nThe agents:\n- coder: writes code\n- ask: answers"]
    play.reply(route_answer())
    assert '"subtasks"' in play.seen().output_schema_json


def test_a_failed_model_call_never_enters_the_conversation() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("first", call("read_file"))
    play.result("text")
    [failing] = play.flying
    play.snapshot.steps[failing.id] = replace(failing, reply=ModelReply("half a"))
    play.fail("FATAL")
    play.decide("RETRY")
    assert texts(play, "ASSISTANT") == ["first"]
    assert play.seen().turn == 0


def test_a_retry_reads_what_was_done_then_why_it_starts_again_then_its_own_work() -> None:
    play = Play()
    play.approved_plan(task("a"))
    play.reply("first", call("read_file"))
    play.result("text")
    play.fail("FATAL")
    play.decide("RETRY")
    assert shape(play)[-4:] == ["USER", "ASSISTANT", "TOOL", "USER"]
    assert "it broke" in texts(play, "USER")[-1]
    play.reply("second", call("read_file"))
    play.result("more")
    assert shape(play)[-6:] == ["USER", "ASSISTANT", "TOOL", "USER", "ASSISTANT", "TOOL"]
    assert texts(play, "ASSISTANT") == ["first", "second"]


def test_each_retry_is_told_of_the_try_before_it() -> None:
    play = Play()
    play.approved_plan(task("a"))
    for _ in range(2):
        play.reply("thinking", call("read_file"))
        play.result("text")
        play.fail("FATAL")
        play.decide("RETRY")
    assert shape(play)[3:] == ["ASSISTANT", "TOOL", "USER"] * 2


def test_a_planning_that_is_retried_after_a_bad_plan_reads_words_between_two_answers() -> None:
    play = Play()
    play.say(agent="architect")
    for _ in range(3):
        play.reply("no plan")
    play.decide("RETRY")
    assert shape(play) == ["SYSTEM", "USER"] + ["ASSISTANT", "USER"] * 3


def test_an_answer_that_does_not_do_goes_back_with_each_problem() -> None:
    play = Play()
    play.say(agent="architect")
    play.reply(plan_answer(task("a", "ghost")))
    assert shape(play)[-2:] == ["ASSISTANT", "USER"]
    assert "subtasks[0].depends_on: no subtask has the key 'ghost'" in texts(play, "USER")[-1]
    assert play.seen().turn == 1


def test_a_rejected_call_is_read_with_the_persons_words() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    play.decide("REJECT", feedback="use another name")
    tool = play.seen().messages[-1]
    assert (tool.role, tool.is_error) == ("TOOL", True)
    assert "use another name" in tool.text


def test_a_subtask_reads_its_instructions_the_goal_and_the_results_it_depends_on_alone() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c", "a"))
    play.reply("result of the first")
    play.reply("result of the second")
    [goal, own] = texts(play, "USER")
    assert "the goal" in goal
    assert "result of the first" in goal
    assert "result of the second" not in goal
    assert "Instructions for c" in own


def test_what_was_said_before_is_remembered_and_what_waits_behind_is_not() -> None:
    play = Play()
    play.say("one", agent="ask")
    play.reply("first answer")
    play.say("two", agent="ask")
    play.say("three", agent="ask")
    assert [(m.role, m.text) for m in play.seen().messages[1:]] == [
        ("USER", "one"),
        ("ASSISTANT", "first answer"),
        ("USER", "two"),
    ]


def test_a_message_that_waited_in_the_queue_reads_the_answer_given_meanwhile() -> None:
    play = Play()
    play.say("one", agent="ask")
    play.say("two", agent="ask")
    play.reply("first answer")
    assert [m.text for m in play.seen().messages[1:]] == ["one", "first answer", "two"]


def test_a_long_history_is_cut_to_its_latest_messages() -> None:
    play = Play()
    for number in range(30):
        play.say(f"question {number}", agent="ask")
        play.reply(f"answer {number}")
    play.say("the last", agent="ask")
    messages = play.seen().messages
    assert len(messages) == 1 + HISTORY_MESSAGES + 1
    assert messages[1].text == "question 10"


def test_the_same_rows_give_the_same_conversation() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("x", call("read_file"))
    play.result()
    assert play.seen() == play.seen()


LONG = "x" * 5_000


def said(play: Play) -> None:
    play.say(LONG, agent="coder")


def said_before(play: Play) -> None:
    play.say(LONG, agent="coder")
    ended = play.snapshot.session.active_run_id
    play.reply("done")
    play.say(agent="coder")
    del play.snapshot.runs[ended]  # as it is loaded: of what has ended the messages alone


def replied(play: Play) -> None:
    play.say(agent="coder")
    play.reply(LONG, call("send_mail"))
    play.result("sent")


def called_with(play: Play) -> None:
    play.say(agent="coder")
    play.reply("", call("send_mail", text=LONG))
    play.result("sent")


def came_to(play: Play) -> None:
    play.say(agent="coder")
    play.reply("", call("send_mail"))
    play.result(LONG)


def instructed(play: Play) -> None:
    play.submit(draft(SubtaskDraft("a", "Do a", LONG, "coder")))
    play.decide("APPROVE")


def depends_on(play: Play) -> None:
    play.submit(draft(task("a"), task("b", "a")))
    play.decide("APPROVE")
    play.reply(LONG)


def summed_up(play: Play) -> None:
    play.submit(replace(draft(), summary=LONG))
    play.decide("APPROVE")


def told_after_a_failure(play: Play) -> None:
    play.say(agent="coder")
    play.fail()
    play.decide("RETRY", feedback=LONG)


@pytest.mark.parametrize(
    "made_long",
    [said, said_before, replied, called_with, came_to, instructed, depends_on, summed_up, told_after_a_failure],
)
def test_wherever_it_is_long_a_conversation_is_found_too_long(
    monkeypatch: pytest.MonkeyPatch, made_long: Callable[[Play], None]
) -> None:
    play = Play()
    made_long(play)
    [step] = play.flying
    assert not is_too_long(play.snapshot, step, play.catalog)
    monkeypatch.setattr(transcript, "MOST_BYTES", 4_000)
    monkeypatch.setattr(transcript, "FEW_CHARACTERS", 2_000)
    assert is_too_long(play.snapshot, step, play.catalog)
