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
) -> Page[T]:
    """One page of `statement`, ordered by `key`; `scope` is everything that makes this list another list."""
    size = min(paging.size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    bound = _scope_hash(scope)
    if paging.token:
        values = zip(key, _read(paging, bound, key), strict=True)
        last = tuple_(*(literal(value, column.type) for column, value in values))
        statement = statement.where(tuple_(*key) < last if newest_first else tuple_(*key) > last)
    order = [column.desc() if newest_first else column.asc() for column in key]
    # One more than the page tells whether there is another.
    rows = await database.rows(statement.add_columns(*key).order_by(*order).limit(size + 1))
    shown = rows[: min(size, _fitting(rows))]
    token = _write(bound, shown[-1][-len(key) :]) if len(rows) > len(shown) else ""
    return Page([decode(row) for row in shown], token)


def _fitting(rows: Sequence[Row[Any]]) -> int:
    """How many of the rows make a page by their bytes: at least one, or nobody would ever get past it."""
    bytes_before = 0
    for count, row in enumerate(rows):
        if bytes_before >= PAGE_BYTES:
            return count
        bytes_before += sum(len(value.encode()) for value in row if isinstance(value, str))
    return len(rows)


def _scope_hash(scope: Sequence[object]) -> str:
    return hashlib.sha256(repr(tuple(scope)).encode("utf-8", "replace")).hexdigest()[:16]


def _write(bound: str, key: Sequence[object]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([bound, *key])).decode().rstrip("=")


def _read(paging: Paging, bound: str, key: Sequence[ColumnElement[Any]]) -> list[Any]:
    try:
        text = base64.urlsafe_b64decode(paging.token + "=" * (-len(paging.token) % 4))
        given, *values = msgspec.json.decode(text, type=list[str | int])
    except (binascii.Error, ValueError, msgspec.DecodeError):
        given, values = "", []
    kinds = [column.type.python_type for column in key]
    if given != bound or [type(value) for value in values] != kinds:
        raise InvalidPageToken([Violation("page_token", "is not one that this list gave for this filter")])
    return values
