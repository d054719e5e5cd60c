"""Pages of a list: ordered by a key that never changes, continued from an opaque token that holds the last one's.

A token is bound to its list and filter: used with another one it is refused, not misunderstood.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Row, Select, literal, tuple_

from orchestrator.domain.errors import InvalidPageToken, Violation
from orchestrator.store.database import Database

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MOST_LOOKS = 8
# Of stored text. An event may travel twice, as fields and as the text that was hashed, and clients of gRPC take
# messages up to 4 MiB unless they are told otherwise.
PAGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Paging:
    """What the caller asks for: `size` 0 is 50, at most 500; `token` empty is the first page.

    A page of large items is shorter than asked for: it ends with the item that reaches PAGE_BYTES.
    """

    size: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """`next_page_token` is empty at the end."""

    items: Sequence[T_co]
    next_page_token: str


async def fetch_page(
    database: Database,
    statement: Select[Any],
    decode: Callable[[Row[Any]], T],
    *,
    key: Sequence[ColumnElement[Any]],
    newest_first: bool = True,
    scope: Sequence[object],
    paging: Paging,
    keep: Callable[[T], bool] | None = None,
) -> Page[T]:
    """One page of `statement`, ordered by `key`; `scope` is everything that makes this list another list.

    What `keep` does not want is left out after it was read, so such a page may be short, or empty, before the end.
    """
    size = min(paging.size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    bound = _scope_hash(scope)
    order = [column.desc() if newest_first else column.asc() for column in key]
    after = _read(paging, bound, key) if paging.token else []
    items: list[T] = []
    room = PAGE_BYTES
    for _ in range(1 if keep is None else MOST_LOOKS):
        rest = statement
        if after:
            last = tuple_(*(literal(value, column.type) for column, value in zip(key, after, strict=True)))
            rest = statement.where(tuple_(*key) < last if newest_first else tuple_(*key) > last)
        # One more than is wanted tells whether there is another.
        wanted = size - len(items)
        rows = await database.rows(rest.add_columns(*key).order_by(*order).limit(wanted + 1))
        shown = rows[: min(wanted, _fitting(rows, room))]
        items += [item for item in map(decode, shown) if keep is None or keep(item)]
        if len(shown) == len(rows):
            return Page(items, "")
        after = list(shown[-1][-len(key) :])
        room -= _bytes(shown)
        if len(items) == size or room <= 0:
            break
    return Page(items, _write(bound, after))


def _fitting(rows: Sequence[Row[Any]], room: int) -> int:
    """How many of the rows make a page by their bytes: at least one, or nobody would ever get past it."""
    for count, row in enumerate(rows):
        if room <= 0:
            return count
        room -= _bytes([row])
    return len(rows)


def _bytes(rows: Sequence[Row[Any]]) -> int:
    return sum(len(value.encode()) for row in rows for value in row if isinstance(value, str))


def _scope_hash(scope: Sequence[object]) -> str:
    return hashlib.sha256(repr(tuple(scope)).encode("utf-8", "replace")).hexdigest()[:16]


def _write(bound: str, key: Sequence[object]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([bound, *key])).decode().rstrip("=")


def _is_storable(value: str | int) -> bool:
    """A token is its client's to change: what no row can hold is not asked for."""
    return "\x00" not in value if isinstance(value, str) else -(2**63) <= value < 2**63


def _read(paging: Paging, bound: str, key: Sequence[ColumnElement[Any]]) -> list[Any]:
    try:
        text = base64.urlsafe_b64decode(paging.token + "=" * (-len(paging.token) % 4))
        given, *values = msgspec.json.decode(text, type=list[str | int])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        given, values = "", []
    kinds = [column.type.python_type for column in key]
    if given != bound or [type(value) for value in values] != kinds or not all(map(_is_storable, values)):
        raise InvalidPageToken([Violation("page_token", "is not one that this list gave for this filter")])
    return values
