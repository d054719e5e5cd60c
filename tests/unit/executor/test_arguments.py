"""What counts as a tool call's arguments: one JSON object that means the same to every reader."""

import pytest

from executor.tools.arguments import LIMIT_BYTES, BadArguments, parse


def test_integers_stay_exact() -> None:
    assert parse('{"id": 1234567890123456789}') == {"id": 1234567890123456789}


def test_empty_text_is_the_empty_object() -> None:
    assert parse("") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ('{"outer": {"a": 1, "a": 1}}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": -Infinity}', "Infinity"),
        ('{"a": 1e999}', "too large"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"\\u0000": 1}', "NUL"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": ["\\udfff"]}', "surrogate"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "nested"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ('{"a": 1' + "0" * 5000 + "}", "not valid JSON"),
        ('{"a": "' + "x" * LIMIT_BYTES + '"}', "longer"),
        ("[1]", "object"),
        ('"text"', "object"),
        ('{"a": 1} {"b": 2}', "not valid JSON"),
        ('{"a": 1,}', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
    ],
)
def test_what_readers_could_read_differently_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadArguments, match=complaint):
        parse(text)
