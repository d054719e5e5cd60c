"""Strict reading of JSON text from models and people: what it accepts means the same to every reader.

The text itself stays the truth: it is parsed once to check it and never written out again.
"""

import json
import re
from math import isinf
from typing import Any

MAX_DEPTH = 64
MAX_BYTES = 256 * 1024
MAX_DIGITS = 4_000  # Python itself refuses to read longer integers, with an error of its own


class BadJson(ValueError):
    """The text is not JSON that every reader understands alike."""


def parse_strictly(text: str, max_bytes: int = MAX_BYTES) -> Any:
    """The value of JSON text; integers of any size stay exact.

    Raises BadJson for malformed text, duplicate keys, NaN and infinities (also those a number like 1e999 becomes), NUL,
    lone surrogates, over-deep nesting, over-long integers and text over `max_bytes` of UTF-8.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise BadJson("holds a lone surrogate") from None
    if size > max_bytes:
        raise BadJson(f"is over {max_bytes} bytes")
    if _depth(text) > MAX_DEPTH:
        raise BadJson(f"is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_integer, parse_float=_finite
        )
    except json.JSONDecodeError as error:
        raise BadJson(f"is not JSON: {error.msg} at character {error.pos}") from None
    _check_strings(value)
    return value


def parse_object(text: str) -> dict[str, Any]:
    """As parse_strictly, for text that must be an object; empty text is the empty object."""
    value = parse_strictly(text or "{}")
    if not isinstance(value, dict):
        raise BadJson("is not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadJson(f"has the key {twice!r} twice")
    return result


def _no_constant(name: str) -> Any:
    raise BadJson(f"holds {name}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadJson(f"holds an integer of more than {MAX_DIGITS} digits")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise BadJson(f"holds {text[:40]}, which is too large a number")
    return value


def _depth(text: str) -> int:
    """Brackets outside strings: counted first, since the parser itself recurses."""
    depth = deepest = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        match found[0][0]:
            case "[" | "{":
                depth += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
    return deepest


_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


def _check_strings(value: Any) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise BadJson("holds a NUL character")
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise BadJson("holds a lone surrogate")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_strings(key)
            _check_strings(item)
    elif isinstance(value, list):
        for item in value:
            _check_strings(item)
