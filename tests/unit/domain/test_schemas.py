"""JSON Schemas: what does not fit is said with its place, and no schema, however hostile, takes long."""

import json
from typing import Any

import pytest

from orchestrator.domain.schemas import (
    LONGEST_PROBLEM,
    MOST_MODEL_VALUES,
    MOST_PROBLEMS,
    count_values,
    fault_of_models,
    problems_of,
)

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def problems(value: Any, schema: Any, **more: Any) -> list[str]:
    return problems_of(value, json.dumps(schema), **more)


@pytest.mark.parametrize("by_model", [False, True])
def test_what_fits_has_no_problems(by_model: bool) -> None:
    assert problems({"name": "x", "age": 10**4000}, PERSON, by_model=by_model) == []
    assert problems_of({"any": 1}, "", by_model=by_model) == []


@pytest.mark.parametrize("by_model", [False, True])
def test_what_does_not_fit_is_said_with_its_place(by_model: bool) -> None:
    found = problems({"age": -1, "x": 1}, PERSON, by_model=by_model)
    assert sorted(p.split(":")[0] for p in found) == ["$", "$", "$.age"]


def test_problems_are_few_and_short() -> None:
    found = problems(["x" * 10_000] * 100, {"items": {"type": "integer"}})
    assert len(found) == MOST_PROBLEMS
    assert {len(p) for p in found} == {LONGEST_PROBLEM}


@pytest.mark.parametrize(
    "schema_json",
    [
        "{",
        '{"type": "strin"}',
        '{"$ref": "http://127.0.0.1:1/schema"}',
        '{"$ref": "#"}',
        '{"$ref": "#/$defs/none"}',
        '{"multipleOf": 0.5}',
        '{"a":1,"a":2}',
    ],
)
def test_what_cannot_be_checked_does_not_fit(schema_json: str) -> None:
    [problem] = problems_of(10**400, schema_json)
    assert "cannot be checked" in problem


@pytest.mark.parametrize(("value", "is_unique"), [([1, True, "1", [1], {"a": 1}], True), ([1, 1.0], False)])
def test_elements_are_the_same_as_the_specification_says(value: list[Any], is_unique: bool) -> None:
    assert (problems(value, {"uniqueItems": True}) == []) is is_unique
    assert problems([value, value], {"uniqueItems": True}) == ["$: has an element twice"]
    assert problems([[0], [False]], {"uniqueItems": True}) == []


def test_many_elements_are_not_compared_each_with_each() -> None:
    many = [{"a": n} for n in range(20_000)]
    assert problems(many, {"uniqueItems": True}) == []
    assert problems([*many, {"a": 1.0}], {"uniqueItems": True}) == ["$: has an element twice"]


# --- a schema that a model wrote


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        {},
        {"type": ["string", "null"], "description": "d", "title": "t", "default": None, "examples": ["x"]},
        {"enum": ["a", 1]},
        {"const": {"pattern": "is a value here"}},
        {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "minItems": 1, "maxItems": 3},
        {"anyOf": [{"type": "string", "maxLength": 3}, {"not": {"type": "string"}}]},
        {"prefixItems": [{"multipleOf": 2}, True], "items": False},
        {"properties": {"pattern": {"type": "string", "format": "uri"}, "$ref": {}}},
    ],
    ids=str,
)
def test_what_models_commonly_ask_for_is_taken(schema: Any) -> None:
    assert fault_of_models(schema) == ""
    assert not any("cannot be checked" in p for p in problems({}, schema, by_model=True))


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"pattern": "^(a+)+$"}, "'pattern' is not taken"),
        ({"properties": {"a": {"patternProperties": {"(a+)+": {}}}}}, "$.properties.a: 'patternProperties'"),
        ({"items": {"$ref": "#"}}, "$.items: '$ref'"),
        ({"$dynamicRef": "#a"}, "'$dynamicRef'"),
        ({"$defs": {}}, "'$defs'"),
        ({"anyOf": [{}, {"$ref": "http://127.0.0.1:1/"}]}, "$.anyOf[1]: '$ref'"),
        ({"unevaluatedProperties": False}, "'unevaluatedProperties'"),
        ({"type": "strin"}, "$.type: does not do"),
        ({"type": []}, "$.type: does not do"),
        ({"type": 1}, "$.type: does not do"),
        ({"minLength": -1}, "$.minLength"),
        ({"minLength": True}, "$.minLength"),
        ({"minimum": "1"}, "$.minimum"),
        ({"multipleOf": 0}, "$.multipleOf"),
        ({"required": "a"}, "$.required"),
        ({"enum": "a"}, "$.enum"),
        ({"items": [{}]}, "$.items: must be an object"),
        ({"anyOf": []}, "$.anyOf: must be a list"),
        ({"properties": []}, "$.properties: must be an object"),
        ("string", "must be an object"),
        ({"enum": list(range(MOST_MODEL_VALUES))}, "values"),
    ],
    ids=str,
)
def test_what_could_be_made_expensive_or_means_nothing_is_not_taken(schema: Any, words: str) -> None:
    assert words in fault_of_models(schema)
    assert ["cannot be checked" in p for p in problems({}, schema, by_model=True)] == [True]


def test_a_hostile_schema_is_never_applied_to_more_than_it_may_take() -> None:
    """Each of the schema's values with each of the answer's is the most there can be: there are no references."""
    hostile = {"items": {"allOf": [{"type": "integer"}] * 200}}
    assert count_values(hostile) <= MOST_MODEL_VALUES
    assert problems([0] * 100, hostile, by_model=True) == []
    assert problems([0] * 30_000, hostile, by_model=True) == ["has too many values to be checked against its schema"]


def test_schemas_nested_as_deep_as_json_may_be_are_applied() -> None:
    schema: Any = {"type": "integer"}
    value: Any = 1
    for _ in range(30):
        schema, value = {"items": {"anyOf": [schema]}} if count_values(schema) % 2 else {"items": schema}, [value]
    assert fault_of_models(schema) == ""
    assert not any("cannot be checked" in p for p in problems(value, schema, by_model=True))
