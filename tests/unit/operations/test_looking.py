"""Looking at a write: a diff against the file as it is then, and never a longer wait for it than a moment."""

import asyncio
import json
from dataclasses import replace
from typing import Any, cast

import pytest

from orchestrator.domain.differing import FileNow
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.records import Approval, Preview, Workspace
from orchestrator.operations import looking
from orchestrator.operations.looking import MOST_FILES, MOST_KEPT, Looking
from orchestrator.store.database import Database

NEW = "new\n"


def a_write(number: int = 1, path: str = "a.txt", **fields: Any) -> Approval:
    arguments = json.dumps({"path": path, "content": NEW})
    shown = Preview(f"Write {path}", NEW, path, NEW)
    asked = Approval("t", f"a{number}", "session", "run", "TOOL_CALL", "digest", step_id="step", preview=shown)
    return replace(asked, **{"tool": "write_file", "arguments_json": arguments, **fields})


class Sessions:
    """The database, as far as it is asked."""

    is_away = False

    async def fetch(self, query: str, tenants: list[str], ids: list[str]) -> list[dict[str, str]]:
        if self.is_away:
            raise StorageUnavailable("away")
        body = json.dumps({"workspace": {"root_id": "root", "directory": "here"}})
        return [{"tenant": t, "id": i, "body": body} for t, i in zip(tenants, ids, strict=True) if i == "session"]


class Disk:
    """What an executor reads."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.never: asyncio.Event | None = None  # it does not answer

    async def read(self, workspace: Workspace, path: str, most_bytes: int, seconds: float) -> FileNow | None:
        assert (workspace, most_bytes) == (Workspace("root", "here"), 1024 * 1024)
        self.asked.append(path)
        if self.never is not None and path.startswith("slow"):
            await self.never.wait()
        return None if path.startswith("unknown") else FileNow(self.files.get(path))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def sessions() -> Sessions:
    return Sessions()


@pytest.fixture
def look(disk: Disk, sessions: Sessions) -> Looking:
    return Looking(cast(Database, sessions), disk.read)


async def test_a_write_is_compared_with_what_is_there_when_somebody_looks(look: Looking, disk: Disk) -> None:
    disk.files["a.txt"] = b"old\n"
    [shown] = await look.at([a_write()])
    assert shown.preview.format == "DIFF"
    assert shown.preview.text.split("\n")[2:] == ["@@ -1 +1 @@", "-old", "+new"]
    assert (shown.preview.new_text, shown.preview.title) == (NEW, "Write a.txt")


async def test_a_moment_later_the_file_is_read_again(
    look: Looking, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await look.at([a_write()])
    await look.at([a_write()])
    assert disk.asked == ["a.txt"]
    monkeypatch.setattr(looking, "KEPT_SECONDS", 0.0)
    disk.files["a.txt"] = b"changed\n"
    [shown] = await look.at([a_write()])
    assert "-changed" in shown.preview.text


async def test_another_approval_is_not_shown_what_was_made_for_one(look: Looking, disk: Disk) -> None:
    await look.at([a_write()])
    [other] = await look.at([a_write(2, path="b.txt")])
    assert "+++ b/b.txt" in other.preview.text


@pytest.mark.parametrize(
    "approval",
    [
        a_write(state="RESOLVED"),
        a_write(session_id="gone"),
        a_write(path="unknown.txt"),
        a_write(tool="run_command", arguments_json='{"command": "ls"}', preview=Preview("Run: ls", "ls")),
        a_write(kind="PLAN", step_id="", preview=Preview("A plan", "text")),
        a_write(arguments_json='{"path": "a.txt", "content": 5}'),
    ],
)
async def test_whatever_cannot_be_compared_is_shown_as_it_was_asked(look: Looking, approval: Approval) -> None:
    assert await look.at([approval]) == [approval]


async def test_without_the_database_it_is_shown_as_it_was_asked(look: Looking, sessions: Sessions) -> None:
    sessions.is_away = True
    assert await look.at([a_write()]) == [a_write()]


async def test_who_does_not_answer_in_time_is_not_waited_for_and_the_others_are_shown(
    look: Looking, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "READ_SECONDS", 0.05)
    disk.never = asyncio.Event()
    slow, quick = a_write(1, "slow.txt"), a_write(2)
    first, second = await look.at([slow, quick])
    assert first == slow
    assert (second.id, second.preview.format) == (quick.id, "DIFF")


async def test_few_files_are_read_for_one_page_and_few_are_kept(
    look: Looking, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "READ_SECONDS", 30.0)
    page = [a_write(n, f"{n}.txt") for n in range(200)]
    shown = await look.at(page)
    assert [a.id for a in shown] == [a.id for a in page]
    assert sum(a.preview.format == "DIFF" for a in shown) == len(disk.asked) == MOST_FILES
    for begin in range(0, 200, MOST_FILES):
        await look.at(page[begin : begin + MOST_FILES])
    assert len(look._kept) == MOST_KEPT
