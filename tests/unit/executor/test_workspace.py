"""The walls around a workspace: no path leads out of it, whatever it looks like and whatever is in it."""

import os
from pathlib import Path

import pytest

from executor.tools.tool import ToolCall, ToolResult
from executor.tools.toolbox import BUILT_IN
from executor.tools.workspace import PathRefused, Workspace

SECRET = "the secret outside"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with one session's workspace, a neighbour's, and traps of every kind in the first."""
    for directory in ("root/mine/real", "root/neighbour", "outside"):
        (tmp_path / directory).mkdir(parents=True)
    for path in ("outside/secret.txt", "root/neighbour/secret.txt", "root/secret.txt"):
        (tmp_path / path).write_text(SECRET)
    mine = tmp_path / "root/mine"
    (mine / "own.txt").write_text("my own")
    (mine / "link.txt").symlink_to(tmp_path / "outside/secret.txt")
    (mine / "relative.txt").symlink_to("../secret.txt")
    (mine / "directory").symlink_to(tmp_path / "outside")
    (mine / "up").symlink_to("..")
    (mine / "dangling").symlink_to(tmp_path / "outside/new.txt")
    (mine / "inside.txt").symlink_to("own.txt")
    os.mkfifo(mine / "pipe")
    return tmp_path / "root"


ATTACKS = [
    "../secret.txt",
    "../neighbour/secret.txt",
    "real/../../secret.txt",
    "real/../own.txt",
    "./../secret.txt",
    "..",
    "/etc/passwd",
    "//etc/passwd",
    "~/secret.txt",
    "C:/secret.txt",
    "..\\secret.txt",
    "own.txt\x00.md",
    "link.txt",
    "relative.txt",
    "inside.txt",
    "dangling",
    "directory/secret.txt",
    "directory/new.txt",
    "up/secret.txt",
    "up/neighbour/secret.txt",
    "pipe",
    "real",
    "real/",
    "own.txt/below",
    "",
    ".",
    "x" * 5000,
    "x" * 300,
]


def everything_outside(root: Path) -> dict[str, str]:
    top = root.parent
    return {
        str(path.relative_to(top)): path.read_text()
        for path in sorted(top.rglob("*"))
        if path.is_file() and "mine" not in path.parts
    }


async def perform(root: Path, tool: str, arguments_json: str, *, write_globs: tuple[str, ...] = ()) -> ToolResult:
    return await BUILT_IN[tool].perform(ToolCall(arguments_json, Workspace(root, "mine"), write_globs))


def as_json(**values: object) -> str:
    import json

    return json.dumps(values)


@pytest.mark.parametrize("path", ATTACKS)
async def test_no_path_reads_what_is_not_a_file_of_the_workspace(root: Path, path: str) -> None:
    result = await perform(root, "read_file", as_json(path=path))
    assert result.is_error
    assert SECRET not in result.content


@pytest.mark.parametrize("path", ATTACKS)
async def test_no_path_writes_outside_or_replaces_what_is_no_file(root: Path, path: str) -> None:
    before = everything_outside(root)
    result = await perform(root, "write_file", as_json(path=path, content="overwritten"))
    assert result.is_error
    assert everything_outside(root) == before


@pytest.mark.parametrize("tool", ["list_files", "search_files"])
@pytest.mark.parametrize("path", [path for path in ATTACKS if path not in ("", ".", "real", "real/")])
async def test_no_path_lists_or_searches_outside(root: Path, tool: str, path: str) -> None:
    more = {"text": "secret"} if tool == "search_files" else {}
    result = await perform(root, tool, as_json(path=path, **more))
    assert result.is_error
    assert "neighbour" not in result.content.replace(repr(path), "")


async def test_listing_and_searching_follow_no_link(root: Path) -> None:
    listed = await perform(root, "list_files", as_json())
    assert "link.txt (a link, not followed)" in listed.content
    assert "directory/secret.txt" not in listed.content
    found = await perform(root, "search_files", as_json(text="secret"))
    assert found.content == "nothing found"


@pytest.mark.parametrize("directory", ["../outside", "/etc", "", "mine/../..", "mine/directory", "mine/up"])
async def test_a_step_cannot_name_a_workspace_outside_the_root(root: Path, directory: str) -> None:
    with pytest.raises(PathRefused):
        Workspace(root, directory).ensure()


async def test_a_workspace_is_made_when_it_is_first_needed(root: Path) -> None:
    workspace = Workspace(root, "new/session")
    result = await BUILT_IN["write_file"].perform(ToolCall('{"path": "a/b/c.txt", "content": "x"}', workspace))
    assert not result.is_error
    assert (root / "new/session/a/b/c.txt").read_text() == "x"


async def test_a_link_put_in_place_of_a_directory_is_noticed_at_the_next_call(root: Path) -> None:
    assert not (await perform(root, "write_file", as_json(path="real/a.txt", content="x"))).is_error
    (root / "mine/real").rename(root / "mine/moved")
    (root / "mine/real").symlink_to(root.parent / "outside")
    assert (await perform(root, "write_file", as_json(path="real/a.txt", content="x"))).is_error
    assert not (root.parent / "outside/a.txt").exists()
