"""Conditions in CEL over a tool call: compiled once, exact about numbers, bounded in work. Knows nothing of rules.

CEL has no loops but its comprehensions; these are bounded before they run, by how deep they nest and how many values
they may go over. What cannot be judged exactly is an error, never a guess: the caller then takes the safe side.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import cel

# What a condition may name: the call's parsed arguments, the SHA-256 of their exact text, and who calls what;
# `session` are the session's labels.
VARIABLES = ("arguments", "arguments_sha256", "tool", "agent", "side_effect", "session")

MAX_CHARACTERS = 2_000
MAX_WORK = 10_000_000  # looks at a value, at most; a fraction of a second
MAX_REPETITIONS = 100  # of a pattern's counted repetitions, multiplied
MAKING_OVER = 10  # what giving one value to CEL costs, in looks at a value
PATTERN_WEIGHT = 1_000  # what compiling a pattern costs, in looks at a value

_COMPREHENSIONS = frozenset(("all", "exists", "exists_one", "map", "filter"))
_TEXT_AND_TYPES = ("contains", "endsWith", "startsWith", "matches", "size", "type", "string", "int", "uint", "double")
_BYTES_AND_DAYS = ("bool", "bytes", "duration", "timestamp", "getFullYear", "getMonth", "getDate", "getDayOfMonth")
_PARTS_OF_TIMES = ("getDayOfWeek", "getDayOfYear", "getHours", "getMinutes", "getSeconds", "getMilliseconds")
_FUNCTIONS = frozenset((*_TEXT_AND_TYPES, *_BYTES_AND_DAYS, *_PARTS_OF_TIMES))
_TYPES = ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint")

_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1  # CEL's int and uint
_EXACT = 2.0**53  # from here on a fraction stands for several integers


class BadCondition(ValueError):
    """The text is no condition; `line` and `column`, from 1, say where."""

    def __init__(self, line: int, column: int, problem: str) -> None:
        super().__init__(f"line {line}, column {column}: {problem}")
        self.line = line
        self.column = column
        self.problem = problem


class Unjudged(ValueError):
    """A condition could not be evaluated for a call, and why: it neither holds nor does not."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Compiled: `loops` is how deep its comprehensions nest, `weight` what one turn of the innermost may look at."""

    text: str
    program: cel.Program
    reads_arguments: bool
    loops: int
    weight: int
    literals: int  # as many values as it may have written out

    def work(self, values: int) -> int:
        """How many looks at a value it may take, at most, over arguments of so many."""
        return self.weight * (values + self.literals) ** (self.loops + 1) if self.loops else 0


@lru_cache(1_024)
def compile(text: str) -> Condition:
    """Raises BadCondition."""
    if len(text) > MAX_CHARACTERS:
        raise BadCondition(1, 1, f"is over {MAX_CHARACTERS} characters")
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise _syntax_error(str(error)) from None
    tokens = [t for t in _TOKEN.finditer(text) if t.lastgroup]
    variables, functions = program.variables(), program.functions()
    _refuse_unknown(tokens, variables, {*VARIABLES, *_TYPES, *_bound(tokens)}, "name")
    _refuse_unknown(tokens, [f for f in functions if f.isidentifier()], _FUNCTIONS, "function")
    loops, patterns = _nesting(tokens), _patterns(tokens)
    plus = next((t for t in tokens if t[0] == "+"), None)
    if loops and plus is not None:  # what it makes could double with each turn
        raise _at(plus, "+ cannot stand beside all, exists, exists_one, map and filter")
    weight = sum(t.lastgroup == "word" for t in tokens) + PATTERN_WEIGHT * patterns
    commas = sum(t[0] == "," for t in tokens)
    condition = Condition(text, program, "arguments" in variables, loops, weight, commas + 1)
    if condition.work(1) > MAX_WORK:
        raise BadCondition(1, 1, "goes over too much: fewer all, exists, map and filter in one another")
    return condition


def holds(condition: Condition, variables: Mapping[str, Any]) -> bool:
    """Whether it is true of a call: each variable by name, `arguments` as strictly parsed JSON. Raises Unjudged."""
    if condition.reads_arguments:
        values = _count(variables.get("arguments"))
        if condition.work(values) > MAX_WORK:
            raise Unjudged(f"the arguments hold {values} values, too many to go over")
    else:
        variables = {name: value for name, value in variables.items() if name != "arguments"}
    try:
        result = condition.program.execute(dict(variables))
    except KeyError as error:
        raise Unjudged(f"there is no {error.args[0]!r}") from None
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise Unjudged(str(error).split(". ")[0].splitlines()[0]) from None
    if not isinstance(result, bool):
        raise Unjudged(f"it gives neither true nor false, but {result!r:.80}")
    return result


def effort(condition: Condition, values: int) -> int:
    """What judging a call whose arguments hold so many values takes at most, to bound several conditions together."""
    return MAKING_OVER * values + condition.work(values) if condition.reads_arguments else 1


def size(arguments: Any) -> int:
    """How many values there are, themselves included. Raises Unjudged as `holds` does."""
    return _count(arguments)


def _count(arguments: Any) -> int:
    """How many values there are. Raises Unjudged for a number that CEL would round."""
    count, left = 0, [arguments]
    while left:
        value = left.pop()
        count += 1
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, int) and not _MIN_INTEGER <= value <= _MAX_INTEGER:
            raise Unjudged("the arguments hold an integer of more than 64 bits")
        elif isinstance(value, float) and abs(value) >= _EXACT:
            raise Unjudged(f"the arguments hold {value!r}, which is not exact")
    return count


# Comments and spaces belong to no group. In a raw literal a backslash is a backslash.
_TOKEN = re.compile(
    r"""//[^\n]*|\s+|(?P<text>(?:[rR][bB]?|[bB][rR])(?:'''.*?'''|\"\"\".*?\"\"\"|'[^']*'|"[^"]*")"""
    r"""|[bB]?(?:'''(?:\\.|.)*?'''|\"\"\"(?:\\.|.)*?\"\"\"|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<other>.)""",
    re.DOTALL,
)


def _nesting(tokens: list[re.Match[str]]) -> int:
    """How deep comprehensions stand in one another: what is in the brackets after one of their names."""
    deepest, open_brackets = 0, [False]
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token[0] in "([{":
            open_brackets.append(token[0] == "(" and before is not None and before[0] in _COMPREHENSIONS)
            deepest = max(deepest, sum(open_brackets))
        elif token[0] in ")]}":
            open_brackets.pop()
    return deepest


def _bound(tokens: list[re.Match[str]]) -> set[str]:
    """The names that comprehensions give to what they go over."""
    found = zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False)
    return {n[0] for c, o, n, e in found if c[0] in _COMPREHENSIONS and o[0] == "(" and e[0] == ","}


def _patterns(tokens: list[re.Match[str]]) -> int:
    """How many patterns are matched. Raises BadCondition for one from elsewhere, or that repeats too much."""
    count = 0
    for index, token in enumerate(tokens[:-1]):
        if token[0] != "matches" or tokens[index + 1][0] != "(":
            continue
        count += 1
        pattern, *end = tokens[index + 2 : index + 4]
        if pattern.lastgroup != "text" or not end or end[0][0] != ")":
            raise _at(pattern, "matches takes a pattern that is written out here, in quotes")
        written = str(cel.compile(pattern[0]).execute({}))  # the pattern itself, its escapes resolved
        if prod(int(n) or 1 for n in re.findall(r"\{(?:\d*,)?(\d{1,9})", written)) > MAX_REPETITIONS:
            raise _at(pattern, f"the pattern's repetitions multiply to more than {MAX_REPETITIONS}")
        try:
            cel.compile(f"''.matches({pattern[0]})").execute({})
        except (RuntimeError, ValueError) as error:
            raise _at(pattern, f"is no pattern: {str(error).splitlines()[-1]}") from None
    return count


def _refuse_unknown(tokens: list[re.Match[str]], names: Iterable[str], known: Iterable[str], what: str) -> None:
    for name in names:
        if name not in known:
            may = ", ".join(VARIABLES if what == "name" else sorted(known))
            raise _at(next((t for t in tokens if t[0] == name), tokens[0]), f"no {what} {name!r}; there are: {may}")


def _at(token: re.Match[str], problem: str) -> BadCondition:
    before = token.string[: token.start()]
    return BadCondition(before.count("\n") + 1, token.start() - before.rfind("\n"), problem)


_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")


def _syntax_error(words: str) -> BadCondition:
    found = _PLACE.search(words)
    if found is None:
        return BadCondition(1, 1, words.splitlines()[0])
    problem = found[3].split(" expecting {")[0].replace("'<EOF>'", "the end")
    return BadCondition(int(found[1]), int(found[2]), problem)
