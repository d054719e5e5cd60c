"""Conditions: what is refused when they are written, what they hold of, and that no call makes one slow or inexact."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.domain import conditions
from orchestrator.domain.conditions import BadCondition, Unjudged, holds


def is_true(text: str, arguments: dict[str, Any] | None = None, **more: Any) -> bool:
    return holds(conditions.compile(text), {"arguments": arguments or {}, **more})


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('arguments.command.contains("deploy")', {"command": "make deploy"}),
        ('arguments.path.startsWith("infra/")', {"path": "infra/a.tf"}),
        ("arguments.n > 3 && arguments.n < 4.5", {"n": 4}),
        ("arguments.n == 5", {"n": 5.0}),
        ('has(arguments.a) && arguments.a == "x"', {"a": "x"}),
        ('!has(arguments.a) || arguments.a == "x"', {}),
        ('arguments["with space"] == null', {"with space": None}),
        ("arguments.paths.all(p, p.matches('^docs/[a-z]+$'))", {"paths": ["docs/a", "docs/b"]}),
        ("arguments.edits.exists(e, e.lines.exists(n, n > 10))", {"edits": [{"lines": [1]}, {"lines": [11]}]}),
        ("arguments.a || arguments.b.missing", {"a": True, "b": 1}),
        ("size(arguments) == 2 && 'a' in arguments", {"a": 1, "b": 2}),
    ],
)
def test_a_condition_holds_of_a_call(text: str, arguments: dict[str, Any]) -> None:
    assert is_true(text, arguments)


def test_it_may_name_who_calls_what() -> None:
    call: dict[str, Any] = {
        "tool": "run_command",
        "agent": "coder",
        "side_effect": "NON_IDEMPOTENT",
        "session": {"team": "red"},
    }
    assert is_true('tool == "run_command" && agent in ["coder"] && session.team == "red"', **call)
    assert not is_true('side_effect == "READ_ONLY"', **call)


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("", 1, 1, "the end"),
        ("1 +", 1, 4, "the end"),
        ("arguments.x ==\n  == 1", 2, 3, "extraneous input"),
        ("argument.x == 1", 1, 1, "no name 'argument'"),
        ('true &&\n  arguments.x.contans("y")', 2, 15, "no function 'contans'"),
        ('arguments.x.matches("[")', 1, 21, "is no pattern"),
        ("arguments.x.matches(arguments.y)", 1, 21, "in quotes"),
        ('arguments.x.matches("(a{30}){30}")', 1, 21, "repetitions"),
        (r'arguments.x.matches("a\x7b1000}")', 1, 21, "repetitions"),
        ("arguments.x.map(a, a + a).size() > 1", 1, 22, "cannot stand beside"),
        ("[1,2,3,4,5].all(a, [1,2,3,4,5].all(b, [1,2,3,4,5].all(c, [1].all(d, a == d))))", 1, 1, "too much"),
        ("'" + "x" * 2_000 + "'", 1, 1, "over 2000"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(text: str, line: int, column: int, says: str) -> None:
    with pytest.raises(BadCondition, match=says) as refused:
        conditions.compile(text)
    assert (refused.value.line, refused.value.column) == (line, column)


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("arguments.x == 1", {}, "there is no 'x'"),
        ("!(arguments.x == 1)", {}, "there is no 'x'"),
        ("arguments.x < 1", {"x": "1"}, "overload"),
        ("arguments.x", {"x": 1}, "neither true nor false"),
        ("1 / arguments.x > 0", {"x": 0}, "division by zero"),
        ("arguments.x + 1 > 0", {"x": 2**63 - 1}, "overflow"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(text: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(Unjudged, match=says):
        is_true(text, arguments)


@pytest.mark.parametrize("n", [-(2**63), 2**53 + 1, 2**63 - 1])
def test_integers_are_compared_exactly(n: int) -> None:
    assert is_true(f"arguments.n == {n} && arguments.n != {n + 1 if n < 0 else n - 1}", {"n": n})


def test_integers_of_64_bits_without_a_sign_are_exact_too() -> None:
    n = 2**64 - 1
    assert is_true(f"arguments.n == {n}u && arguments.n > 5", {"n": n})
    assert not is_true("arguments.n == arguments.m", {"n": n, "m": n - 1})


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400, 2.0**53, -1e300])
def test_a_number_that_would_be_rounded_is_never_judged(number: float) -> None:
    for arguments in ({"n": number}, {"n": 1, "deep": [{"n": number}]}):
        with pytest.raises(Unjudged, match=r"more than 64 bits|is not exact"):
            is_true("arguments.n > 0", arguments)
    assert is_true('tool == "a"', {"n": number}, tool="a"), "what does not look at the arguments need not know them"


@pytest.mark.parametrize(
    "text",
    [
        "arguments.l.all(x, x in arguments.l)",
        "arguments.l.map(x, x).size() > 0",
        "arguments.l.all(x, arguments.l.all(y, x <= y || true))",
    ],
)
def test_no_call_makes_a_condition_slow(text: str) -> None:
    """Without the bound the first takes seconds, and minutes over as much as a call may hold."""
    with pytest.raises(Unjudged, match="too many"):
        is_true(text, {"l": list(range(20_000))})
    assert is_true(text, {"l": [1, 2, 3]})


def test_a_pattern_that_is_evil_elsewhere_is_matched_in_a_moment() -> None:
    assert not is_true('arguments.x.matches("^(a|aa)+$")', {"x": "a" * 200_000 + "b"})


def test_what_is_in_quotes_or_a_comment_is_no_loop() -> None:
    assert conditions.compile(r"""r'\' != ".all(x, .all(x," // .all(x, y""").loops == 0
    assert conditions.compile("arguments.all == 1 || arguments.map.map(x, x).size() == 1").loops == 1
    assert conditions.compile("[1].all (x, x.all ( y, true)) && [2].all(x, true)").loops == 2


_SIGNS = [".", "(", ")", ",", "[", "]", "{", "}", ":", "'", '"', "-", "+", "!", "&&", "||", "==", "?", "\\", "//", "\n"]
_NAMES = ["arguments", "x", "all", "exists", "in", "has(", "size(", ".matches(", ".map(", "r'", "true", "null", "'''"]
_WORDS = st.sampled_from([*_SIGNS, *_NAMES, "'a'", "1", "2u", "1.5", "99999999999999999999", "é", "\x00"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=8,
)


@example(".matches()", {})
@given(st.lists(_WORDS, max_size=14).map("".join) | st.text(max_size=30), st.dictionaries(st.text(max_size=3), _JSON))
def test_any_text_is_a_condition_or_refused_and_any_call_is_judged_or_not(text: str, arguments: dict[str, Any]) -> None:
    try:
        condition = conditions.compile(text)
        assert isinstance(holds(condition, {"arguments": arguments, "tool": "t"}), bool)
    except (BadCondition, Unjudged):
        pass


@given(st.integers(), st.integers())
def test_a_comparison_is_right_or_is_not_made(left: int, right: int) -> None:
    arguments = {"a": left, "b": right}
    try:
        assert is_true("arguments.a < arguments.b", arguments) == (left < right)
        assert is_true("arguments.a == arguments.b", arguments) == (left == right)
    except Unjudged:
        assert max(left, right) >= 2**64 or min(left, right) < -(2**63)
