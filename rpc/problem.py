"""An error that is meant for the caller, and its form on the wire.

Here lives the one shape every refusal takes (`google.rpc.Status` with exactly one `ErrorInfo`) and the way
back for clients. Which domain error becomes which problem is each process's own table, not decided here.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Self

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "assent"
DETAILS_KEY = "grpc-status-details-bin"

Disposition = Literal["RETRYABLE", "HUMAN_REQUIRED", "FATAL"]

# Clients refuse more than 8 KiB of trailing metadata, base64 and percent-encoding included: a report of a
# thousand violations would then arrive as a transport error without any of them.
_MESSAGE_CHARACTERS = 400
_TEXT_CHARACTERS = 200
_STATUS_BYTES = 3072

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class FieldViolation(NamedTuple):
    """A field of the request, as a path like `plan.subtasks[2].key`, and what is wrong with it."""

    field: str
    description: str


class PreconditionViolation(NamedTuple):
    """A state that does not allow what was asked."""

    type: str
    subject: str
    description: str


class Problem(Exception):
    """An error meant for the caller; `reason` is the name of an ErrorReason of the contract."""

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        disposition: Disposition = "FATAL",
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
        preconditions: Sequence[tuple[str, str, str]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.disposition: Disposition = disposition
        self.metadata = dict(metadata or {})
        self.fields = tuple(FieldViolation(*field) for field in fields)
        self.preconditions = tuple(PreconditionViolation(*violation) for violation in preconditions)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.reason or self.code.name}: {self.message}"

    def to_status(self) -> status_pb2.Status:
        """The status as it travels, cut to what trailing metadata can carry."""
        shown = list(self.fields)
        status = self._status(shown)
        while status.ByteSize() > _STATUS_BYTES and shown:
            del shown[len(shown) // 2 :]
            status = self._status(shown)
        return status

    def _status(self, fields: Sequence[FieldViolation]) -> status_pb2.Status:
        status = status_pb2.Status(code=self.code.value[0], message=_cut(self.message, _MESSAGE_CHARACTERS))
        info = error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN)
        info.metadata.update({key: _cut(value) for key, value in self.metadata.items()})
        info.metadata["disposition"] = self.disposition
        _add(status, info)
        if fields:
            _add(status, _bad_request(fields, len(self.fields)))
        if self.preconditions:
            _add(status, _precondition_failure(self.preconditions))
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(round(self.retry_after * 1e9))
            _add(status, retry)
        return status

    @classmethod
    def from_status(cls, status: status_pb2.Status) -> Self:
        """Read what `to_status` wrote; a status from elsewhere gives a problem with an empty reason."""
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        failed = error_details_pb2.PreconditionFailure()
        retry = error_details_pb2.RetryInfo()
        known: tuple[message.Message, ...] = (info, bad, failed, retry)
        present = {type(target) for detail in status.details for target in known if detail.Unpack(target)}
        metadata = dict(info.metadata)
        return cls(
            _CODES.get(status.code, grpc.StatusCode.UNKNOWN),
            info.reason,
            status.message,
            disposition=_disposition(metadata.pop("disposition", "")),
            metadata=metadata,
            fields=[(each.field, each.description) for each in bad.field_violations],
            preconditions=[(each.type, each.subject, each.description) for each in failed.violations],
            retry_after=retry.retry_delay.ToNanoseconds() / 1e9 if type(retry) in present else None,
        )

    @classmethod
    def from_rpc_error(cls, error: grpc.aio.AioRpcError) -> Self:
        """What a failed call says, whether it comes from Assent or from the transport below it."""
        status = status_of(error)
        if status is not None:
            return cls.from_status(status)
        retryable = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return cls(error.code(), "", error.details() or "", disposition="RETRYABLE" if retryable else "FATAL")


def status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    """The status as the service sent it; None when the transport failed and no service spoke."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except message.DecodeError:
                return None
    return None


def _add(status: status_pb2.Status, detail: message.Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _bad_request(fields: Sequence[FieldViolation], total: int) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for field, description in fields:
        bad.field_violations.add(field=_cut(field), description=_cut(description))
    if total > len(fields):
        bad.field_violations.add(description=f"and {total - len(fields)} more violations")
    return bad


def _precondition_failure(
    violations: Sequence[PreconditionViolation],
) -> error_details_pb2.PreconditionFailure:
    failure = error_details_pb2.PreconditionFailure()
    for kind, subject, description in violations:
        failure.violations.add(type=kind, subject=_cut(subject), description=_cut(description))
    return failure


def _cut(text: str, limit: int = _TEXT_CHARACTERS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _disposition(text: str) -> Disposition:
    known: dict[str, Disposition] = {"RETRYABLE": "RETRYABLE", "HUMAN_REQUIRED": "HUMAN_REQUIRED"}
    return known.get(text, "FATAL")
