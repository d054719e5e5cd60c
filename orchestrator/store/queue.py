"""What waits to be written, and how batches are cut from it."""

import asyncio
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from orchestrator.store.answers import Answer
from orchestrator.store.batch import Prepared

BATCH_COUNT = 256
BATCH_BYTES = 2 << 20
WORTH_SHARING = 16  # fewer are one batch, even where another committer has nothing to do


@dataclass(slots=True, eq=False)
class Item:
    """One change set on its way. Its caller has gone when `answer` is done before it was settled."""

    prepared: Prepared
    operation: str
    keys: tuple[Hashable, ...]  # the turns it holds
    answer: asyncio.Future[Answer]
    settled: bool = False


class Queue:
    """First in, first out; a batch is whatever is there, bounded by count and bytes."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._filled = asyncio.Event()
        self._takers = 0

    def put(self, item: Item) -> None:
        self._items.append(item)
        self._filled.set()

    async def take(self) -> list[Item]:
        """The next batch, as soon as there is anything; whoever waits for one too gets a fair part."""
        self._takers += 1
        try:
            while not self._items:
                self._filled.clear()
                await self._filled.wait()
            share = max(WORTH_SHARING, -(-len(self._items) // self._takers))
        finally:
            self._takers -= 1
        batch: list[Item] = []
        size = 0
        while self._items and len(batch) < min(share, BATCH_COUNT) and size < BATCH_BYTES:
            item = self._items.popleft()
            batch.append(item)
            size += item.prepared.size
        return batch
