"""Every message, field and RPC of the contracts keeps the conventions."""

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from protovalidate import collect_violations

from gen.assent.v1 import options_pb2
from tests.contract import descriptors as contracts

_PERMISSIONS = {
    "session.read",
    "session.write",
    "approval.decide",
    "run.control",
    "catalog.write",
    "admin",
}
# What no request may hold more of, whatever it is: 3 MiB of text, 10,000 elements.
_TOO_LONG = 3 << 20
_TOO_MANY = 10_000
_KINDS = FieldDescriptor
_UUIDS = {
    "approval_id",
    "artifact_id",
    "grant_id",
    "plan_id",
    "request_id",
    "run_id",
    "session_id",
    "step_id",
    "subtask_id",
}

_INPUTS = contracts.inputs(contracts.PUBLIC)


def _reads(method: MethodDescriptor) -> bool:
    return bool(method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS)


def _name(descriptor: object) -> str:
    return str(getattr(descriptor, "full_name", descriptor))


public_methods = pytest.mark.parametrize("method", contracts.methods(contracts.PUBLIC), ids=_name)
public_inputs = pytest.mark.parametrize("message", _INPUTS, ids=_name)


@public_methods
def test_an_rpc_names_a_permission(method: MethodDescriptor) -> None:
    assert method.GetOptions().Extensions[options_pb2.permission] in _PERMISSIONS


@public_methods
def test_reading_permissions_belong_to_reads(method: MethodDescriptor) -> None:
    permission = method.GetOptions().Extensions[options_pb2.permission]
    assert (permission == "session.read") == _reads(method)


@public_methods
def test_what_reads_by_its_name_has_no_side_effects(method: MethodDescriptor) -> None:
    by_name = method.name.startswith(("Get", "List", "Watch", "Stream", "Check", "Explain"))
    assert _reads(method) == by_name


@public_methods
def test_exactly_the_mutating_requests_have_a_request_id(method: MethodDescriptor) -> None:
    assert ("request_id" in method.input_type.fields_by_name) == (not _reads(method))


@public_methods
def test_http_paths_name_fields_of_the_request(method: MethodDescriptor) -> None:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    path = getattr(rule, rule.WhichOneof("pattern"))
    named = [part.split("}")[0] for part in path.split("{")[1:]]
    assert all(contracts.is_required(method.input_type.fields_by_name[name]) for name in named)


@public_methods
def test_an_answer_that_is_one_resource_is_the_http_body(method: MethodDescriptor) -> None:
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    only = method.output_type.fields
    one_resource = len(only) == 1 and not only[0].is_repeated
    if one_resource:
        assert rule.response_body == only[0].name
    elif rule.response_body:
        assert rule.response_body in method.output_type.fields_by_name


@pytest.mark.parametrize(
    "method", [each for each in contracts.methods(contracts.PUBLIC) if each.name.startswith("List")], ids=_name
)
def test_lists_are_paged(method: MethodDescriptor) -> None:
    request, response = method.input_type.fields_by_name, method.output_type.fields_by_name
    assert {"page_size", "page_token"} <= set(request)
    assert "next_page_token" in response
    broken = contracts.new(method.input_type)
    for size, refused in ((-1, True), (0, False), (500, False), (501, True)):
        broken.page_size = size  # type: ignore[attr-defined]  # every list request has it
        assert ("page_size" in _violated(broken)) is refused


@pytest.mark.parametrize("message", [*_INPUTS, *contracts.inputs(contracts.EXECUTOR)], ids=_name)
def test_required_fields_are_documented_and_enforced(message: Descriptor) -> None:
    documented = {field.name for field in message.fields if contracts.is_required(field)}
    enforced = _violated(contracts.new(message)) - {oneof.name for oneof in message.oneofs}
    assert enforced == documented


@public_inputs
def test_ids_are_uuids(message: Descriptor) -> None:
    for field in message.fields:
        if field.name in _UUIDS:
            broken = contracts.new(message)
            setattr(broken, field.name, "no uuid")
            assert field.name in _violated(broken), field.full_name


@public_inputs
def test_every_input_is_bounded(message: Descriptor) -> None:
    for field in message.fields:
        huge = contracts.new(message)
        if contracts.is_map(field):
            getattr(huge, field.name).update({f"k{n}": "" for n in range(_TOO_MANY)})
        elif field.is_repeated:
            getattr(huge, field.name).extend(_many(field))
        elif field.type == _KINDS.TYPE_STRING:
            setattr(huge, field.name, "x" * _TOO_LONG)
        elif field.type == _KINDS.TYPE_BYTES:
            setattr(huge, field.name, b"x" * _TOO_LONG)
        else:
            continue
        assert field.name in _violated(huge), field.full_name


@public_inputs
def test_enums_of_a_request_are_known_values(message: Descriptor) -> None:
    for field in message.fields:
        if field.enum_type and not field.is_repeated:
            broken = contracts.new(message)
            setattr(broken, field.name, 99)
            assert field.name in _violated(broken), field.full_name


@public_inputs
def test_the_first_choice_of_a_oneof_is_not_made_for_the_caller(message: Descriptor) -> None:
    choices = {oneof.name for oneof in message.oneofs if len(oneof.fields) > 1}
    assert choices <= _violated(contracts.new(message))


@pytest.mark.parametrize("field", contracts.fields(contracts.ALL), ids=_name)
def test_the_unit_is_in_the_name(field: FieldDescriptor) -> None:
    is_time = field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp"
    assert is_time == field.name.endswith("_time"), field.full_name
    if field.name.endswith(("_tokens", "_micros", "_bytes", "_nanos")):
        assert field.type in (_KINDS.TYPE_INT64, _KINDS.TYPE_INT32), field.full_name


@pytest.mark.parametrize("enum", contracts.enums(contracts.ALL), ids=_name)
def test_the_zero_of_an_enum_is_unspecified(enum: EnumDescriptor) -> None:
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    assert enum.values_by_number[0].name == f"{prefix}UNSPECIFIED"
    assert prefix.replace("_", "").lower() == enum.name.lower()
    assert all(value.name.startswith(prefix) for value in enum.values)


def _many(field: FieldDescriptor) -> list[object]:
    if field.message_type:
        return [contracts.new(field.message_type) for _ in range(_TOO_MANY)]
    return [1] * _TOO_MANY if field.enum_type else [f"k{n}" for n in range(_TOO_MANY)]


def _violated(message: object) -> set[str]:
    """The message's own fields and oneofs that break their constraints."""
    violations = [each.proto for each in collect_violations(message)]  # type: ignore[arg-type]  # any message
    return {each.field.elements[0].field_name for each in violations if each.field}
