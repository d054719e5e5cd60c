"""JSON Schemas (2020-12): what of a value does not fit one. Nothing is fetched from elsewhere, and the work is bounded.

The schemas of executors and of the catalog are the operator's own, and may say whatever a schema can. One that a model
or a client wrote may say only what cannot be made expensive: no references, and no regular expressions.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from orchestrator.domain.arguments import BadJson, parse_strictly

MOST_PROBLEMS = 10
LONGEST_PROBLEM = 500  # characters
MOST_WORK = 1_000_000  # values of the schema times values that are checked
MOST_MODEL_VALUES = 500  # in a schema that a model wrote
MOST_MODEL_WORK = 100_000


def problems_of(value: Any, schema_json: str, *, by_model: bool = False, most_work: int = 0) -> list[str]:
    """What of the value does not fit the schema, in words with the place; what cannot be checked does not fit.

    `by_model`: the schema is a model's own, or a client's; a million of `most_work` may take ten seconds.
    """
    validator, work = _compiled(schema_json, by_model)
    if isinstance(validator, str):
        return [f"cannot be checked: {validator}"]
    most_work = most_work or (MOST_MODEL_WORK if by_model else MOST_WORK)
    if work * count_values(value) > most_work:
        return ["has too many values to be checked against its schema"]
    try:
        errors = validator.iter_errors(value)
        return [f"{error.json_path}: {error.message}"[:LONGEST_PROBLEM] for error in islice(errors, MOST_PROBLEMS)]
    except (Unresolvable, RecursionError, OverflowError) as error:
        return [f"cannot be checked: the schema does not do ({type(error).__name__})"]


def count_values(value: Any) -> int:
    """How many values JSON is made of, itself included."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(count_values(each) for each in inner)


def fault_of(schema: Any) -> str:
    """Why it is no JSON Schema; empty when it is one. A value of it may take up to a millisecond."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"is no JSON Schema: {error.json_path}: {error.message}"[:LONGEST_PROBLEM]
    return ""


def fault_of_models(schema: Any) -> str:
    """Why a model's own schema is not taken; empty when it is."""
    if (values := count_values(schema)) > MOST_MODEL_VALUES:
        return f"has {values} values; {MOST_MODEL_VALUES} are allowed"
    return next(_faults(schema, "$"), "")[:LONGEST_PROBLEM]


@lru_cache(maxsize=256)  # few schemas, many calls: to see whether one does takes far longer than to apply it
def _compiled(schema_json: str, by_model: bool) -> tuple[Validator | str, int]:
    """The schema as it is applied, or why it cannot be, and how many values it has."""
    try:
        schema = parse_strictly(schema_json or "{}")
    except BadJson as error:
        return f"the schema {error}", 1
    try:
        fault = fault_of_models(schema) if by_model else fault_of(schema)
    except RecursionError:
        fault = "is nested too deep"
    return (f"the schema {fault}" if fault else _Bounded(schema, registry=Registry())), count_values(schema)


def _unique(validator: Validator, wanted: bool, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """As the specification has it, and in linear time."""
    if wanted and isinstance(instance, list) and len({_key(each) for each in instance}) < len(instance):
        yield ValidationError("has an element twice")


def _key(value: Any) -> Any:
    """Equal for what JSON Schema calls equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return dict, frozenset((name, _key(each)) for name, each in value.items())
    if isinstance(value, list):
        return list, tuple(map(_key, value))
    return (bool, value) if isinstance(value, bool) else value


_Bounded = extend(Draft202012Validator, {"uniqueItems": _unique})  # type: ignore[no-untyped-call]  # it has no types


# --- what a model's schema may say


def _faults(schema: Any, at: str) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{at}: must be an object, or true or false"
        return
    for name, value in schema.items():
        where = f"{at}.{name}"
        if name in _SCHEMA:
            yield from _faults(value, where)
        elif name in _SCHEMAS:
            if not isinstance(value, list) or not value:
                yield f"{where}: must be a list of schemas"
            else:
                yield from (fault for i, each in enumerate(value) for fault in _faults(each, f"{where}[{i}]"))
        elif name == "properties":
            if not isinstance(value, dict):
                yield f"{where}: must be an object"
            else:
                yield from (fault for key, each in value.items() for fault in _faults(each, f"{where}.{key}"))
        elif (takes := _SAYS.get(name)) is None:
            yield f"{at}: {name!r} is not taken; there are: {', '.join(_ALL)}"
        elif not takes(value):
            yield f"{where}: does not do"


def _is_type(value: Any) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in _TYPES for name in names)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
_SCHEMA = ("items", "additionalProperties", "not")
_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SAYS: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum": _is_list,
    "const": lambda _value: True,
    **dict.fromkeys(("title", "description", "format", "$schema", "$comment"), _is_text),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _is_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    "uniqueItems": lambda value: isinstance(value, bool),
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "default": lambda _value: True,
    "examples": _is_list,
}
_ALL = (*_SAYS, "properties", *_SCHEMA, *_SCHEMAS)
