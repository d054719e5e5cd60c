"""What waits to be written, and how batches are cut from it."""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from orchestrator.store.answers import Answer
from orchestrator.store.batch import Prepared

BATCH_COUNT = 256
BATCH_BYTES = 2 << 20
WORTH_SHARING = 32  # fewer are one batch, even where another committer has nothing to do
PATIENCE_SECONDS = 0.005  # how long fewer wait for the committer that is writing, before the other one takes them


@dataclass(slots=True, eq=False)
class Item:
    """One change set on its way. Its caller has gone when `answer` is done before it was settled."""

    prepared: Prepared
    operation: str
    keys: tuple[Hashable, ...]  # the turns it holds
    answer: asyncio.Future[Answer]
    settled: bool = False


class Queue:
    """First in, first out; a batch is whatever is there, bounded by count and bytes.

    A batch costs as much as several change sets, so few of them are left to the committer that is writing, for when
    it comes back: the other one takes them only when they have become many, or it stays away.
    """

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._worthy = asyncio.Event()  # it may be worth looking again: there are many, or a committer came back
        self._takers = 0
        self._writing = 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._filled.set()
        if len(self._items) >= WORTH_SHARING:
            self._worthy.set()

    async def take(self) -> list[Item]:
        """The next batch; whoever waits for one too gets a fair part. To be followed by `done`."""
        self._takers += 1
        try:
            await self._something_worthy()
            share = max(WORTH_SHARING, -(-len(self._items) // self._takers))
        finally:
            self._takers -= 1
        batch: list[Item] = []
        size = 0
        while self._items and len(batch) < min(share, BATCH_COUNT) and size < BATCH_BYTES:
            item = self._items.popleft()
            batch.append(item)
            size += item.prepared.size
        self._writing += 1
        return batch

    def done(self) -> None:
        """The batch that was taken has been written, or will never be."""
        self._writing -= 1
        self._worthy.set()

    async def _something_worthy(self) -> None:
        patient = True
        while not self._items or (patient and self._writing and len(self._items) < WORTH_SHARING):
            if not self._items:
                self._filled.clear()
                await self._filled.wait()
                patient = True
                continue
            self._worthy.clear()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._worthy.wait()
            except TimeoutError:
                patient = False
