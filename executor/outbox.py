"""What one stream has still to say: collected as it happens, taken in batches by the stream's writer.

Nobody waits to speak. A reader that does not keep up loses deltas first; outcomes are never dropped, and a stream
whose reader has stopped altogether is cut by its servicer: the outcomes are in the ledger.
"""

import asyncio
from collections.abc import Iterator

from executor.models.model import Delta
from executor.steps import Progress, Ref, Said
from executor.wire import frame
from gen.assent.executor.v1 import frames_pb2 as pb

_DELTAS_LIMIT_BYTES = 1024 * 1024
_FRAMES_LIMIT = 100_000
_ROOM_BYTES = 1024 * 1024
# Of the event loop: by then a step that has nothing to wait for has run and ended, and its outcome travels along.
_TURNS_TO_END = 2

Entry = tuple[Ref, Said] | pb.ExecutorFrame


class Outbox:
    """The frames that wait for one stream's writer; a Listener."""

    def __init__(self) -> None:
        self._waiting: list[Entry] = []
        self._delta_bytes = 0
        self._artifact_bytes = 0
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self.is_closed = False

    @property
    def is_flooded(self) -> bool:
        """Whether the other side has stopped reading."""
        return len(self._waiting) > _FRAMES_LIMIT

    def tell(self, ref: Ref, said: Said) -> None:
        """Say what became of a step; deltas are dropped while too many wait."""
        if isinstance(said, Delta | Progress):
            if self._delta_bytes > _DELTAS_LIMIT_BYTES:
                return
            self._delta_bytes += len(said.text if isinstance(said, Delta) else said.message)
        self._waiting.append((ref, said))
        self._something.set()

    def add(self, ready: pb.ExecutorFrame) -> None:
        """Say something that is about no step."""
        self._waiting.append(ready)
        self._something.set()

    async def add_bytes(self, ready: pb.ExecutorFrame) -> None:
        """Add a part of a file, waiting while many bytes wait to be sent."""
        await self._room.wait()
        self._artifact_bytes += len(ready.artifact_chunk.data)
        if self._artifact_bytes > _ROOM_BYTES:
            self._room.clear()
        self.add(ready)

    def wake(self) -> None:
        """Let the writer look, though nothing was said."""
        self._something.set()

    def close(self) -> None:
        """Say nothing more than what waits."""
        self.is_closed = True
        self._something.set()

    async def take(self) -> list[pb.ExecutorFrame]:
        """Everything that waits, once something does; possibly nothing after `wake` or `close`."""
        await self._something.wait()
        for _ in range(_TURNS_TO_END):
            await asyncio.sleep(0)
        self._something.clear()
        waiting, self._waiting = self._waiting, []
        self._delta_bytes = self._artifact_bytes = 0
        self._room.set()
        return [each if isinstance(each, pb.ExecutorFrame) else frame(*each) for each in _joined(waiting)]


def _joined(waiting: list[Entry]) -> Iterator[Entry]:
    """The same, with neighbouring deltas of one kind joined: a slow reader gets fewer and longer ones."""
    last: Entry | None = None
    texts: list[str] = []
    for entry in waiting:
        if last is not None and texts and _continues(last, entry):
            texts.append(_text(entry))
            continue
        if last is not None:
            yield _with_text(last, texts)
        last, texts = entry, [text] if (text := _text(entry)) else []
    if last is not None:
        yield _with_text(last, texts)


def _continues(before: Entry, after: Entry) -> bool:
    match before, after:
        case (ref, Delta(kind=kind, call_id=call)), (next_ref, Delta(kind=next_kind, call_id=next_call)):
            return (ref, kind, call) == (next_ref, next_kind, next_call)
        case (ref, Progress()), (next_ref, Progress()):
            return bool(ref == next_ref)
        case _:
            return False


def _text(entry: Entry) -> str:
    match entry:
        case (_, Delta(text=text)) | (_, Progress(message=text)):
            return text
        case _:
            return ""


def _with_text(entry: Entry, texts: list[str]) -> Entry:
    if len(texts) < 2 or isinstance(entry, pb.ExecutorFrame):
        return entry
    ref, said = entry
    text = "".join(texts)
    if isinstance(said, Delta):
        return ref, Delta(said.kind, text, said.call_id, said.tool)
    return ref, Progress(text)
