"""What a webhook is told of an event: that something waits or was decided, and enough to find it; not all of it.

Arguments, plans and files stay where they are asked for by name: a webhook's body ends up in chats and logs.
"""

import json
from typing import Any

from google.protobuf import json_format

from gen.assent.v1 import approval_pb2, event_pb2
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.visible import cut
from orchestrator.servicers.convert import event_to_proto

MOST_TEXT_BYTES = 2_048
_LEFT_OUT = ("preimage", "arguments_json", "response_schema_json", "decision", "votes")


def body_of(event: LoggedEvent) -> bytes:
    """JSON in the words of the HTTP API, the same each time; at most some 20 KiB."""
    told = event_pb2.SessionEvent()
    told.CopyFrom(event_to_proto(event))  # others have that one too
    name = told.WhichOneof("payload") or ""
    if told.HasField("approval_requested"):
        _shorten(told.approval_requested.approval)
    elif told.HasField("approval_resolved"):
        for field in ("response_json", "edited_arguments_json"):
            told.approval_resolved.ClearField(field)
        told.approval_resolved.feedback = cut(told.approval_resolved.feedback, MOST_TEXT_BYTES)
    body: dict[str, Any] = {
        "id": f"{event.session_id}:{event.sequence}",
        "type": name,
        "tenant": event.tenant,
        "event": json_format.MessageToDict(told),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _shorten(approval: approval_pb2.Approval) -> None:
    for field in _LEFT_OUT:
        approval.ClearField(field)  # type: ignore[arg-type]  # each is a field of it
    shown = approval.preview
    shown.ClearField("new_text")
    for field in ("text", "agent_words", "reason", "path"):
        whole = getattr(shown, field)
        setattr(shown, field, cut(whole, MOST_TEXT_BYTES))
        shown.truncated |= getattr(shown, field) != whole
