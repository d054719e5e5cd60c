"""JSON from models and people is read strictly: what is accepted means the same to every reader."""

import time

import pytest

from orchestrator.domain.arguments import MAX_BYTES, MAX_DEPTH, BadJson, parse_object, parse_strictly


def refusal(text: str) -> str:
    with pytest.raises(BadJson) as refused:
        parse_strictly(text)
    return str(refused.value)


def test_an_integer_beyond_a_double_stays_exact() -> None:
    assert parse_strictly('{"id": 1234567890123456789}') == {"id": 1234567890123456789}
    assert parse_strictly(str(10**300 + 1)) == 10**300 + 1


@pytest.mark.parametrize("digits", [5_000, 200_000])
def test_an_integer_too_long_to_read_is_refused_and_no_other_error(digits: int) -> None:
    assert "digits" in refusal("1" * digits)


@pytest.mark.parametrize("text", ["1e999", "-1e999", '{"a": [1e400]}'])
def test_a_number_that_would_become_infinite_is_refused(text: str) -> None:
    assert "too large" in refusal(text)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}'])
def test_nan_and_infinities_are_refused(text: str) -> None:
    assert "not JSON" in refusal(text)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"x": [{"a": 1, "\\u0061": 1}]}'])
def test_a_key_twice_is_refused_and_named(text: str) -> None:
    assert "'a' twice" in refusal(text)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udfff": 1}', '["a\ud800"]', '{"a": {"b": ["\\udc00x"]}}'])
def test_a_lone_surrogate_is_refused_wherever_it_hides(text: str) -> None:
    assert "lone surrogate" in refusal(text)


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_strictly('"\\ud83d\\ude00"') == "😀"


@pytest.mark.parametrize("text", ['"a\\u0000b"', '{"\\u0000": 1}', '[["\\u0000"]]'])
def test_nul_is_refused_wherever_it_hides(text: str) -> None:
    assert "NUL" in refusal(text)


@pytest.mark.parametrize("text", ["", "{", "[1,]", "{'a': 1}", "1 2", '"\x00"', "\ufeff{}", "tru", '{"a": 01}'])
def test_malformed_text_is_refused_with_the_place(text: str) -> None:
    assert "at character" in refusal(text)


@pytest.mark.parametrize("bomb", ["[" * 100_000, '{"a":' * 40_000, "]" * 90 + "[" * 100_000, "[" * 65 + "]" * 65])
def test_a_depth_bomb_is_refused_at_once(bomb: str) -> None:
    started = time.perf_counter()
    refusal(bomb)
    assert time.perf_counter() - started < 1


def test_nesting_up_to_the_limit_is_accepted_and_brackets_in_strings_do_not_count() -> None:
    assert parse_strictly("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_strictly('["' + "[" * 100 + '\\"' + "{" * 100 + '"]')


def test_size_is_counted_in_bytes() -> None:
    assert parse_strictly('"' + "я" * ((MAX_BYTES - 2) // 2) + '"')
    assert "bytes" in refusal('"' + "я" * (MAX_BYTES // 2) + '"')


@pytest.mark.parametrize("text", ["[]", '"a"', "1", "null"])
def test_arguments_must_be_an_object(text: str) -> None:
    with pytest.raises(BadJson, match="is not an object"):
        parse_object(text)


def test_empty_arguments_are_the_empty_object() -> None:
    assert parse_object("") == {}
