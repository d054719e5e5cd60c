"""Looking at what waits: a write is shown as a diff against the file as it is now, where that can be read at once.

What is stored of an approval never changes for it, and nobody waits longer for the inbox: where no executor answers in
time, the whole new text is shown.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from orchestrator.domain.differing import FileNow, as_diff
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Key, Preview, Workspace
from orchestrator.domain.showing import written
from orchestrator.domain.states import ApprovalState
from orchestrator.store import queries
from orchestrator.store.database import Database

READ_SECONDS = 0.3
MOST_FILE_BYTES = 1024 * 1024
MOST_FILES = 16
KEPT_SECONDS = 2.0
MOST_KEPT = 64

ReadFile = Callable[[Workspace, str, int, float], Awaitable[FileNow | None]]
"""The file at a path as it is now, of at most so many bytes, in at most so many seconds; None: that is not known."""


class Looking:
    """One a replica. What was just made is shown again to whoever looks within a moment."""

    def __init__(self, database: Database, read: ReadFile) -> None:
        self._database = database
        self._read = read
        self._kept: dict[Key, tuple[float, Preview]] = {}
        self._places = asyncio.Semaphore(MOST_FILES)

    async def at(self, approvals: Sequence[Approval]) -> list[Approval]:
        """The same approvals, in the same order, as they are to be shown now."""
        writes = [approval for approval in approvals if _is_open_write(approval)]
        if not writes:
            return list(approvals)
        previews = {_key(a): kept for a in writes if (kept := self._just_made(a)) is not None}
        if unmade := [a for a in writes if _key(a) not in previews][:MOST_FILES]:
            previews |= await self._made(unmade)
        return [replace(a, preview=previews.get(_key(a), a.preview)) for a in approvals]

    def _just_made(self, approval: Approval) -> Preview | None:
        made_at, preview = self._kept.get(_key(approval), (0.0, None))
        return preview if time.monotonic() - made_at < KEPT_SECONDS else None

    async def _made(self, writes: Sequence[Approval]) -> dict[Key, Preview]:
        """Those whose files did not come in time are left out."""
        try:
            workspaces = await queries.workspaces_of(self._database, {(a.tenant, a.session_id) for a in writes})
        except StorageUnavailable:
            return {}
        making = {
            _key(a): asyncio.create_task(self._make(a, workspace))
            for a in writes
            if (workspace := workspaces.get((a.tenant, a.session_id))) is not None and workspace.directory
        }
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                await asyncio.gather(*making.values())
        made = {key: task.result() for key, task in making.items() if task.done() and not task.cancelled()}
        return {key: preview for key, preview in made.items() if preview is not None}

    async def _make(self, approval: Approval, workspace: Workspace) -> Preview | None:
        write = written(approval.tool, approval.arguments_json)
        if write is None:
            return None
        path, content = write
        async with self._places:
            now = await self._read(workspace, path, MOST_FILE_BYTES, READ_SECONDS)
            if now is None:
                return None
            preview = await asyncio.to_thread(as_diff, approval.preview, path, content, now)
        self._keep(_key(approval), preview)
        return preview

    def _keep(self, key: Key, preview: Preview) -> None:
        self._kept.pop(key, None)
        self._kept[key] = time.monotonic(), preview
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]


def _key(approval: Approval) -> Key:
    return approval.tenant, approval.id


def _is_open_write(approval: Approval) -> bool:
    return approval.state == ApprovalState.PENDING and bool(approval.step_id and approval.preview.path)
