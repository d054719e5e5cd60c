"""A tool call's arguments: the exact text a model wrote or a person edited, parsed strictly and once.

Nothing here ever writes JSON: what was approved is the text, and the text is what is hashed and run.
"""

import hashlib
import json
import math
from typing import Any, NoReturn

LIMIT_BYTES = 1024 * 1024
DEPTH_LIMIT = 64


class BadArguments(ValueError):
    """The text is not one JSON object that means the same to every reader."""


def parse(text: str) -> dict[str, Any]:
    """The arguments as Python values; integers of any size stay exact. Empty text is the empty object."""
    if len(text) > LIMIT_BYTES:
        raise BadArguments(f"the arguments are longer than {LIMIT_BYTES} bytes")
    try:
        value = _decode(text or "{}")
        _check_strings(value)
    except RecursionError as error:
        raise BadArguments(f"the arguments are nested deeper than {DEPTH_LIMIT} levels") from error
    except BadArguments:
        raise
    except ValueError as error:
        raise BadArguments(f"the arguments are not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadArguments("the arguments must be a JSON object")
    return value


def sha256_hex(text: str) -> str:
    """The lower-case hex SHA-256 of the text's UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise BadArguments(f"the key {twice!r} appears twice in one object")
    return result


def _constant(name: str) -> NoReturn:
    raise BadArguments(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise BadArguments(f"the number {text[:40]} is too large")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float).decode


def _check_strings(value: object, depth: int = 0) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            raise BadArguments("a string contains NUL")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise BadArguments("a string contains half of a surrogate pair") from error
    elif isinstance(value, dict | list):
        if depth == DEPTH_LIMIT:
            raise RecursionError
        for item in value.items() if isinstance(value, dict) else value:
            _check_strings(item, depth + 1)
    elif isinstance(value, tuple):
        _check_strings(value[0], depth)
        _check_strings(value[1], depth)
