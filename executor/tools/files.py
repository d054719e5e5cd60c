"""Reading, writing and listing files of a workspace. Staying inside it is workspace.py's part."""

import os
import stat
from collections.abc import Iterator

from pydantic import Field

from executor.text import clean
from executor.tools.globs import matches
from executor.tools.tool import OUTPUT_LIMIT_BYTES, Arguments, SideEffect, Tool, ToolCall, ToolResult, failed
from executor.tools.workspace import split_path

READ_LIMIT_BYTES = 1024 * 1024
WRITE_LIMIT_BYTES = 1024 * 1024
ENTRIES_LIMIT = 1000
_WALK_DEPTH_LIMIT = 32
_SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".dart_tool", ".venv"})


class ReadFile(Arguments):
    path: str = Field(description="The file, relative to the workspace.")
    first_line: int = Field(1, ge=1, description="The first line to return, counted from 1.")
    line_count: int | None = Field(None, ge=1, description="How many lines to return; all if left out.")


class WriteFile(Arguments):
    path: str = Field(description="The file, relative to the workspace; missing directories are made.")
    content: str = Field(description="The file's whole new content.")


class ListFiles(Arguments):
    path: str = Field(".", description="The directory to list, relative to the workspace.")
    recursive: bool = Field(True, description="Whether to list what is in its directories too.")
    glob: str = Field("", description="Only files that fit this pattern, for example *.dart or lib/**/*.dart.")


def _read(arguments: ReadFile, call: ToolCall) -> ToolResult:
    """The file's text, or the part asked for, up to the output limit."""
    raw = call.workspace.read(arguments.path, READ_LIMIT_BYTES)
    if b"\x00" in raw:
        return failed(f"{arguments.path!r} is a binary file of {len(raw)} bytes")
    lines = raw.splitlines(keepends=True)
    first = arguments.first_line - 1
    if first >= len(lines) and first > 0:
        return failed(f"{arguments.path!r} has {len(lines)} lines")
    wanted = lines[first:] if arguments.line_count is None else lines[first : first + arguments.line_count]
    shown, size = 0, 0
    while shown < len(wanted) and size + len(wanted[shown]) <= OUTPUT_LIMIT_BYTES:
        size += len(wanted[shown])
        shown += 1
    text = b"".join(wanted[:shown]).decode(errors="replace")
    if shown == len(wanted):
        return ToolResult(text)
    if shown == 0:
        text = wanted[0][:OUTPUT_LIMIT_BYTES].decode(errors="ignore")
        return ToolResult(f"{text}\n[cut: line {first + 1} alone has {len(wanted[0])} bytes]")
    return ToolResult(
        f"{text}[cut after line {first + shown} of {len(lines)}: read on with first_line {first + shown + 1}]"
    )


def _write(arguments: WriteFile, call: ToolCall) -> ToolResult:
    """Replace or create the file, whole or not at all."""
    content = arguments.content.encode()
    if len(content) > WRITE_LIMIT_BYTES:
        return failed(f"the content has {len(content)} bytes; the limit is {WRITE_LIMIT_BYTES}")
    if call.write_globs and not matches("/".join(split_path(arguments.path)), call.write_globs):
        return failed(f"this agent may write only {', '.join(call.write_globs)}, not {arguments.path!r}")
    is_new = call.workspace.write(arguments.path, content)
    return ToolResult(f"{'created' if is_new else 'replaced'} {arguments.path} ({len(content)} bytes)")


def _list(arguments: ListFiles, call: ToolCall) -> ToolResult:
    """One line a file with its size; directories end in a slash."""
    lines: list[str] = []
    with call.workspace.directory(arguments.path) as descriptor:
        for path, status in walk(descriptor, _WALK_DEPTH_LIMIT if arguments.recursive else 1):
            if arguments.glob and (stat.S_ISDIR(status.st_mode) or not matches(path, (arguments.glob,))):
                continue
            if len(lines) == ENTRIES_LIMIT:
                lines.append(f"[cut after {ENTRIES_LIMIT} entries: list a directory below, or use a glob]")
                break
            lines.append(_entry(path, status))
    if not lines:
        return ToolResult("no file fits" if arguments.glob else "the directory is empty")
    return ToolResult(clean("\n".join(lines)))


def walk(directory: int, depth: int, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Everything below an open directory in name order, following no link, without what tools generate."""
    with os.scandir(directory) as entries:
        names = sorted(entry.name for entry in entries)
    for name in names:
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield prefix + name, status
        if stat.S_ISDIR(status.st_mode) and depth > 1 and name not in _SKIPPED:
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            except OSError:
                continue
            try:
                yield from walk(below, depth - 1, f"{prefix}{name}/")
            finally:
                os.close(below)


def _entry(path: str, status: os.stat_result) -> str:
    if stat.S_ISDIR(status.st_mode):
        return f"{path}/"
    if stat.S_ISLNK(status.st_mode):
        return f"{path} (a link, not followed)"
    return f"{path} ({status.st_size} bytes)"


READ_FILE = Tool(
    name="read_file",
    description="Read a text file of the workspace.",
    side_effect=SideEffect.READ_ONLY,
    arguments=ReadFile,
    blocking=_read,
)
WRITE_FILE = Tool(
    name="write_file",
    description="Create a file of the workspace, or replace its whole content.",
    side_effect=SideEffect.IDEMPOTENT,
    arguments=WriteFile,
    blocking=_write,
)
LIST_FILES = Tool(
    name="list_files",
    description="List the files and directories of the workspace.",
    side_effect=SideEffect.READ_ONLY,
    arguments=ListFiles,
    blocking=_list,
)
