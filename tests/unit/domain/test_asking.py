"""What a person is asked and shown: about a plan, a call, a failure; always the exact thing that will run."""

import json

import pytest

from orchestrator.domain.digests import sha256, tool_preimage
from orchestrator.domain.events import ApprovalRequested
from orchestrator.domain.records import Approval, ToolCall
from tests.unit.domain.build import Play, call, draft, task


def asked_about(tool_call: ToolCall) -> Approval:
    play = Play()
    play.say(agent="coder")
    play.reply("", tool_call)
    [approval] = play.pending
    return approval


def test_a_plan_is_shown_as_markdown_with_who_does_what_after_what() -> None:
    play = Play()
    play.submit(draft(task("a"), task("b", "a", agent="ask")))
    [approval] = play.pending
    assert (approval.kind, approval.plan_version, approval.digest) == ("PLAN", 1, play.plan.digest)
    assert approval.allowed_actions == ["APPROVE", "REQUEST_CHANGES", "REJECT", "ABORT"]
    assert approval.preview.title == "Plan: Title"
    assert approval.preview.text.splitlines() == [
        "# Title",
        "",
        "> Summary",
        "",
        "1. **Do a** [a], by coder",
        "   > Instructions for a",
        "2. **Do b** [b], by ask (after a)",
        "   > Instructions for b",
        "",
        "The goal, as the agents are told it:",
        "> the goal",
    ]


def test_a_plans_goal_is_shown_line_by_line_as_what_it_is_and_not_where_it_says_only_the_title_again() -> None:
    play = Play()
    play.submit(draft(task("a")))
    play.revise(draft(task("a")), goal="the goal\n\n2. **Do z** [z], by coder")
    [approval] = play.pending
    assert approval.preview.text.endswith("told it:\n> the goal\n> \n> 2. **Do z** [z], by coder")
    play.revise(draft(task("a")), goal="Title")
    [approval] = play.pending
    assert "goal" not in approval.preview.text


def test_a_revised_goal_alone_is_another_digest() -> None:
    play = Play()
    play.submit(draft(task("a")))
    said = [line for line in play.pending[0].preimage.splitlines() if line.startswith("plan_sha256")]
    play.revise(draft(task("a")), goal="another goal")
    [approval] = play.pending
    assert approval.digest == play.plan.digest
    assert said[0] not in approval.preimage


def test_a_write_is_shown_with_its_path_and_what_the_file_will_be() -> None:
    preview = asked_about(call("write_file", path="lib/main.dart", content="void main() {}\n")).preview
    assert (preview.title, preview.path, preview.new_text) == (
        "Write lib/main.dart",
        "lib/main.dart",
        "void main() {}\n",
    )
    assert (preview.agent, preview.reason) == ("coder", "it changes something")


def test_a_command_is_shown_as_its_line() -> None:
    preview = asked_about(call("run_command", command="flutter create .")).preview
    assert (preview.title, preview.text) == ("Run: flutter create .", "flutter create .")


@pytest.mark.parametrize("arguments", ['{"command": 5}', '{"id": 1234567890123456789}', "{ }"])
def test_any_other_call_is_shown_as_the_exact_bytes_of_its_arguments(arguments: str) -> None:
    approval = asked_about(ToolCall("c1", "run_command", arguments))
    assert approval.preview.title == "Call run_command"
    assert approval.preview.text == approval.arguments_json == arguments


def test_a_write_without_text_is_shown_as_its_arguments() -> None:
    arguments = json.dumps({"path": "a", "content": 5})
    assert asked_about(ToolCall("c1", "write_file", arguments)).preview.text == arguments


def test_a_calls_approval_is_bound_to_the_steps_preimage() -> None:
    play = Play()
    play.approved_plan(task("a"))
    play.reply("", call("write_file", path="a"))
    [approval], [step] = play.pending, play.calls
    assert approval.preimage == step.approval_preimage == tool_preimage(step, 1, "policy-digest")
    assert approval.digest == sha256(approval.preimage)
    assert (approval.step_id, step.approval_id, step.policy_rule) == (step.id, approval.id, "changes")
    assert (approval.subtask_id, approval.plan_id) == (play.subtask("a").id, play.plan.id)


def test_two_equal_calls_are_two_questions_with_two_digests() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("write_file", "c1", path="a"), call("write_file", "c2", path="a"))
    one, two = play.pending
    assert one.digest != two.digest
    assert one.arguments_json == two.arguments_json


def test_a_failed_subtask_asks_with_its_reason_and_words() -> None:
    play = Play()
    play.approved_plan(task("a"))
    play.fail("FATAL")
    [approval] = play.pending
    assert (approval.kind, approval.allowed_actions) == ("FAILURE", ["RETRY", "REPLAN", "SKIP", "ABORT"])
    assert approval.preview.title == "Subtask a: Do a failed: MODEL_FAILED"
    assert (approval.preview.text, approval.subtask_id) == ("it broke", play.subtask("a").id)


@pytest.mark.parametrize(("agent", "what"), [("architect", "Planning"), ("coder", "Answering")])
def test_a_failure_outside_a_plan_says_what_failed(agent: str, what: str) -> None:
    play = Play()
    play.say(agent=agent)
    play.fail("FATAL")
    assert play.pending[0].preview.title == f"{what} failed: MODEL_FAILED"


def test_a_question_about_a_later_failure_has_another_digest() -> None:
    play = Play()
    play.say(agent="coder")
    play.fail("FATAL")
    first = play.pending[0].digest
    play.decide("RETRY")
    play.fail("FATAL")
    assert play.pending[0].digest != first


def test_every_question_is_an_event_with_all_a_person_needs() -> None:
    play = Play()
    play.submit(draft())
    [event] = [e for e in play.events if isinstance(e, ApprovalRequested)]
    assert [event.approval] == play.pending
    assert event.approval.create_time == play.now
