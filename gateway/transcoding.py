"""From an HTTP request to an RPC's request message, and from its response message to JSON.

What goes where (path, query, body) is said by the route; how JSON values become fields is reading's. Whether a
request makes sense is for the services to say: this only reads what has been written.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gateway.errors import JSON, invalid, malformed, printable
from gateway.reading import (
    SINGLE_VALUES,
    Wrong,
    expectation,
    field_names,
    is_map,
    join,
    parse_json,
    read_field,
    read_message,
)
from gateway.routes import Route

_MOST_PARAMETERS = 100
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w-]+=[\w.+-]+)*", re.ASCII)


def request_message(route: Route, path: Mapping[str, str], query: bytes, body: bytes) -> Message:
    """The request that path, query and body make together; a Refusal that names every field that is wrong."""
    request = route.request_class()
    wrong: Wrong = []
    _read_body(request, route, body, wrong)
    _read_query(request, route, query, wrong)
    _read_path(request, path, wrong)
    if wrong:
        raise invalid(wrong)
    return request


def response_content(route: Route, response: Message) -> tuple[bytes, bytes]:
    """The media type and the bytes of a response: JSON of the field that the route names, or of all of it.

    An HttpBody is its own bytes; a media type that is none is not passed on, since it stands in a header.
    """
    body: Any = response
    if route.response_body:
        field = field_names(response.DESCRIPTOR)[route.response_body]
        if field.is_repeated or field.message_type is None:
            return JSON, msgspec.json.encode(_to_dict(response)[field.json_name])
        body = getattr(response, field.name)
    if isinstance(body, HttpBody):
        named = _MEDIA_TYPE.fullmatch(body.content_type)
        return (body.content_type if named else "application/octet-stream").encode(), body.data
    return JSON, message_json(body)


def message_json(message: Message) -> bytes:
    """A message as one line of JSON. Fields that are empty are shown, so that nobody has to know the defaults."""
    return msgspec.json.encode(_to_dict(message))


def set_field(message: Message, name: str, value: str) -> bool:
    """Set one single field from text, if the message has it; False when the text is no value of its type."""
    field = field_names(message.DESCRIPTOR).get(name)
    wrong: Wrong = []
    if field is not None:
        read_field(message, field, value, name, wrong)
    return not wrong


def _to_dict(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return shown


def _read_body(request: Message, route: Route, body: bytes, wrong: Wrong) -> None:
    if not route.body:
        if body:
            raise malformed("this route takes no body: give the fields in the query, as in ?pageSize=10")
    elif body and route.body == "*":
        read_message(request, parse_json(body), "", wrong)
    elif body:
        field = field_names(request.DESCRIPTOR)[route.body]
        read_field(request, field, parse_json(body), field.name, wrong)


def _read_query(request: Message, route: Route, query: bytes, wrong: Wrong) -> None:
    if not query:
        return
    tree: dict[str, Any] = {}
    for name, text in _parameters(query):
        top = field_names(request.DESCRIPTOR).get(name.partition(".")[0])
        if top is not None and top.name in route.template.variables:
            wrong.append((name, "is given by the path"))
        elif route.body == "*" or (top is not None and top.name == route.body):
            wrong.append((name, "is to be given in the body"))
        else:
            _plant(tree, request, name, text, wrong)
    read_message(request, tree, "", wrong)


def _parameters(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except UnicodeDecodeError:
        raise malformed("the query, once its escapes are decoded, is not UTF-8") from None
    except ValueError:
        raise malformed(f"the query has more than {_MOST_PARAMETERS} parameters") from None


def _plant(tree: dict[str, Any], request: Message, name: str, text: str, wrong: Wrong) -> None:
    """Put one parameter where it belongs in a JSON object, so that it is then read like a body."""
    *parents, leaf = name.split(".")
    names, path = field_names(request.DESCRIPTOR), ""
    for parent in parents:
        field = names.get(parent)
        if field is None or not _inner_names(field):
            wrong.append((name, f"{request.DESCRIPTOR.name} has no such field"))
            return
        names, path = _inner_names(field), join(path, field.name)
        tree = tree.setdefault(field.name, {})
    field = names.get(leaf)
    if field is None:
        wrong.append((name, f"{request.DESCRIPTOR.name} has no such field"))
    elif inner := _inner_names(field):
        wrong.append((name, f"is a structure: give its fields one by one, as in {name}.{next(iter(inner))}"))
    elif is_map(field) or (field.is_repeated and field.message_type is not None):
        wrong.append((name, "cannot be given in a query"))
    elif field.is_repeated:
        tree.setdefault(field.name, []).append(_json_value(field, text))
    elif field.name in tree:
        wrong.append((join(path, field.name), "is given more than once"))
    else:
        tree[field.name] = _json_value(field, text)


def _read_path(request: Message, path: Mapping[str, str], wrong: Wrong) -> None:
    for name, text in path.items():
        *parents, leaf = name.split(".")
        message = request
        for parent in parents:
            message = getattr(message, parent)
        field = field_names(message.DESCRIPTOR)[leaf]
        in_body = getattr(message, leaf)
        read_field(message, field, _json_value(field, text), name, wrong)
        if in_body not in (field.default_value, getattr(message, leaf)):
            wrong.append((name, "is not the one in the path"))


def _inner_names(field: FieldDescriptor) -> dict[str, FieldDescriptor]:
    """The fields that a query may name inside this one; none where it is a single value, or a list."""
    kind = field.message_type
    if kind is None or field.is_repeated or kind.full_name in SINGLE_VALUES:
        return {}
    return field_names(kind)


def _json_value(field: FieldDescriptor, text: str) -> object:
    """The JSON value that a text in a query stands for: quotes are missing there, and most values need none."""
    if text in ("true", "false") and expectation(field) == "must be true or false":
        return text == "true"
    return printable(text)
