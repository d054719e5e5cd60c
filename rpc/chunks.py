"""How frames travel between orchestrator and executor: as many in one message as fit, the large ones in chunks.

Both ends cut and put together in the same way, in bounded memory. What a frame says is not known here.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from gen.assent.executor.v1.frames_pb2 import ExecutorFrame, FrameChunk, OrchestratorFrame

BATCH_BYTES = 256 * 1024
CHUNK_BYTES = 192 * 1024
FRAME_BYTES = 16 * 1024 * 1024
UNFINISHED_BYTES = 4 * FRAME_BYTES
UNFINISHED_LIMIT = 256  # frames
_ENVELOPE_BYTES = 8  # a frame's own, in its message

F = TypeVar("F", OrchestratorFrame, ExecutorFrame)


def batches(frames: Iterable[F]) -> Iterator[list[F]]:
    """The frames in messages of a bounded size, in order; one that is too large is cut into chunks."""
    batch: list[F] = []
    size = 0
    for frame in frames:
        whole = frame.ByteSize() + _ENVELOPE_BYTES
        for part in [frame] if whole <= BATCH_BYTES else _chunks(frame):
            length = whole if part is frame else CHUNK_BYTES
            if batch and size + length > BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += length
    if batch:
        yield batch


def _chunks(frame: F) -> Iterator[F]:
    data = frame.SerializeToString()
    for index, begin in enumerate(range(0, len(data), CHUNK_BYTES)):
        end = begin + CHUNK_BYTES
        chunk = FrameChunk(index=index, data=data[begin:end], last=end >= len(data))
        yield type(frame)(step_id=frame.step_id, epoch=frame.epoch, dispatch_number=frame.dispatch_number, chunk=chunk)


class BadChunk(ValueError):
    """The other end's chunks make no frame."""


class Assembly:
    """Puts the chunks of one stream together again."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int, int], list[bytes]] = {}
        self._bytes = 0

    def add(self, frame: OrchestratorFrame | ExecutorFrame) -> bytes | None:
        """A frame that is a chunk: the bytes of the whole one, if this was the last of it. Raises BadChunk."""
        key, chunk = (frame.step_id, frame.epoch, frame.dispatch_number), frame.chunk
        parts = self._parts.setdefault(key, [])
        if chunk.index != len(parts):
            raise BadChunk(f"chunk {chunk.index} of step {frame.step_id} came, and chunk {len(parts)} was due")
        parts.append(chunk.data)
        self._bytes += len(chunk.data)
        size = sum(map(len, parts))
        if size > FRAME_BYTES:
            raise BadChunk(f"a frame of step {frame.step_id} is larger than {FRAME_BYTES} bytes")
        if self._bytes > UNFINISHED_BYTES or len(self._parts) > UNFINISHED_LIMIT:
            raise BadChunk("too many frames are unfinished")
        if not chunk.last:
            return None
        del self._parts[key]
        self._bytes -= size
        return b"".join(parts)
