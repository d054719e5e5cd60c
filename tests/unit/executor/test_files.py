"""The file tools doing their work: what they return, their limits, and what agents may not write."""

import json
from pathlib import Path

import pytest

from executor.tools.files import READ_LIMIT_BYTES
from executor.tools.tool import OUTPUT_LIMIT_BYTES, ToolCall, ToolResult
from executor.tools.toolbox import BUILT_IN
from executor.tools.workspace import Workspace


async def perform(root: Path, tool: str, *write_globs: str, **arguments: object) -> ToolResult:
    call = ToolCall(json.dumps(arguments), Workspace(root, "session"), write_globs)
    return await BUILT_IN[tool].perform(call)


async def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    content = 'текст\r\n{"id": 1234567890123456789}\nбез конца строки'
    written = await perform(tmp_path, "write_file", path="lib/a.txt", content=content)
    assert written.content.startswith("created lib/a.txt")
    assert (tmp_path / "session/lib/a.txt").read_bytes() == content.encode()
    assert (await perform(tmp_path, "read_file", path="lib/a.txt")).content == content


async def test_a_replaced_file_keeps_its_mode_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    await perform(tmp_path, "write_file", path="run.sh", content="one")
    (tmp_path / "session/run.sh").chmod(0o755)
    replaced = await perform(tmp_path, "write_file", path="run.sh", content="two")
    assert replaced.content.startswith("replaced")
    assert (tmp_path / "session/run.sh").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "session").iterdir()] == ["run.sh"]


async def test_a_hard_link_to_something_outside_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "outside.txt").write_text("precious")
    (tmp_path / "session/link.txt").hardlink_to(tmp_path / "outside.txt")
    await perform(tmp_path, "write_file", path="link.txt", content="overwritten")
    assert (tmp_path / "outside.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("path", "allowed"), [("plan.md", True), ("docs/plan.md", True), ("lib/main.dart", False), ("./x.dart", False)]
)
async def test_an_agent_writes_only_what_its_limits_name(tmp_path: Path, path: str, allowed: bool) -> None:
    result = await perform(tmp_path, "write_file", "*.md", path=path, content="x")
    assert result.is_error is not allowed
    assert (tmp_path / "session" / path).exists() is allowed


async def test_lines_can_be_asked_for(tmp_path: Path) -> None:
    await perform(tmp_path, "write_file", path="a", content="1\n2\n3\n4\n")
    assert (await perform(tmp_path, "read_file", path="a", first_line=2, line_count=2)).content == "2\n3\n"
    assert (await perform(tmp_path, "read_file", path="a", first_line=9)).is_error


async def test_long_files_are_cut_at_a_line_and_say_where_to_go_on(tmp_path: Path) -> None:
    await perform(tmp_path, "write_file", path="a", content="".join(f"line {n}\n" for n in range(1, 20_001)))
    result = await perform(tmp_path, "read_file", path="a")
    assert len(result.content.encode()) < OUTPUT_LIMIT_BYTES + 200
    next_line = int(result.content.rsplit(" ", 1)[1].rstrip("]"))
    rest = await perform(tmp_path, "read_file", path="a", first_line=next_line, line_count=1)
    assert rest.content == f"line {next_line}\n"


async def test_files_over_the_limit_and_binary_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "session/large").write_bytes(b"x" * (READ_LIMIT_BYTES + 1))
    (tmp_path / "session/binary").write_bytes(b"\x00\x01")
    assert "limit" in (await perform(tmp_path, "read_file", path="large")).content
    assert "binary" in (await perform(tmp_path, "read_file", path="binary")).content


async def test_arguments_that_do_not_fit_the_schema_name_the_field(tmp_path: Path) -> None:
    result = await perform(tmp_path, "read_file", path=7, extra=True)
    assert result.is_error
    assert "path:" in result.content
    assert "extra:" in result.content


async def test_listing_says_sizes_skips_what_tools_generate_and_filters(tmp_path: Path) -> None:
    for path in ("a.txt", "lib/b.dart", ".git/objects/x", "node_modules/m/index.js"):
        (tmp_path / "session" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "session" / path).write_text("xyz")
    listed = (await perform(tmp_path, "list_files")).content.splitlines()
    assert listed == [".git/", "a.txt (3 bytes)", "lib/", "lib/b.dart (3 bytes)", "node_modules/"]
    assert (await perform(tmp_path, "list_files", glob="*.dart")).content == "lib/b.dart (3 bytes)"
    assert (await perform(tmp_path, "list_files", recursive=False)).content.splitlines()[-1] == "node_modules/"


async def test_an_empty_workspace_says_so(tmp_path: Path) -> None:
    assert (await perform(tmp_path, "list_files")).content == "the directory is empty"


async def test_searching_finds_lines_with_their_numbers(tmp_path: Path) -> None:
    await perform(tmp_path, "write_file", path="lib/a.dart", content="class A {}\n// b\nclass B {}\n")
    await perform(tmp_path, "write_file", path="c.md", content="Class C\n")
    found = await perform(tmp_path, "search_files", text="class ")
    assert found.content.splitlines() == ["lib/a.dart:1: class A {}", "lib/a.dart:3: class B {}"]
    everywhere = await perform(tmp_path, "search_files", text="CLASS", ignore_case=True)
    assert len(everywhere.content.splitlines()) == 3
    assert (await perform(tmp_path, "search_files", text="class", glob="*.md")).content == "nothing found"
    assert (await perform(tmp_path, "search_files", text="class B", path="lib")).content.startswith("lib/a.dart:3")


async def test_too_many_matches_are_cut_with_a_note(tmp_path: Path) -> None:
    await perform(tmp_path, "write_file", path="a", content="match\n" * 5000)
    result = await perform(tmp_path, "search_files", text="match")
    assert len(result.content.splitlines()) == 201
    assert "cut after 200 matches" in result.content
