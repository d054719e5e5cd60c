"""What a webhook is told: enough to find a question, never what a call would do in full, and bounded."""

import json

import msgspec

from orchestrator.domain.events import (
    ApprovalReminder,
    ApprovalRequested,
    ApprovalResolved,
    Event,
    LoggedEvent,
    event_name,
)
from orchestrator.domain.records import Approval, Preview
from orchestrator.servicers.notice import body_of

HIDDEN = "canary"


def told(event: Event) -> tuple[bytes, dict[str, object]]:
    payload = msgspec.json.encode({event_name(type(event)): event}).decode()
    body = body_of(LoggedEvent("t", "s", 7, 1_000_000, "trace", payload, "hash", "before"))
    return body, json.loads(body)


def test_a_question_is_told_with_its_name_and_without_its_arguments() -> None:
    huge = "⟦U+202E⟧" * 20_000
    preview = Preview("Run: ls", huge, path="a", new_text=HIDDEN * 9_000, agent_words=huge, reason=huge)
    asked = Approval(
        "t",
        "a",
        "s",
        "r",
        "TOOL_CALL",
        "digest",
        preimage=HIDDEN,
        tool="run_command",
        preview=preview,
        arguments_json=HIDDEN,
    )
    body, said = told(ApprovalRequested(asked))
    assert len(body) < 20 * 1024
    assert HIDDEN.encode() not in body
    assert (said["id"], said["type"], said["tenant"]) == ("s:7", "approval_requested", "t")
    event = said["event"]
    assert isinstance(event, dict)
    shown = event["approvalRequested"]["approval"]
    assert (shown["id"], shown["kind"], shown["preview"]["title"]) == ("a", "APPROVAL_KIND_TOOL_CALL", "Run: ls")
    assert shown["preview"]["truncated"] is True
    assert shown["preview"]["text"].endswith("⟧")


def test_an_answer_is_told_without_what_it_would_run_instead() -> None:
    resolved = ApprovalResolved(
        "a",
        "TOOL_CALL",
        "r",
        "RESOLVED",
        "decided",
        action="EDIT",
        decider="anna",
        feedback="x" * 9_000,
        response_json=HIDDEN,
        edited_arguments_json=HIDDEN,
    )
    body, said = told(resolved)
    assert HIDDEN.encode() not in body
    assert len(body) < 4_096
    event = said["event"]
    assert isinstance(event, dict)
    assert event["approvalResolved"]["decider"] == "anna"


def test_a_reminder_says_what_still_waits() -> None:
    _, said = told(ApprovalReminder("a", "PLAN", "r", 2, 0))
    assert said["type"] == "approval_reminder"


def test_the_same_event_is_told_in_the_same_bytes() -> None:
    asked = ApprovalRequested(Approval("t", "a", "s", "r", "PLAN", "digest", preview=Preview("A plan", "text")))
    assert told(asked)[0] == told(asked)[0]
