"""Looking for text in the files of a workspace, within bounds of time, files and matches.

Plain text, not regular expressions: a hostile expression would hold the whole process, and no deadline could
end it.
"""

import os
import stat
import time
from collections.abc import Iterator

from pydantic import Field

from executor.text import clean
from executor.tools.files import READ_LIMIT_BYTES, walk
from executor.tools.globs import matches
from executor.tools.tool import OUTPUT_LIMIT_BYTES, Arguments, SideEffect, Tool, ToolCall, ToolResult
from executor.tools.workspace import PathRefused, Workspace

MATCHES_LIMIT = 200
FILES_LIMIT = 20_000
_SECONDS_LIMIT = 10.0
_DEPTH_LIMIT = 32
_LINE_LIMIT = 300


class SearchFiles(Arguments):
    text: str = Field(min_length=1, max_length=1000, description="The text to look for, as it stands.")
    path: str = Field(".", description="The directory to look in, relative to the workspace.")
    glob: str = Field("", description="Only files that fit this pattern, for example *.dart or lib/**/*.dart.")
    ignore_case: bool = Field(False, description="Whether upper and lower case are the same.")


def _search(arguments: SearchFiles, call: ToolCall) -> ToolResult:
    found: list[str] = []
    size = 0
    for line in _found(arguments, call.workspace):
        size += len(line.encode()) + 1
        if len(found) == MATCHES_LIMIT or size > OUTPUT_LIMIT_BYTES:
            found.append(f"[cut after {len(found)} matches: look for longer text, or use path and glob]")
            break
        found.append(line)
    return ToolResult("\n".join(found) or "nothing found")


def _found(arguments: SearchFiles, workspace: Workspace) -> Iterator[str]:
    wanted = arguments.text.casefold() if arguments.ignore_case else arguments.text
    give_up = time.monotonic() + _SECONDS_LIMIT
    with workspace.directory(arguments.path) as directory:
        for seen, (path, status) in enumerate(walk(directory, _DEPTH_LIMIT)):
            if seen == FILES_LIMIT or time.monotonic() > give_up:
                yield f"[stopped after {seen} files: use path and glob]"
                return
            if not stat.S_ISREG(status.st_mode) or (arguments.glob and not matches(path, (arguments.glob,))):
                continue
            shown = os.path.normpath(os.path.join(arguments.path, path))
            try:
                raw = workspace.read(shown, READ_LIMIT_BYTES)
            except PathRefused:
                continue  # too large, or gone since it was listed
            for number, line in enumerate(_lines(raw), 1):
                if wanted in (line.casefold() if arguments.ignore_case else line):
                    yield f"{clean(shown)}:{number}: {line.strip()[:_LINE_LIMIT]}"


def _lines(raw: bytes) -> list[str]:
    return [] if b"\x00" in raw else raw.decode(errors="replace").splitlines()


SEARCH_FILES = Tool(
    name="search_files",
    description="Find lines that contain a text in the files of the workspace.",
    side_effect=SideEffect.READ_ONLY,
    arguments=SearchFiles,
    blocking=_search,
)
