"""Who asks, and which request this is: what every mutating RPC hands to its operation."""

import hashlib
from contextvars import ContextVar

from google.protobuf.message import Message

from orchestrator.clock import new_id
from orchestrator.operations.context import Caller
from rpc.principal import current_principal
from rpc.tracing import current_trace_id, current_traceparent

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def current_request_id() -> str:
    """The id this request is remembered by, the caller's or one made here; empty for reads."""
    return _request_id.get()


def caller(method: str, request: Message) -> Caller:
    """For a request message with a `request_id` field; the id is made here where the client sent none."""
    principal = current_principal()
    given: str = getattr(request, "request_id", "")
    request_id = given or new_id()
    _request_id.set(request_id)
    content = type(request)()
    content.CopyFrom(request)
    content.ClearField("request_id")
    fingerprint = hashlib.sha256(content.SerializeToString(deterministic=True)).hexdigest()
    return Caller(
        principal.tenant,
        principal.subject,
        method,
        request_id,
        fingerprint,
        current_trace_id(),
        current_traceparent(),
        repeats=bool(given),
        roles=principal.roles,
    )


def reader() -> Caller:
    """For reads: only who asks."""
    principal = current_principal()
    return Caller(principal.tenant, principal.subject, roles=principal.roles)
