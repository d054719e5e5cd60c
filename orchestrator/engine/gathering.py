"""Reading the files that a session's subtasks are to leave, and keeping their bytes, while its worker goes on.

Nothing here is remembered: what is wanted is said anew at each look, and what a worker had begun is begun again by the
next. Bytes are kept before anything speaks of them; those that nothing comes to speak of go with their session.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.expected import MOST_BYTES, Checked, check_bytes, path_of
from orchestrator.domain.reading import FoundFile, Gathered, Reading
from orchestrator.domain.records import ExpectedArtifact, Key, Workspace
from orchestrator.engine.files import FileRefused, Files, NobodyReads

_log = structlog.get_logger("orchestrator.engine")

AT_ONCE = 2  # files in this replica's memory
READ_SECONDS = 60.0
AGAIN_SECONDS = 1.0
MOST_INLINE_BYTES = 64 * 1024  # larger ones, and those with a schema, are checked in a thread: nobody waits for that


class Contents(Protocol):
    """Where the bytes of artifacts are kept."""

    async def keep_content(self, tenant: str, session_id: str, checked: Checked, data: bytes) -> None:
        """Once for the same bytes. Raises StorageUnavailable."""


class Gatherer:
    """Reads for all sessions of a replica, a few files at once."""

    def __init__(self, files: Files, contents: Contents) -> None:
        self._files = files
        self._contents = contents
        self._places = asyncio.Semaphore(AT_ONCE)

    async def gather(self, key: Key, reading: Reading) -> Gathered:
        """Every file of it, each as it is at one moment. Raises NobodyReads and StorageUnavailable."""
        found = []
        for expected in reading.expected:
            async with self._places:
                found.append(await self._find(key, reading.workspace, expected))
        return Gathered(reading.subtask_id, reading.answer_id, tuple(found))

    async def _find(self, key: Key, workspace: Workspace, expected: ExpectedArtifact) -> FoundFile:
        try:
            path = path_of(expected)
            data = await self._files.read(workspace, path, most_bytes=MOST_BYTES, seconds=READ_SECONDS)
        except FileRefused as refusal:
            return FoundFile(expected, None, str(refusal))
        if len(data) <= MOST_INLINE_BYTES and not expected.schema_json:
            checked = check_bytes(expected, data)
        else:
            checked = await asyncio.to_thread(check_bytes, expected, data)
        await self._contents.keep_content(*key, checked, data)
        return FoundFile(expected, checked)


class Readings:
    """What is being read for one session. `wake` is called when there is something to look at."""

    def __init__(self, key: Key, gatherer: Gatherer, wake: Callable[[], None]) -> None:
        self._key = key
        self._gatherer = gatherer
        self._wake = wake
        self._tasks: dict[tuple[str, str], asyncio.Task[Gathered | None]] = {}  # by subtask and answer

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def want(self, reads: Mapping[str, Reading]) -> None:
        """These and no others; what is under way goes on."""
        wanted = {(r.subtask_id, r.answer_id): r for r in reads.values()}
        for each in self._tasks.keys() - wanted.keys():
            self._tasks.pop(each).cancel()
        for each in wanted.keys() - self._tasks.keys():
            self._tasks[each] = asyncio.create_task(self._read(wanted[each]))
            self._tasks[each].add_done_callback(lambda _: self._wake())

    def done(self) -> list[Gathered]:
        """What has been read, until it is settled; what could not be is forgotten, to be wanted again."""
        results = {each: task.result() for each, task in self._tasks.items() if task.done()}
        for each in [each for each, result in results.items() if result is None]:
            del self._tasks[each]
        return [result for result in results.values() if result is not None]

    def settle(self, gathered: list[Gathered]) -> None:
        """These are in the ledger, or came too late for it."""
        for each in gathered:
            self._tasks.pop((each.subtask_id, each.answer_id), None)

    def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    async def _read(self, reading: Reading) -> Gathered | None:
        try:
            return await self._gatherer.gather(self._key, reading)
        except (NobodyReads, StorageUnavailable) as error:
            _log.warning("artifacts were not read", subtask_id=reading.subtask_id, reason=str(error))
            await asyncio.sleep(AGAIN_SECONDS)
            return None
