"""How a stream is written over HTTP: server-sent events, or one JSON object a line. Only bytes, no I/O."""

import functools
from collections.abc import Iterator
from typing import Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.transcoding import message_json

STREAM_ERROR = "stream_error"


class Framing(Protocol):
    """One way to write a stream."""

    content_type: bytes
    keep_alive: bytes

    def item(self, item: Message) -> bytes:
        """One element of the stream."""

    def error(self, status: bytes) -> bytes:
        """The last thing in a stream that breaks: a Status as JSON."""


class ServerSentEvents:
    """`event:` says what it is, `id:` is what `Last-Event-ID` takes, `data:` is one line of JSON."""

    content_type = b"text/event-stream"
    keep_alive = b":\n\n"

    def item(self, item: Message) -> bytes:
        name = item_name(item)
        sequence = sequence_of(item)
        identity = f"id: {sequence}\n" if sequence else ""
        return f"event: {name}\n{identity}data: ".encode() + message_json(item) + b"\n\n"

    def error(self, status: bytes) -> bytes:
        return f"event: {STREAM_ERROR}\ndata: ".encode() + status + b"\n\n"


class JsonLines:
    """One JSON object a line. It has no comments: a reader must not be given lines that are not JSON."""

    content_type = b"application/x-ndjson"
    keep_alive = b""

    def item(self, item: Message) -> bytes:
        return message_json(item) + b"\n"

    def error(self, status: bytes) -> bytes:
        return b'{"streamError":' + status + b"}\n"


SSE = ServerSentEvents()
JSON_LINES = JsonLines()


def framing_for(accept: str) -> Framing:
    """What the client asked for; server-sent events unless it is JSON lines."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return JSON_LINES if "application/x-ndjson" in kinds else SSE


def items_of(response: Message) -> Iterator[Message]:
    """The elements that a streamed response carries: what it has besides its `events`, then each of these."""
    batch = _batch_field(response.DESCRIPTOR)
    if batch is None:
        yield response
        return
    if any(field.number != batch.number for field, _ in response.ListFields()):
        rest = type(response)()
        rest.CopyFrom(response)
        rest.ClearField(batch.name)
        yield rest
    yield from getattr(response, batch.name)


def item_name(item: Message) -> str:
    """The choice that an element makes in its oneof; of what came with `events`, the first field that is set."""
    if _batch_field(item.DESCRIPTOR) is not None:
        return item.ListFields()[0][0].name
    oneof = _oneof_name(item.DESCRIPTOR)
    return (oneof and item.WhichOneof(oneof)) or "message"


def sequence_of(item: Message) -> int:
    """The number of an element in a durable log; 0 for what is not in one."""
    return int(getattr(item, "sequence", 0))


@functools.cache
def _batch_field(descriptor: Descriptor) -> FieldDescriptor | None:
    field = descriptor.fields_by_name.get("events")
    return field if field is not None and field.is_repeated and field.message_type is not None else None


@functools.cache
def _oneof_name(descriptor: Descriptor) -> str:
    # An `optional` field makes a oneof of its own, named with an underscore: that is no choice.
    names = [oneof.name for oneof in descriptor.oneofs if not oneof.name.startswith("_")]
    return names[0] if len(names) == 1 else ""
