"""Rows and events to protobuf, driven by the descriptors: a field is filled from the attribute of its name.

States become the enum value of the same name under the enum's prefix, microseconds become Timestamps and Durations.
"""

from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from gen.assent.v1 import event_pb2, plan_pb2
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Plan, Subtask
from orchestrator.streaming.feed import Delta, FeedItem, Heartbeat, Settled

M = TypeVar("M", bound=Message)
Convert = Callable[[Any], Any]

_decode = msgspec.json.Decoder().decode


def to_proto(message_class: type[M], source: object, **more: object) -> M:
    """A message of that class from a dataclass or a mapping; what it lacks stays empty. `more` are ready values."""
    return message_class(**_fields(message_class.DESCRIPTOR, source), **more)


def plan_to_proto(plan: Plan, subtasks: list[Subtask]) -> plan_pb2.Plan:
    ordered = sorted(subtasks, key=lambda s: s.position)
    return to_proto(plan_pb2.Plan, plan, subtasks=[to_proto(plan_pb2.Subtask, s) for s in ordered])


def event_to_proto(event: LoggedEvent, *, with_payload: bool = False) -> event_pb2.SessionEvent:
    """A durable event; `with_payload` adds the exact text that was hashed. Not to be changed: others have it too."""
    if len(event.payload_json) > KEPT_CHARACTERS:
        return _event_to_proto(event, with_payload)
    return _kept_event_to_proto(event, with_payload)


# Many watch one session, and each of its events goes to all of them.
KEPT_EVENTS = 1_024
KEPT_CHARACTERS = 8_192


def _event_to_proto(event: LoggedEvent, with_payload: bool) -> event_pb2.SessionEvent:
    ((name, fields),) = _decode(event.payload_json).items()
    payload: Any = {name: _fields(_EVENT_FIELDS[name].message_type, fields)}
    event_time: Any = _timestamp(event.event_time)
    return event_pb2.SessionEvent(
        session_id=event.session_id,
        sequence=event.sequence,
        event_time=event_time,
        trace_id=event.trace_id,
        hash=event.hash,
        previous_hash=event.previous_hash,
        payload_json=event.payload_json if with_payload else "",
        **payload,
    )


_kept_event_to_proto = lru_cache(KEPT_EVENTS)(_event_to_proto)


def item_to_proto(session_id: str, item: FeedItem, now: int, *, with_payload: bool = False) -> event_pb2.SessionEvent:
    """What a watcher is given; what is not durable has sequence 0."""
    if isinstance(item, LoggedEvent):
        return event_to_proto(item, with_payload=with_payload)
    event_time: Any = _timestamp(now)
    event = event_pb2.SessionEvent(session_id=session_id, event_time=event_time)
    if isinstance(item, Delta):
        event.message_delta.MergeFrom(to_proto(event_pb2.MessageDelta, item))
    elif isinstance(item, Heartbeat):
        event.heartbeat.last_sequence = item.last_sequence
    elif isinstance(item, Settled):
        reason = _SETTLED_REASONS.get(item.reason, "WAITING_FOR_DECISION")
        settled = {"reason": reason, "state": item.reason, "last_sequence": item.last_sequence}
        event.settled.MergeFrom(to_proto(event_pb2.Settled, settled))
    return event


_SETTLED_REASONS = {"IDLE": "IDLE", "COMPLETED": "IDLE", "CLOSED": "CLOSED"}
_EVENT_FIELDS = event_pb2.SessionEvent.DESCRIPTOR.fields_by_name


# Absent by the contract where nothing failed, or nothing was chosen yet; that another one is there says something.
_ABSENT_WHEN_EMPTY = ("Budget", "Failure", "Workspace")


def enum_word(descriptor: EnumDescriptor, number: int) -> str:
    """The domain's word of an enum value; empty for the unspecified one."""
    return "" if number == 0 else descriptor.values_by_number[number].name.removeprefix(_prefix(descriptor))


def _fields(descriptor: Any, source: object) -> dict[str, Any]:
    read: Callable[[str], Any] = source.get if isinstance(source, Mapping) else partial(_attribute, source)
    fields = {}
    for name, convert in _plan(descriptor):
        value = read(name)
        if value:
            fields[name] = value if convert is None else convert(value)
    return fields


def _attribute(source: object, name: str) -> Any:
    return getattr(source, name, None)


@cache
def _plan(descriptor: Descriptor) -> tuple[tuple[str, Convert | None], ...]:
    return tuple((field.name, _conversion(field)) for field in descriptor.fields)


def _conversion(field: FieldDescriptor) -> Convert | None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict
    one = _conversion_of_one(field)
    if not field.is_repeated:
        return one
    return list if one is None else lambda values: [one(value) for value in values]


def _conversion_of_one(field: FieldDescriptor) -> Convert | None:
    if field.enum_type is not None:
        prefix = _prefix(field.enum_type)
        numbers = {value.name.removeprefix(prefix): value.number for value in field.enum_type.values}
        return numbers.__getitem__
    if field.message_type is None:
        return None
    if field.message_type.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        return _timestamp
    message_type = field.message_type
    if message_type.name in _ABSENT_WHEN_EMPTY:
        return lambda value: _fields(message_type, value) or None
    return lambda value: _fields(message_type, value)


def _timestamp(micros: int) -> dict[str, int]:
    """Timestamp and Duration have the same two fields."""
    seconds, rest = divmod(micros, 1_000_000)
    return {"seconds": seconds, "nanos": rest * 1000}


@cache
def _prefix(descriptor: EnumDescriptor) -> str:
    return str(descriptor.values[0].name.removesuffix("UNSPECIFIED"))
