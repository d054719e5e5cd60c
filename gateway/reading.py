"""JSON into protobuf messages, strictly, saying of every field that is wrong where it is and what it must be.

The values themselves are converted by protobuf's own JSON mapping. This file adds what that lacks: the whole
path of a wrong field, all of them at once, duplicate keys refused, and no library's words in an answer.
"""

import functools
import json
import re
from typing import Any, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway.errors import malformed

Wrong = list[tuple[str, str]]
"""Violations found so far: a field's path and what it must be."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_SURROGATE = re.compile("[\ud800-\udfff]")

_DEEPEST = 32

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: "a 32-bit integer",
    FieldDescriptor.CPPTYPE_UINT32: "an unsigned 32-bit integer",
    FieldDescriptor.CPPTYPE_INT64: "a 64-bit integer, as a number or in quotes",
    FieldDescriptor.CPPTYPE_UINT64: "an unsigned 64-bit integer, as a number or in quotes",
}
_FLOATS = {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}

# Messages that are single values in JSON.
SINGLE_VALUES = {
    "google.protobuf.Timestamp": "a time such as 2026-01-31T12:00:00Z",
    "google.protobuf.Duration": "a length of time in seconds such as 1.5s",
    "google.protobuf.FieldMask": "field names separated by commas",
    "google.protobuf.Struct": "a JSON object",
    "google.protobuf.ListValue": "a JSON list",
    "google.protobuf.Value": "any JSON value",
    "google.protobuf.Any": "an object with @type",
    "google.protobuf.BoolValue": "true or false",
    "google.protobuf.StringValue": "text",
    "google.protobuf.BytesValue": "bytes in base64",
    "google.protobuf.Int32Value": _INTEGERS[FieldDescriptor.CPPTYPE_INT32],
    "google.protobuf.UInt32Value": _INTEGERS[FieldDescriptor.CPPTYPE_UINT32],
    "google.protobuf.Int64Value": _INTEGERS[FieldDescriptor.CPPTYPE_INT64],
    "google.protobuf.UInt64Value": _INTEGERS[FieldDescriptor.CPPTYPE_UINT64],
    "google.protobuf.FloatValue": "a number",
    "google.protobuf.DoubleValue": "a number",
}


class _Unacceptable(Exception):
    """JSON by its grammar, and yet not to be accepted."""


def parse_json(body: bytes) -> Any:
    """The value of a JSON text; a Refusal for everything that is not one, or that readers could disagree on."""
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8: byte {error.start} is wrong") from None
    except json.JSONDecodeError as error:
        raise malformed(f"the body is not JSON: {error.msg} at byte {_offset(error)}") from None
    except RecursionError:
        raise malformed("the body's JSON is nested too deeply") from None
    except _Unacceptable as error:
        raise malformed(f"the body is not JSON that can be accepted: {error}") from None
    except ValueError:  # what Python says of an integer of thousands of digits
        raise malformed("the body's JSON has a number with too many digits") from None


def read_message(message: Message, value: object, path: str, wrong: Wrong) -> None:
    """Set a message's fields from a JSON object; adds to `wrong` and goes on."""
    if not isinstance(value, dict):
        wrong.append((path, "must be a JSON object"))
        return
    if path.count(".") >= _DEEPEST:
        wrong.append((path, "is nested too deeply"))
        return
    names = field_names(message.DESCRIPTOR)
    given: set[str] = set()
    choices: dict[str, str] = {}
    for name, item in value.items():
        field = names.get(name)
        where = join(path, field.name if field else name)
        if field is None:
            wrong.append((where, f"{message.DESCRIPTOR.name} has no such field"))
        elif field.name in given:
            wrong.append((where, "is given twice, under both of its names"))
        elif item is not None or _takes_null(field):
            given.add(field.name)
            choice = field.containing_oneof
            if choice is not None and choices.setdefault(choice.name, field.name) != field.name:
                wrong.append((where, f"cannot be given together with {choices[choice.name]}"))
            else:
                read_field(message, field, item, where, wrong)


def read_field(message: Message, field: FieldDescriptor, value: object, where: str, wrong: Wrong) -> None:
    """Set one field from its JSON value."""
    if not _is_structure(field):
        _read_value(message, field, value, where, wrong)
    elif not field.is_repeated:
        inner = getattr(message, field.name)
        inner.SetInParent()
        read_message(inner, value, where, wrong)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            read_message(getattr(message, field.name).add(), item, f"{where}[{index}]", wrong)
    else:
        wrong.append((where, "must be a JSON list"))


@functools.cache
def field_names(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """A message's fields under both names that JSON may use: lowerCamelCase and the contract's own."""
    names = {field.name: field for field in descriptor.fields}
    names.update({field.json_name: field for field in descriptor.fields})
    return names


def expectation(field: FieldDescriptor) -> str:
    """What a value of a field must be, for a person who sent another."""
    if field.message_type is not None:
        return f"must be {SINGLE_VALUES.get(field.message_type.full_name, 'a JSON object')}"
    if field.enum_type is not None:
        return f"must be one of {', '.join(value.name for value in field.enum_type.values)}"
    if field.cpp_type in _INTEGERS:
        return f"must be {_INTEGERS[field.cpp_type]}"
    if field.cpp_type in _FLOATS:
        return "must be a number"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "must be true or false"
    return "must be bytes in base64" if field.type == FieldDescriptor.TYPE_BYTES else "must be text"


def join(path: str, name: str) -> str:
    """The path of a field inside the message at `path`."""
    return f"{path}.{name}" if path else name


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map, which descriptors show as a repeated message."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _is_structure(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and kind.full_name not in SINGLE_VALUES and not is_map(field)


def _takes_null(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Value"


def _read_value(message: Message, field: FieldDescriptor, value: object, where: str, wrong: Wrong) -> None:
    if field.is_repeated and not is_map(field):
        if not isinstance(value, list):
            wrong.append((where, "must be a JSON list"))
            return
        # Each alone first: the mapping does not say which item it refuses.
        scratch = type(message)()
        bad = [index for index, item in enumerate(value) if not _convert(scratch, field, [item])]
        wrong.extend((f"{where}[{index}]", expectation(field)) for index in bad)
        if bad:
            return
    if not _convert(message, field, value):
        wrong.append((where, _map_expectation(field) if is_map(field) else expectation(field)))


def _convert(message: Message, field: FieldDescriptor, value: object) -> bool:
    items = value if isinstance(value, list) else (value,)
    if not all(_looks_right(field, item) for item in items):
        return False
    try:
        json_format.ParseDict({field.name: value}, message)
    except (json_format.ParseError, ValueError, TypeError):
        return False
    return True


def _looks_right(field: FieldDescriptor, item: object) -> bool:
    """Refuse what protobuf's mapping lets pass: true as a number, `1_000`, bytes with anything in between."""
    is_number = field.cpp_type in _INTEGERS or field.cpp_type in _FLOATS
    if isinstance(item, bool):
        return not is_number and field.enum_type is None
    if isinstance(item, str) and is_number:
        return _NUMBER.fullmatch(item) is not None
    if isinstance(item, str) and field.type == FieldDescriptor.TYPE_BYTES:
        return _BASE64.fullmatch(item) is not None
    return True


def _map_expectation(field: FieldDescriptor) -> str:
    entry = field.message_type
    value = f", in which every value {expectation(entry.fields_by_name['value'])}" if entry else ""
    return f"must be a JSON object{value}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Unacceptable(f"the key {twice!r} is given twice in one object")
    for key in made:
        if not key.isascii() and _SURROGATE.search(key):
            raise _Unacceptable("a key has half of a surrogate pair")
    return made


def _no_constant(name: str) -> NoReturn:
    raise _Unacceptable(f"{name} is not a JSON value")


def _offset(error: json.JSONDecodeError) -> int:
    return len(error.doc[: error.pos].encode())
