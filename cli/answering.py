"""Answering an agent's question: what is typed becomes the JSON that its schema asks for. The server checks it."""

import json
from typing import Any

from cli.words import one_line
from gen.assent.v1.approval_pb2 import Approval


class NoAnswer(ValueError):
    """What was typed cannot be what the question asks for."""


def options_of(approval: Approval) -> list[str]:
    """The answers that the agent suggests, exactly as it wrote them."""
    options = _object(approval.arguments_json).get("options")
    return [option for option in options if isinstance(option, str)] if isinstance(options, list) else []


def hint_of(approval: Approval) -> str:
    """What kind of answer is wanted, in a few words."""
    schema, options = _object(approval.response_schema_json), options_of(approval)
    choice = f"1 to {len(options)}" if options else ""
    if schema and isinstance(schema.get("enum"), list):
        values = ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
        return one_line(f"{choice}{', ' if choice else ''}one of {values}", 200)
    if _takes_text(schema):
        return f"{choice}, or your own words" if choice else "your own words"
    wanted = " or ".join(_types(schema)) or "a value"
    shown = one_line(approval.response_schema_json, 300)
    return f"{choice}{', or ' if choice else ''}{wanted}, as JSON that fits {shown}"


def as_json(typed: str, approval: Approval) -> str:
    """The answer as JSON text: an option by its number, plain words as a string where one is taken, else JSON as typed.

    Raises NoAnswer.
    """
    schema, options = _object(approval.response_schema_json), options_of(approval)
    if options and typed.isdecimal() and not {"integer", "number"} & set(_types(schema)):
        if not 1 <= int(typed) <= len(options):
            raise NoAnswer(f"there are options 1 to {len(options)}")
        typed = options[int(typed) - 1]
    for value in schema.get("enum", []) if isinstance(schema.get("enum"), list) else []:
        if typed in (value, json.dumps(value, ensure_ascii=False)):
            return json.dumps(value, ensure_ascii=False)
    if not schema or (_takes_text(schema) and not _is_other(typed, schema)):
        return json.dumps(typed, ensure_ascii=False)
    try:
        json.loads(typed)
    except ValueError:
        if _takes_text(schema):
            return json.dumps(typed, ensure_ascii=False)
        raise NoAnswer(f"it must be {hint_of(approval)}") from None
    return typed


def _is_other(typed: str, schema: dict[str, Any]) -> bool:
    """Whether it is JSON of another type than a string, which the schema takes as well."""
    try:
        value = json.loads(typed)
    except ValueError:
        return False
    return any(isinstance(value, _KINDS[name]) for name in _types(schema) if name in _KINDS)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def _takes_text(schema: dict[str, Any]) -> bool:
    """Where nothing is said about the type, words will do."""
    types = _types(schema)
    return "string" in types if types else not schema


def _types(schema: dict[str, Any]) -> list[str]:
    """The types that it names, its alternatives' included."""
    named = schema.get("type", [])
    found = [name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)]
    for part in ("anyOf", "oneOf"):
        each = schema.get(part)
        found += [n for one in (each if isinstance(each, list) else []) if isinstance(one, dict) for n in _types(one)]
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
