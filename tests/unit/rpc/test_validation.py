"""What of a request is refused for holding NUL, and under which name."""

import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from gen.assent.v1.approval_pb2 import DECISION_ACTION_APPROVE
from gen.assent.v1.approval_service_pb2 import DecideApprovalRequest
from gen.assent.v1.budget_pb2 import Budget
from gen.assent.v1.plan_pb2 import SubtaskDraft
from gen.assent.v1.plan_service_pb2 import CreatePlanRequest
from gen.assent.v1.session_service_pb2 import CreateSessionRequest
from gen.assent.v1.workspace_pb2 import Workspace
from rpc.problem import Problem
from rpc.validation import RequestReader

ID = "0196f3c8-7d2e-7a51-9c1b-2f6f3a1d0e42"
NUL = "must not contain NUL"


def reader(request: Message) -> RequestReader:
    return RequestReader(type(request).FromString, 1_000_000)


def refused(request: Message) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as problem:
        reader(request).read(request.SerializeToString())
    assert (problem.value.code.name, problem.value.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert "\0" not in problem.value.message
    return [(each.field, each.description) for each in problem.value.fields]


def plan(**changed: str) -> CreatePlanRequest:
    subtasks = [SubtaskDraft(key=f"k{index}", instructions="do", agent="coder") for index in range(3)]
    for name, text in changed.items():
        setattr(subtasks[2], name, text)
    return CreatePlanRequest(session_id=ID, title="t", subtasks=subtasks)


def plan_that_depends() -> CreatePlanRequest:
    request = plan()
    request.subtasks[1].depends_on.extend(["k0", "a\0"])
    return request


def with_object() -> Struct:
    request = Struct()
    request.update({"a": {"b": [1, "x\0"]}, "\0": 0})
    return request


NAMED: dict[str, tuple[Message, str]] = {
    "within": (CreateSessionRequest(title="a\0b"), "title"),
    "nothing else": (CreateSessionRequest(title="\0"), "title"),
    "a value": (CreateSessionRequest(labels={"k": "a\0"}), 'labels["k"]'),
    "a key": (CreateSessionRequest(labels={"k\0": "a"}), 'labels["k\\u0000"]'),
    "a key and its value": (CreateSessionRequest(labels={"k\0": "a\0"}), 'labels["k\\u0000"]'),
    "nested": (CreateSessionRequest(workspace=Workspace(directory="a\0")), "workspace.directory"),
    "in a list": (plan(instructions="do\0"), "subtasks[2].instructions"),
    "a list in a list": (plan_that_depends(), "subtasks[1].depends_on[1]"),
    "a oneof in maps": (
        with_object(),
        'fields["a"].struct_value.fields["b"].list_value.values[1].string_value',
    ),
    "a key of messages": (with_object(), 'fields["\\u0000"]'),
}


@pytest.mark.parametrize(("request_", "field"), NAMED.values(), ids=NAMED)
def test_a_text_with_nul_is_refused_by_its_name(request_: Message, field: str) -> None:
    assert refused(request_).count((field, NUL)) == 1


def test_nul_is_reported_together_with_what_else_is_wrong() -> None:
    assert refused(CreateSessionRequest(title="a\0b", agent="x" * 65))[-1] == ("title", NUL)
    assert "agent" in dict(refused(CreateSessionRequest(title="a\0b", agent="x" * 65)))


ZEROS: dict[str, Message] = {
    "bytes": DecideApprovalRequest(
        approval_id=ID, action=DECISION_ACTION_APPROVE, digest="d" * 64, edited_artifact=b"a\0b"
    ),
    "an empty text": CreateSessionRequest(labels={"k": ""}),
    "a number": DecideApprovalRequest(
        approval_id=ID, action=DECISION_ACTION_APPROVE, digest="d" * 64, new_limit=Budget(calls=0)
    ),
}


@pytest.mark.parametrize("request_", ZEROS.values(), ids=ZEROS)
def test_a_zero_byte_that_is_no_character_passes(request_: Message) -> None:
    raw = request_.SerializeToString()
    assert b"\0" in raw
    assert reader(request_).read(raw) == request_


def test_nul_in_one_message_of_a_stream_does_not_end_the_others() -> None:
    request = CreateSessionRequest(title="a\0b")
    assert reader(request).read_part(request.SerializeToString()) == request
