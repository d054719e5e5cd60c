"""The domain's events, records and states are the contract's, name for name: one converter serves them all."""

from dataclasses import fields, is_dataclass
from enum import StrEnum

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orchestrator.domain import events, records, states
from orchestrator.domain.errors import WrongState
from tests.contract import descriptors as contracts

_KINDS = FieldDescriptor

_MESSAGES = {message.name: message for message in contracts.messages(contracts.PUBLIC)}
_ENUMS = {enum.name: enum for enum in contracts.enums(contracts.PUBLIC)}
_PAYLOADS = {
    field.name: field.message_type
    for field in _MESSAGES["SessionEvent"].oneofs_by_name["payload"].fields
    if field.message_type
}
_EVENTS = events.Event.__args__
# What the domain keeps and clients have no use for: the tenant is the caller's own, the rest is the lock, fence
# and lease of a session, or how a dispatch is fenced.
_PRIVATE = {
    "tenant",
    "last_hash",
    "epoch",
    "owner",
    "runnable",
    "queue_time",
    "traceparent",
}
_RECORDS = [each for each in vars(records).values() if isinstance(each, type) and is_dataclass(each)]
_STATES = [each for name, each in vars(states).items() if name.endswith("State") and each is not WrongState]


@pytest.mark.parametrize("event", _EVENTS, ids=lambda event: event.__name__)
def test_an_event_of_the_domain_has_its_message_with_exactly_its_fields(event: type[events.Event]) -> None:
    payload = _PAYLOADS[events.event_name(event)]
    assert payload.name == event.__name__
    assert [field.name for field in payload.fields] == [field.name for field in fields(event)]
    _assert_types(event, payload)


@pytest.mark.parametrize("record", _RECORDS, ids=lambda record: record.__name__)
def test_a_record_of_the_domain_is_a_resource_with_its_fields(record: type) -> None:
    resource = _MESSAGES[record.__name__]
    kept = {field.name for field in fields(record)}
    assert kept - _PRIVATE <= set(resource.fields_by_name)
    assert not _PRIVATE & set(resource.fields_by_name)
    _assert_types(record, resource)


@pytest.mark.parametrize("machine", _STATES, ids=lambda machine: machine.__name__)
def test_the_states_of_a_machine_are_those_of_the_contract(machine: type[StrEnum]) -> None:
    values = [value.name for value in _ENUMS[machine.__name__].values]
    prefix = values[0].removesuffix("UNSPECIFIED")
    assert [name.removeprefix(prefix) for name in values[1:]] == [state.value for state in machine]


def test_each_thing_of_the_domain_is_compared() -> None:
    assert len(_EVENTS) > 15
    assert len(_RECORDS) > 15
    assert len(_STATES) == 7


def test_every_payload_is_named_as_its_message() -> None:
    for name, payload in _PAYLOADS.items():
        assert payload.name == "".join(part.capitalize() for part in name.split("_"))


def _assert_types(domain: type, message: Descriptor) -> None:
    """Each field can carry what the domain puts in it."""
    for field in fields(domain):
        carried = message.fields_by_name.get(field.name)
        if carried is not None:
            assert _can_carry(str(field.type), carried), f"{carried.full_name} cannot carry {field.type}"


def _can_carry(annotation: str, field: FieldDescriptor) -> bool:
    """`annotation` as Python shows it: `<class 'int'>`, `list[str]`, `orchestrator.domain.records.Usage | None`."""
    if "dict[str, str]" in annotation:
        return contracts.is_map(field)
    if annotation.startswith("list["):
        return field.is_repeated and _is_one(annotation[5:-1], field)
    return not field.is_repeated and _is_one(annotation, field)


def _is_one(annotation: str, field: FieldDescriptor) -> bool:
    if "orchestrator.domain" in annotation and "State" not in annotation:
        return field.message_type is not None and field.message_type.name in annotation
    if "bool" in annotation:
        return field.type == _KINDS.TYPE_BOOL
    if "int" in annotation:
        carries = {"google.protobuf.Timestamp", "google.protobuf.Duration"}
        if field.message_type is not None:
            return field.message_type.full_name in carries
        return field.type in (_KINDS.TYPE_INT32, _KINDS.TYPE_INT64)
    if "float" in annotation:
        return field.type == _KINDS.TYPE_DOUBLE
    return field.type in (_KINDS.TYPE_STRING, _KINDS.TYPE_ENUM)
