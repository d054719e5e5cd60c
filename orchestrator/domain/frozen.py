"""`dataclass` and `replace` for what the domain makes thousands of a second; it knows no rule and no record.

To the type checker they are the standard library's, so whoever assigns to a field of a frozen record is told. At run
time freezing is left out: it makes `__init__` ten times slower (6 µs against 0.5 for a Step), and `replace` twelve
times (12 µs against 1), which was a third of what the rules of a run cost.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
    from dataclasses import replace as replace
else:

    def dataclass(cls=None, /, *, frozen=False, **options):
        """A dataclass; frozen ones keep their hash by value."""

        def made(cls):
            record = dataclasses.dataclass(cls, unsafe_hash=frozen, **options)
            _copiers[record] = _copier(record)
            return record

        return made if cls is None else made(cls)

    def replace(record, /, **changes):
        """A copy with some fields changed; AttributeError for a field it does not have, if it has slots."""
        copy = _copiers[type(record)](record)
        for name, value in changes.items():
            setattr(copy, name, value)
        return copy


_copiers: dict[type, Any] = {}


def _copier(record: type) -> Any:
    """A function of one assignment a field, as `dataclasses` itself writes its methods."""
    names = [field.name for field in dataclasses.fields(record)]
    lines = [
        "def copy(record):",
        " made = new(cls)",
        *(f" made.{name} = record.{name}" for name in names),
        " return made",
    ]
    scope: dict[str, Any] = {"new": object.__new__, "cls": record}
    exec("\n".join(lines), scope)  # noqa: S102  # the text is made of the names of fields alone
    return scope["copy"]
