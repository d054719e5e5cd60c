"""How frames travel: together as far as one message takes them, large ones in chunks that are put together again.

Both in bounded memory. What a frame says is frames.py's part.
"""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from gen.assent.executor.v1 import frames_pb2

MAX_BATCH_BYTES = 256 * 1024
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_UNFINISHED_BYTES = 4 * MAX_FRAME_BYTES
MAX_UNFINISHED = 1024  # frames


def batches(frames: Iterable[frames_pb2.OrchestratorFrame]) -> Iterable[list[frames_pb2.OrchestratorFrame]]:
    """Frames in order, cut so that no message is over MAX_BATCH_BYTES; larger frames travel in chunks."""
    batch: list[frames_pb2.OrchestratorFrame] = []
    size = 0
    for frame in frames:
        for part in _parts(frame):
            part_size = part.ByteSize() + 8
            if batch and size + part_size > MAX_BATCH_BYTES:
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += part_size
    if batch:
        yield batch


def _parts(frame: frames_pb2.OrchestratorFrame) -> Iterable[frames_pb2.OrchestratorFrame]:
    if frame.ByteSize() <= MAX_BATCH_BYTES:
        yield frame
        return
    data = frame.SerializeToString()
    pieces = [data[i : i + MAX_BATCH_BYTES] for i in range(0, len(data), MAX_BATCH_BYTES)]
    for index, piece in enumerate(pieces):
        chunk = frames_pb2.FrameChunk(index=index, data=piece, last=index == len(pieces) - 1)
        yield frames_pb2.OrchestratorFrame(
            step_id=frame.step_id, epoch=frame.epoch, dispatch_number=frame.dispatch_number, chunk=chunk
        )


class Nonsense(Exception):
    """What came over the stream is no frame of the contract."""


class Assembly:
    """Puts the executor's chunked frames together again, in bounded memory."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int, int], list[bytes]] = {}
        self._bytes = 0

    def whole(self, frame: frames_pb2.ExecutorFrame) -> frames_pb2.ExecutorFrame | None:
        """The frame itself, the frame that its last chunk completes, or None. Raises Nonsense."""
        if frame.WhichOneof("frame") != "chunk":
            return frame
        key, chunk = (frame.step_id, frame.epoch, frame.dispatch_number), frame.chunk
        parts = self._parts.get(key, [])
        if chunk.index != len(parts):
            raise Nonsense(f"chunk {chunk.index} follows {len(parts)} chunks of step {frame.step_id}")
        parts.append(chunk.data)
        self._parts[key] = parts
        self._bytes += len(chunk.data)
        size = sum(map(len, parts))
        if size > MAX_FRAME_BYTES or self._bytes > MAX_UNFINISHED_BYTES or len(self._parts) > MAX_UNFINISHED:
            raise Nonsense(f"the chunks of step {frame.step_id} are too many")
        if not chunk.last:
            return None
        del self._parts[key]
        self._bytes -= size
        try:
            return frames_pb2.ExecutorFrame.FromString(b"".join(parts))
        except DecodeError:
            raise Nonsense(f"the chunks of step {frame.step_id} make no frame") from None
