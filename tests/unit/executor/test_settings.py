"""Where an executor listens and works, from its environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from executor.roots import open_roots
from executor.settings import Settings


def test_it_listens_where_orchestrators_look_first() -> None:
    assert Settings().address == "127.0.0.1:50052"
    assert Settings(executor_addrs="127.0.0.1:1, 127.0.0.1:2").address == "127.0.0.1:1"
    assert Settings(executor_addrs="127.0.0.1:1", executor_addr="127.0.0.1:3").address == "127.0.0.1:3"


def test_workspaces_are_below_the_data_directory_unless_named() -> None:
    assert Settings(data_dir=Path("/data")).roots == [Path("/data/workspaces")]
    assert Settings(workspace_roots="/a, /b").roots == [Path("/a"), Path("/b")]


def test_a_model_without_a_provider_is_refused() -> None:
    with pytest.raises(ValidationError, match="PROVIDER:MODEL"):
        Settings(model="gpt-5-mini")


def test_a_root_keeps_its_id_wherever_it_is_mounted(tmp_path: Path) -> None:
    first = open_roots([tmp_path / "one", tmp_path / "two"])
    assert len(first) == 2
    (tmp_path / "one").rename(tmp_path / "moved")
    assert set(open_roots([tmp_path / "moved", tmp_path / "two"])) == set(first)
