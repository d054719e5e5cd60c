"""What the caller is told of each error: the contract's table, written down a second time."""

import importlib
import pkgutil
from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2

import orchestrator
from gen.assent.v1 import error_reason_pb2
from gen.assent.v1.session_service_pb2 import SendMessageRequest
from orchestrator.domain import errors
from orchestrator.domain.errors import DomainError, Violation
from orchestrator.servicers.errors import translate
from orchestrator.servicers.requests import caller
from orchestrator.streaming.feed import SlowWatcher, StreamEnding
from orchestrator.streaming.inbox import InboxOutdated
from rpc.principal import DEVELOPER, acting_as
from rpc.problem import Problem

CODE = grpc.StatusCode
WHERE = [Violation("subtasks[2].key", "is empty")]

# An example of each class → code, reason, disposition, whether it says when to try again
TABLE: list[tuple[Exception, CODE, str, str, bool]] = [
    (errors.NotFound("session", "s1"), CODE.NOT_FOUND, "SESSION_NOT_FOUND", "FATAL", False),
    (errors.NotFound("run", "r1"), CODE.NOT_FOUND, "RUN_NOT_FOUND", "FATAL", False),
    (errors.NotFound("plan", "p1"), CODE.NOT_FOUND, "PLAN_NOT_FOUND", "FATAL", False),
    (errors.NotFound("approval", "v1"), CODE.NOT_FOUND, "APPROVAL_NOT_FOUND", "FATAL", False),
    (
        errors.WrongState("run", "r1", "COMPLETED", "cancelled", ("RUNNING", "WAITING")),
        CODE.FAILED_PRECONDITION,
        "WRONG_STATE",
        "FATAL",
        False,
    ),
    (errors.InvalidInput(WHERE), CODE.INVALID_ARGUMENT, "INVALID_REQUEST", "FATAL", False),
    (errors.UnknownAgent(WHERE), CODE.INVALID_ARGUMENT, "AGENT_NOT_FOUND", "FATAL", False),
    (errors.UnknownPolicy(WHERE), CODE.INVALID_ARGUMENT, "POLICY_NOT_FOUND", "FATAL", False),
    (errors.InvalidJson(WHERE), CODE.INVALID_ARGUMENT, "INVALID_JSON", "FATAL", False),
    (errors.InvalidPlan(WHERE), CODE.INVALID_ARGUMENT, "INVALID_PLAN", "FATAL", False),
    (errors.InvalidPageToken(WHERE), CODE.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN", "FATAL", False),
    (errors.WorkspaceNotAllowed(WHERE), CODE.INVALID_ARGUMENT, "WORKSPACE_NOT_ALLOWED", "FATAL", False),
    (errors.RequestIdReused("q1"), CODE.INVALID_ARGUMENT, "REQUEST_ID_REUSED", "FATAL", False),
    (
        errors.ClaimedByAnother("x1", "ide"),
        CODE.FAILED_PRECONDITION,
        "TOOL_CALL_CLAIMED",
        "RETRYABLE",
        False,
    ),
    (
        errors.DigestMismatch("v1", "good", "bad"),
        CODE.FAILED_PRECONDITION,
        "DIGEST_MISMATCH",
        "HUMAN_REQUIRED",
        False,
    ),
    (
        errors.StaleVersion("plan", "p2", 2, "digest"),
        CODE.ABORTED,
        "STALE_VERSION",
        "HUMAN_REQUIRED",
        False,
    ),
    (
        errors.ApprovalAlreadyResolved("v1", "RESOLVED", "REJECT", "anna", 7),
        CODE.FAILED_PRECONDITION,
        "APPROVAL_ALREADY_RESOLVED",
        "FATAL",
        False,
    ),
    (
        errors.ActionNotAllowed("v1", "RETRY", ("APPROVE", "REJECT")),
        CODE.FAILED_PRECONDITION,
        "ACTION_NOT_ALLOWED",
        "FATAL",
        False,
    ),
    (
        errors.DeciderNotAllowed("v1", "anna", ("lead",)),
        CODE.PERMISSION_DENIED,
        "DECIDER_NOT_ALLOWED",
        "HUMAN_REQUIRED",
        False,
    ),
    (errors.SelfApproval("v1", "anna"), CODE.FAILED_PRECONDITION, "SELF_APPROVAL", "HUMAN_REQUIRED", False),
    (errors.GrantNotOffered("v1"), CODE.FAILED_PRECONDITION, "GRANT_NOT_OFFERED", "FATAL", False),
    (errors.SessionBusy("s1", "r1"), CODE.FAILED_PRECONDITION, "SESSION_BUSY", "RETRYABLE", False),
    (errors.LimitExceeded("queued runs", 100, "text"), CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", "FATAL", False),
    (errors.NotYetSupported("pausing"), CODE.UNIMPLEMENTED, "NOT_IMPLEMENTED", "FATAL", False),
    (errors.StorageUnavailable("pg: secret"), CODE.UNAVAILABLE, "STORAGE_UNAVAILABLE", "RETRYABLE", True),
    (SlowWatcher(41), CODE.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW", "RETRYABLE", True),
    (StreamEnding(41), CODE.UNAVAILABLE, "SHUTTING_DOWN", "RETRYABLE", True),
    (InboxOutdated(), CODE.UNAVAILABLE, "STREAM_OUTDATED", "RETRYABLE", True),
]


def problem(error: Exception) -> Problem:
    made = translate(error)
    assert made is not None
    return made


def details(error: Exception) -> list[str]:
    return [detail.TypeName().removeprefix("google.rpc.") for detail in problem(error).to_status().details]


def subclasses(cls: type[Exception]) -> Iterator[type[Exception]]:
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


def kind(case: object) -> str | None:
    return f"{type(case).__name__}: {case}" if isinstance(case, Exception) else None


@pytest.mark.parametrize(("error", "code", "reason", "disposition", "says_when"), TABLE, ids=kind)
def test_an_error_is_told_as_the_contract_says(
    error: Exception, code: grpc.StatusCode, reason: str, disposition: str, says_when: bool
) -> None:
    made = problem(error)
    assert (made.code, made.reason, made.disposition) == (code, reason, disposition)
    assert made.to_status().code == code.value[0]
    assert details(error).count("ErrorInfo") == 1
    assert ("RetryInfo" in details(error)) == says_when
    assert ("BadRequest" in details(error)) or code != CODE.INVALID_ARGUMENT
    assert made.message


@pytest.mark.parametrize("error", [case[0] for case in TABLE], ids=kind)
def test_the_one_error_info_is_of_our_domain_and_says_what_to_do(error: Exception) -> None:
    info = error_details_pb2.ErrorInfo()
    [packed] = [d for d in problem(error).to_status().details if d.TypeName() == "google.rpc.ErrorInfo"]
    packed.Unpack(info)
    assert info.domain == "assent"
    assert f"ERROR_REASON_{info.reason}" in error_reason_pb2.ErrorReason.keys()
    assert info.metadata["disposition"] in ("RETRYABLE", "HUMAN_REQUIRED", "FATAL")


def test_no_domain_error_is_without_its_line_in_the_table() -> None:
    for module in pkgutil.walk_packages(orchestrator.__path__, "orchestrator."):
        if ".migrations" not in module.name and "__main__" not in module.name:
            importlib.import_module(module.name)
    known = {type(case[0]) for case in TABLE}
    assert set(subclasses(DomainError)) - known == set()


@pytest.mark.parametrize("unplanned", [KeyError("secret"), ValueError("secret"), RuntimeError(), Exception()])
def test_what_nobody_planned_is_not_in_the_table(unplanned: Exception) -> None:
    assert translate(unplanned) is None


def test_a_lost_decision_names_the_winner() -> None:
    lost = problem(errors.ApprovalAlreadyResolved("v1", "RESOLVED", "REJECT", "anna", 7))
    assert lost.metadata == {
        "approval": "v1",
        "state": "RESOLVED",
        "action": "REJECT",
        "decider": "anna",
        "decide_time_micros": "7",
    }
    assert [p.subject for p in lost.preconditions] == ["v1"]


def test_a_wrong_state_names_the_one_it_is_in_and_those_that_would_do() -> None:
    wrong = problem(errors.WrongState("run", "r1", "COMPLETED", "cancelled", ("RUNNING", "WAITING")))
    assert (wrong.metadata["state"], wrong.metadata["accepting"]) == ("COMPLETED", "RUNNING, WAITING")
    [violation] = wrong.preconditions
    assert violation.subject == "r1"
    assert all(word in violation.description for word in ("COMPLETED", "RUNNING", "WAITING"))


@pytest.mark.parametrize("error", [errors.InvalidInput(WHERE), errors.InvalidPlan(WHERE), errors.UnknownAgent(WHERE)])
def test_bad_input_names_its_fields(error: Exception) -> None:
    assert [(f.field, f.description) for f in problem(error).fields] == [("subtasks[2].key", "is empty")]


@pytest.mark.parametrize("error", [SlowWatcher(41), StreamEnding(41)])
def test_a_stream_that_is_cut_says_where_to_resume(error: Exception) -> None:
    assert problem(error).metadata == {"resume_after_sequence": "41"}


@pytest.mark.parametrize("error", [SlowWatcher(None), StreamEnding(None)])
def test_a_stream_that_begins_again_names_no_place(error: Exception) -> None:
    assert problem(error).metadata == {}
    assert "call again" in problem(error).message


def test_an_unavailable_store_says_nothing_of_itself_and_by_which_id_to_repeat() -> None:
    with acting_as(DEVELOPER):
        made_here = caller("SendMessage", SendMessageRequest(text="hello")).request_id
    told = problem(errors.StorageUnavailable("pg: password=secret at 10.0.0.1"))
    assert "secret" not in str(told.to_status())
    assert told.metadata == {"request_id": made_here}


def test_a_wrong_state_names_the_machine_in_a_word_that_clients_can_switch_on() -> None:
    found = error_details_pb2.PreconditionFailure()
    wrong = errors.WrongState("tool step", "x1", "DISPATCHED", "claimed", ("READY",))
    [packed] = [d for d in problem(wrong).to_status().details if d.TypeName() == "google.rpc.PreconditionFailure"]
    packed.Unpack(found)
    assert [(v.type, v.subject) for v in found.violations] == [("TOOL_STEP_STATE", "x1")]
