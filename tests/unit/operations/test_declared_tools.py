"""Clients' tools that a catalog declares: read whole or refused with file and reason, and never another's name."""

import json
import shutil
from pathlib import Path

import pytest

from orchestrator.catalog import BadCatalog, load_catalog
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.digests import sha256
from orchestrator.settings import SHIPPED_CATALOG

SHOW_PAGE = """
name: show_page
description: Shows a page to the person.
input_schema:
  type: object
  properties: {url: {type: string}, wait: {type: boolean, default: true}}
  required: [url]
side_effect: READ_ONLY
time_limit: 15m
on_timeout: ASK
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    (tmp_path / "catalog" / "tools").mkdir(exist_ok=True)
    return tmp_path / "catalog"


def declare(directory: Path, text: str, name: str = "page.yaml") -> Path:
    (directory / "tools" / name).write_text(text)
    return directory


def test_a_declared_tool_is_a_clients(directory: Path) -> None:
    [tool] = load_catalog(declare(directory, SHOW_PAGE)).client_tools.values()
    assert (tool.name, tool.source, tool.side_effect) == ("show_page", "client", "READ_ONLY")
    assert (tool.time_limit, tool.on_timeout) == (900 * SECOND, "ASK")
    assert json.loads(tool.input_schema_json)["properties"]["wait"] == {"type": "boolean", "default": True}
    assert tool.schema_digest == sha256(tool.input_schema_json)


def test_what_is_left_out_is_as_careful_as_can_be(directory: Path) -> None:
    [tool] = load_catalog(declare(directory, "{name: beep, description: Beeps.}")).client_tools.values()
    assert (tool.side_effect, tool.time_limit, tool.on_timeout) == ("NON_IDEMPOTENT", 0, "FAIL")
    assert json.loads(tool.input_schema_json) == {"type": "object"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: show_page", "name: show page", "page.yaml:2: name"),
        ("name: show_page", "name: ask_user", "there is a tool 'ask_user' already"),
        ("type: object", "type: objekt", "is no JSON Schema"),
        ("type: object", "default: .nan", "is no JSON"),
        ("type: object", "default: 2026-01-01", "is no JSON"),
        ("READ_ONLY", "SAFE", "page.yaml:8: side_effect"),
        ("15m", "15", "page.yaml:9: time_limit"),
        ("15m", "15 minutes", "page.yaml:9: time_limit"),
        ("15m", "0s", "page.yaml:9: time_limit"),
        ("15m", "31d", "page.yaml:9: time_limit"),
        ("on_timeout: ASK", "on_timeout: WAIT", "page.yaml:10: on_timeout"),
        ("on_timeout", "after", "page.yaml:10: after"),
    ],
)
def test_a_mistake_is_named_with_its_file(directory: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(BadCatalog) as refused:
        load_catalog(declare(directory, SHOW_PAGE.replace(old, new)))
    assert words in str(refused.value)


def test_of_two_tools_of_one_name_the_second_is_refused(directory: Path) -> None:
    declare(directory, SHOW_PAGE)
    with pytest.raises(BadCatalog, match=r"two\.yaml: there is a tool 'show_page' already"):
        load_catalog(declare(directory, SHOW_PAGE, "two.yaml"))
