"""How values are written for people: states, money, times, and text that somebody else wrote."""

import unicodedata

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from gen.assent.v1.usage_pb2 import Usage

ONE_LINE = 100
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def state_of(message: Message, field: str) -> str:
    """An enum field's value without its type's prefix: RUN_STATE_WAITING is WAITING."""
    return value_name(message, field, getattr(message, field))


def value_name(message: Message, field: str, number: int) -> str:
    """The name of one value of an enum field; the number itself where this client is older than the value."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    if enum is None or number not in enum.values_by_number:
        return str(number)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return enum.values_by_number[number].name.removeprefix(prefix)


def printable(text: str) -> str:
    """Text from a model, a tool or a file, with everything a terminal would obey or hide made visible.

    What a person approves must be what they saw: no escape sequences, no reversed or invisible letters.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _HIDDEN:
        return character
    return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"


def one_line(text: str, limit: int = ONE_LINE) -> str:
    """The text on one line, cut to a length."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def money(usage: Usage) -> str:
    """What it cost, said honestly where a price is unknown."""
    cost = f"${usage.cost_usd_micros / 1_000_000:.4f}"
    return f"at least {cost}" if usage.unpriced_calls else cost


def consumed(usage: Usage) -> str:
    """Calls, tokens and money in a few words."""
    calls = f"{plural(usage.model_calls, 'model call')}, {plural(usage.tool_calls, 'tool call')}"
    return f"{calls}, {usage.input_tokens} + {usage.output_tokens} tokens, {money(usage)}"


def plural(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds(duration: Duration) -> str:
    """A length of time as people say it."""
    total = duration.ToTimedelta().total_seconds()
    return f"{total * 1000:.0f} ms" if total < 1 else f"{total:.1f} s"
