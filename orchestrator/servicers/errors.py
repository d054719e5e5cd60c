"""The one table from what can be wrong to what the caller is told: gRPC code, reason of the contract, details."""

from collections.abc import Callable
from typing import Any

from grpc import StatusCode

from orchestrator.domain.errors import (
    ActionNotAllowed,
    ApprovalAlreadyResolved,
    ClaimedByAnother,
    DeciderNotAllowed,
    DigestMismatch,
    GrantNotOffered,
    InvalidInput,
    InvalidJson,
    InvalidPageToken,
    InvalidPlan,
    LimitExceeded,
    NotFound,
    NotYetSupported,
    RequestIdReused,
    SelfApproval,
    SessionBusy,
    StaleVersion,
    StorageUnavailable,
    UnknownAgent,
    UnknownPolicy,
    WorkspaceNotAllowed,
    WrongState,
)
from orchestrator.servicers.requests import current_request_id
from orchestrator.streaming.feed import SlowWatcher, StreamEnding
from orchestrator.streaming.inbox import InboxOutdated
from rpc.problem import Problem

RETRY_AFTER_SECONDS = 1.0


def translate(error: BaseException) -> Problem | None:
    """The problem a domain error means to the caller; None for what nobody planned."""
    make = next((_TABLE[cls] for cls in type(error).__mro__ if cls in _TABLE), None)
    return None if make is None else make(error)


def _not_found(e: NotFound) -> Problem:
    return Problem(StatusCode.NOT_FOUND, f"{e.kind.upper()}_NOT_FOUND", str(e), metadata={e.kind: e.id})


def _wrong_state(e: WrongState) -> Problem:
    would = ", ".join(e.accepting)
    kind = f"{e.machine.upper().replace(' ', '_')}_STATE"
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "WRONG_STATE",
        str(e),
        metadata={"machine": e.machine, "id": e.id, "state": e.state, "accepting": would},
        preconditions=[(kind, e.id, f"is {e.state}; would do: {would}")],
    )


def _invalid(e: InvalidInput) -> Problem:
    fields = [(v.field, v.description) for v in e.violations]
    return Problem(StatusCode.INVALID_ARGUMENT, _INVALID.get(type(e), "INVALID_REQUEST"), str(e), fields=fields)


_INVALID: dict[type[InvalidInput], str] = {
    InvalidJson: "INVALID_JSON",
    InvalidPlan: "INVALID_PLAN",
    InvalidPageToken: "INVALID_PAGE_TOKEN",
    UnknownAgent: "AGENT_NOT_FOUND",
    UnknownPolicy: "POLICY_NOT_FOUND",
    WorkspaceNotAllowed: "WORKSPACE_NOT_ALLOWED",
}


def _reused(e: RequestIdReused) -> Problem:
    fields = [("request_id", "was used before with other content")]
    return Problem(StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED", str(e), fields=fields)


def _digest(e: DigestMismatch) -> Problem:
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "DIGEST_MISMATCH",
        str(e),
        disposition="HUMAN_REQUIRED",
        metadata={"approval": e.approval_id, "digest": e.expected},
        fields=[("digest", f"the approval is about {e.expected}")],
    )


def _resolved(e: ApprovalAlreadyResolved) -> Problem:
    metadata = {
        "approval": e.approval_id,
        "state": e.state,
        "action": e.action,
        "decider": e.decided_by,
        "decide_time_micros": str(e.decide_time),
    }
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "APPROVAL_ALREADY_RESOLVED",
        str(e),
        metadata=metadata,
        preconditions=[("APPROVAL_STATE", e.approval_id, f"is {e.state}; would do: PENDING")],
    )


def _action(e: ActionNotAllowed) -> Problem:
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "ACTION_NOT_ALLOWED",
        str(e),
        metadata={"approval": e.approval_id, "allowed": ",".join(e.allowed)},
        fields=[("action", f"must be one of: {', '.join(e.allowed)}")],
    )


def _decider(e: DeciderNotAllowed) -> Problem:
    return Problem(
        StatusCode.PERMISSION_DENIED,
        "DECIDER_NOT_ALLOWED",
        str(e),
        disposition="HUMAN_REQUIRED",
        metadata={"approval": e.approval_id, "roles": ",".join(e.roles)},
    )


def _self(e: SelfApproval) -> Problem:
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "SELF_APPROVAL",
        str(e),
        disposition="HUMAN_REQUIRED",
        metadata={"approval": e.approval_id, "author" if e.wrote_it else "requester": e.decider},
        preconditions=[("APPROVAL_DECIDER", e.approval_id, "must be somebody else than who asked for it or wrote it")],
    )


def _not_offered(e: GrantNotOffered) -> Problem:
    metadata = {"approval": e.approval_id}
    fields = [("remember", f"is not offered: {e.why}")]
    return Problem(StatusCode.FAILED_PRECONDITION, "GRANT_NOT_OFFERED", str(e), metadata=metadata, fields=fields)


def _claimed(e: ClaimedByAnother) -> Problem:
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "TOOL_CALL_CLAIMED",
        str(e),
        disposition="RETRYABLE",
        metadata={"step": e.step_id, "client_id": e.client_id},
        preconditions=[("TOOL_CALL_CLAIM", e.step_id, f"client {e.client_id} has claimed it")],
    )


def _busy(e: SessionBusy) -> Problem:
    return Problem(
        StatusCode.FAILED_PRECONDITION,
        "SESSION_BUSY",
        str(e),
        disposition="RETRYABLE",
        metadata={"session": e.session_id, "run": e.run_id},
        preconditions=[("SESSION_RUN", e.session_id, f"run {e.run_id} is active")],
    )


def _limit(e: LimitExceeded) -> Problem:
    metadata = {"limit": e.limit, "maximum": str(e.maximum)}
    fields = [(e.field, f"at most {e.maximum}")] if e.field else []
    return Problem(StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", str(e), metadata=metadata, fields=fields)


def _stale(e: StaleVersion) -> Problem:
    return Problem(
        StatusCode.ABORTED,
        "STALE_VERSION",
        str(e),
        disposition="HUMAN_REQUIRED",
        metadata={e.kind: e.newest_id, "version": str(e.newest_version), "digest": e.newest_digest},
    )


def _unsupported(e: NotYetSupported) -> Problem:
    return Problem(StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", str(e), metadata={"method": e.what})


def _storage(e: StorageUnavailable) -> Problem:
    """The text of the driver stays here; the request id tells the caller how to repeat safely."""
    request_id = current_request_id()
    return Problem(
        StatusCode.UNAVAILABLE,
        "STORAGE_UNAVAILABLE",
        "the database does not answer; repeat the request with the same request_id",
        disposition="RETRYABLE",
        metadata={"request_id": request_id} if request_id else {},
        retry_after=RETRY_AFTER_SECONDS,
    )


def _slow(e: SlowWatcher) -> Problem:
    return Problem(
        StatusCode.RESOURCE_EXHAUSTED,
        "WATCHER_TOO_SLOW",
        str(e),
        disposition="RETRYABLE",
        metadata=_place(e.resume_after),
        retry_after=0.1,
    )


def _ending(e: StreamEnding) -> Problem:
    return Problem(
        StatusCode.UNAVAILABLE,
        "SHUTTING_DOWN",
        str(e),
        disposition="RETRYABLE",
        metadata=_place(e.resume_after),
        retry_after=RETRY_AFTER_SECONDS,
    )


def _place(resume_after: int | None) -> dict[str, str]:
    return {} if resume_after is None else {"resume_after_sequence": str(resume_after)}


def _outdated(e: InboxOutdated) -> Problem:
    return Problem(StatusCode.UNAVAILABLE, "STREAM_OUTDATED", str(e), disposition="RETRYABLE", retry_after=0.1)


_TABLE: dict[type[BaseException], Callable[[Any], Problem]] = {
    NotFound: _not_found,
    WrongState: _wrong_state,
    InvalidInput: _invalid,
    RequestIdReused: _reused,
    DigestMismatch: _digest,
    ApprovalAlreadyResolved: _resolved,
    ActionNotAllowed: _action,
    DeciderNotAllowed: _decider,
    SelfApproval: _self,
    ClaimedByAnother: _claimed,
    GrantNotOffered: _not_offered,
    SessionBusy: _busy,
    LimitExceeded: _limit,
    StaleVersion: _stale,
    NotYetSupported: _unsupported,
    StorageUnavailable: _storage,
    SlowWatcher: _slow,
    StreamEnding: _ending,
    InboxOutdated: _outdated,
}
