"""Reading files of workspaces through the executors that offer them: whole or not at all, bounded in bytes and time.

Nothing is kept here and nothing is decided; a read leaves no trace but the bytes in its caller's hands.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable
from uuid import UUID

from gen.assent.executor.v1 import frames_pb2, step_pb2
from orchestrator.domain.records import Workspace

AT_ONCE = 8  # from one executor; it breaks the stream of whoever asks for more than twice as many

Send = Callable[[str, frames_pb2.OrchestratorFrame], None]  # an address, and what goes there if it is connected


class FileRefused(Exception):
    """There is no such file, it may not be read, or it is larger than was asked for; the text says which."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.missing = missing


class NobodyReads(Exception):
    """No executor that offers the workspace answered in time: the same may well succeed later."""


class _Read:
    """One file on its way."""

    def __init__(self, address: str, path: str, most_bytes: int) -> None:
        self.address = address
        self.path = path
        self.most_bytes = most_bytes
        self.data = bytearray()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(self, chunk: frames_pb2.ArtifactChunk) -> None:
        if self.answer.done():  # nobody waits for it any more
            return
        if chunk.error:
            self.answer.set_exception(FileRefused(chunk.error, missing=chunk.missing))
            return
        if chunk.offset != len(self.data) or len(self.data) + len(chunk.data) > self.most_bytes:
            self.answer.set_exception(NobodyReads(f"the bytes of {self.path!r} came out of order"))
            return
        self.data += chunk.data
        if not chunk.last:
            return
        if chunk.size_bytes > self.most_bytes:
            words = f"{self.path!r} has {chunk.size_bytes} bytes; the limit is {self.most_bytes}"
            self.answer.set_exception(FileRefused(words))
        elif chunk.size_bytes != len(self.data) or chunk.sha256 != hashlib.sha256(self.data).hexdigest():
            self.answer.set_exception(NobodyReads(f"the bytes of {self.path!r} did not arrive as they were sent"))
        else:
            self.answer.set_result(bytes(self.data))


class Files:
    """`who_reads` names the address of an executor that offers a root, or none."""

    def __init__(self, who_reads: Callable[[str], str], send: Send) -> None:
        self._who_reads = who_reads
        self._send = send
        self._reads: dict[str, _Read] = {}
        self._count = 0  # the id of a read means something on its stream only
        self._places = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(AT_ONCE))

    def may_read(self, workspace: Workspace) -> bool:
        """Whether an executor that offers the workspace's root is connected."""
        return bool(self._who_reads(workspace.root_id))

    async def read(self, workspace: Workspace, path: str, *, most_bytes: int, seconds: float) -> bytes:
        """The whole file at `path` in the workspace, as it is at one moment.

        Call it from any coroutine of this replica, never inside a transaction: `most_bytes` is at least 1, and a larger
        file is refused; `seconds` bounds the whole of it, waiting for a turn included. Raises FileRefused, which is
        an answer, and NobodyReads, which says nothing of the file.
        """
        address = self._who_reads(workspace.root_id)
        try:
            async with asyncio.timeout(seconds):
                await self._places[address].acquire()
                return await self._ask(_Read(address, path, most_bytes), workspace)
        except TimeoutError:
            raise NobodyReads(f"the executor at {address} did not answer in {seconds:g} s") from None

    async def _ask(self, read: _Read, workspace: Workspace) -> bytes:
        """Its place is taken until the executor has said all: also when nobody waits for it any more."""
        if not read.address or read.address != self._who_reads(workspace.root_id):  # perhaps by now
            self._places[read.address].release()
            raise NobodyReads(f"no executor offers the workspace root {workspace.root_id!r} now")
        self._count += 1
        read_id = str(UUID(int=self._count))
        self._reads[read_id] = read
        asked = frames_pb2.ReadArtifact(
            workspace=step_pb2.StepWorkspace(root_id=workspace.root_id, directory=workspace.directory),
            path=read.path,
            length=read.most_bytes,
        )
        self._send(read.address, frames_pb2.OrchestratorFrame(step_id=read_id, read_artifact=asked))
        return await read.answer

    def receive(self, frame: frames_pb2.ExecutorFrame) -> None:
        """A frame with an `artifact_chunk`."""
        read = self._reads.get(frame.step_id)
        if read is None:
            return
        read.take(frame.artifact_chunk)
        if frame.artifact_chunk.last:
            self._end(frame.step_id)

    def left(self, address: str) -> None:
        """The stream to this address is broken: what was on its way does not come."""
        for read_id, read in [(i, r) for i, r in self._reads.items() if r.address == address]:
            self._end(read_id)
            if not read.answer.done():
                read.answer.set_exception(NobodyReads(f"the stream to the executor at {address} broke"))

    def _end(self, read_id: str) -> None:
        read = self._reads.pop(read_id)
        self._places[read.address].release()
