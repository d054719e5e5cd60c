"""Whatever a row holds comes back as it was, as far as PostgreSQL's text can hold it."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.records import Session
from orchestrator.store import tables
from orchestrator.store.codec import CODECS, SESSION_COLUMNS, clean, decode_session, encode_session, from_json, to_json

ANY_TEXT = st.text(st.characters(exclude_categories=[]))  # surrogates and NUL too


@given(ANY_TEXT)
def test_a_cleaned_text_fits_a_column_and_a_clean_one_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert "\0" not in cleaned.encode().decode()
    assert clean(cleaned) == cleaned
    if "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


@given(st.recursive(ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner)))
def test_json_of_any_text_can_be_stored_and_read(value: Any) -> None:
    text = to_json({"value": value})
    assert "\0" not in text
    text.encode()
    from_json(text, dict[str, Any])


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.table.name)
def test_every_column_repeats_a_field_of_its_dataclass(codec: Any) -> None:
    names = {field.name for field in fields(codec.kind)}
    assert {"tenant", "session_id", *codec.columns} - {"body"} <= names


def test_each_fact_of_a_session_is_kept_in_one_place() -> None:
    """In a column or in the body, never both: the columns that the fence writes may not be contradicted."""
    session = Session("acme", "s", title="title", labels={"a": "b"}, when_busy="REJECT", creator="ann", epoch=3)
    values = dict(zip(SESSION_COLUMNS, encode_session(session), strict=True))
    body = from_json(str(values["body"]), dict[str, Any])
    assert not set(body) & set(tables.session.c.keys())
    assert set(body) | set(tables.session.c.keys()) == {field.name for field in fields(Session)} | {"body"}


def test_a_session_comes_back_from_its_row() -> None:
    session = Session("acme", "s", title="title", labels={"a": "b"}, when_busy="REJECT", creator="ann", epoch=3)
    row = {str(name): getattr(session, name) for name in tables.session.c.keys() if name != "body"}
    body = dict(zip(SESSION_COLUMNS, encode_session(session), strict=True))["body"]
    assert decode_session({**row, "body": body}) == session
    assert decode_session({**row, "body": body, "title": "newer"}) == replace(session, title="newer")
