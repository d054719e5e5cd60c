"""How long the contract lets each list of a message be, checked before anything else of it is.

protovalidate judges every element of a list before it says that there are too many: a million empty elements in
two megabytes held the event loop for 50 s. With this in front its work is bounded by the contract.
"""

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from gen.buf.validate import validate_pb2


class ListLimits:
    """The limited lists of one message type and of those within it; found once, at start-up."""

    __slots__ = ("_inner", "_lists")

    def __init__(self) -> None:
        self._lists: list[tuple[str, int]] = []
        self._inner: list[tuple[str, bool, ListLimits]] = []

    @classmethod
    def of(cls, descriptor: Any) -> "ListLimits":
        """The limits of a message type, which may contain itself."""
        known: dict[str, ListLimits] = {}
        limits = _collect(descriptor, known)
        for each in known.values():
            each._inner = [inner for inner in each._inner if inner[2]._limits_something(set())]
        return limits

    def exceeded(self, message: Any, path: str = "") -> Iterator[tuple[str, str]]:
        """The lists that are too long, as (field, description); what is inside of those is not looked at."""
        for name, maximum in self._lists:
            if len(getattr(message, name)) > maximum:
                yield path + name, f"must have at most {maximum} items"
                return
        for name, is_list, inner in self._inner:
            if is_list:
                for index, element in enumerate(getattr(message, name)):
                    yield from inner.exceeded(element, f"{path}{name}[{index}].")
            elif message.HasField(name):
                yield from inner.exceeded(getattr(message, name), f"{path}{name}.")

    def _limits_something(self, seen: set[int]) -> bool:
        if id(self) in seen:
            return False
        seen.add(id(self))
        return bool(self._lists) or any(inner._limits_something(seen) for _, _, inner in self._inner)


def _collect(descriptor: Any, known: dict[str, ListLimits]) -> ListLimits:
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    limits = known[descriptor.full_name] = ListLimits()
    for field in descriptor.fields:
        maximum = _maximum(field)
        if maximum is not None:
            limits._lists.append((field.name, maximum))
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            limits._inner.append((field.name, field.is_repeated, _collect(field.message_type, known)))
    return limits


def _maximum(field: FieldDescriptor) -> int | None:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if rules.repeated.HasField("max_items"):
        return int(rules.repeated.max_items)
    if rules.map.HasField("max_pairs"):
        return int(rules.map.max_pairs)
    return None
