"""Dataclass to row and back: which table a row lives in, its columns, its body; and text PostgreSQL can hold.

Columns are taken from tables.py by name, so a new field of a dataclass needs nothing here: it is in the body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import Table

from orchestrator.domain.records import (
    Approval,
    Artifact,
    Attempt,
    Grant,
    Message,
    Plan,
    Run,
    Session,
    Step,
    Subtask,
)
from orchestrator.store import tables

R = TypeVar("R", Message, Run, Plan, Subtask, Attempt, Step, Approval, Grant, Artifact)
T = TypeVar("T")
Values = tuple[object, ...]

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class RowCodec(Generic[R]):
    """How one kind of row is stored: `values` of a row are those of `columns`, in their order.

    The tenant and the session are not among them: a row has those of the change set that writes it.
    """

    kind: type[R]
    table: Table
    columns: tuple[str, ...]
    values: Callable[[R], Values]
    decode: Callable[[str], R]


def to_json(value: object) -> str:
    """Compact JSON; what no UTF-8 text can hold, a lone surrogate, is replaced. NUL stays, escaped."""
    try:
        return _encode(value).decode()
    except UnicodeEncodeError:
        return _encode(_deep_clean(msgspec.to_builtins(value))).decode()


def from_json(text: str, kind: type[T]) -> T:
    """What `to_json` wrote, as the dataclass it was."""
    return msgspec.json.decode(text, type=kind)


def clean(text: str) -> str:
    """The text as a column can hold it: NUL and lone surrogates become U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _deep_clean(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {_deep_clean(name): _deep_clean(item) for name, item in value.items()}
        case list():
            return [_deep_clean(item) for item in value]
        case _:
            return value


def _row_codec(kind: type[R], table: Table) -> RowCodec[R]:
    columns: tuple[str, ...] = tuple(name for name in table.c.keys() if name not in ("tenant", "session_id", "body"))
    of_columns = attrgetter(*columns)

    def values(row: R) -> Values:
        found: Values = of_columns(row)
        return (*found, to_json(row))

    return RowCodec(kind, table, (*columns, "body"), values, msgspec.json.Decoder(kind).decode)


MESSAGE = _row_codec(Message, tables.message)
RUN = _row_codec(Run, tables.run)
PLAN = _row_codec(Plan, tables.plan)
SUBTASK = _row_codec(Subtask, tables.subtask)
ATTEMPT = _row_codec(Attempt, tables.attempt)
STEP = _row_codec(Step, tables.step)
APPROVAL = _row_codec(Approval, tables.approval)
GRANT = _row_codec(Grant, tables.session_grant)
ARTIFACT = _row_codec(Artifact, tables.artifact)

CODECS: dict[type, RowCodec[Any]] = {
    codec.kind: codec for codec in (MESSAGE, RUN, PLAN, SUBTASK, ATTEMPT, STEP, APPROVAL, GRANT, ARTIFACT)
}

# The session's row is written by the fence, which decides these itself.
FENCE_COLUMNS = ("tenant", "id", "last_sequence", "last_hash", "last_event_time", "epoch", "owner")
SESSION_COLUMNS = tuple(name for name in tables.session.c.keys() if name not in FENCE_COLUMNS)
_session_values = attrgetter(*(name for name in SESSION_COLUMNS if name != "body"))
_BODY_FIELDS = tuple(f.name for f in fields(Session) if f.name not in tables.session.c)
_TITLE, _AGENT, _LABELS = (SESSION_COLUMNS.index(name) for name in ("title", "agent", "labels"))


def encode_session(session: Session) -> Values:
    """The values of SESSION_COLUMNS."""
    values = [*_session_values(session), to_json({name: getattr(session, name) for name in _BODY_FIELDS})]
    values[_TITLE] = clean(session.title)
    values[_AGENT] = clean(session.agent)
    values[_LABELS] = to_json({clean(name): clean(value) for name, value in session.labels.items()})
    return tuple(values)


def decode_session(row: Mapping[str, Any]) -> Session:
    """From every column of the session's row, by name."""
    body = msgspec.json.decode(row["body"])
    columns = {name: value for name, value in row.items() if name != "body"}
    return msgspec.convert(body | columns, Session)
