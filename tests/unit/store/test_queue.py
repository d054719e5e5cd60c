"""Batches are what is there, in order, bounded, and shared among those who wait for one."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.store.queue import BATCH_BYTES, BATCH_COUNT, WORTH_SHARING, Item, Queue


def an_item(size: int = 1) -> Item:
    """Only its size matters to the queue."""
    return Item(cast(Any, SimpleNamespace(size=size)), "test", (), asyncio.get_running_loop().create_future())


async def test_a_batch_is_everything_there_in_the_order_it_came() -> None:
    queue, items = Queue(), [an_item() for _ in range(100)]
    for item in items:
        queue.put(item)
    assert await queue.take() == items


async def batch_size(queue: Queue) -> int:
    """Of a batch that is taken and written at once."""
    size = len(await queue.take())
    queue.done()
    return size


async def test_a_batch_is_bounded_by_count_and_by_bytes() -> None:
    queue = Queue()
    for _ in range(BATCH_COUNT + 10):
        queue.put(an_item())
    assert [await batch_size(queue) for _ in range(2)] == [BATCH_COUNT, 10]
    for _ in range(5):
        queue.put(an_item(BATCH_BYTES // 2))
    assert [await batch_size(queue) for _ in range(3)] == [2, 2, 1]
    queue.put(an_item(10 * BATCH_BYTES))
    assert await batch_size(queue) == 1


async def test_two_who_wait_share_what_comes_if_it_is_worth_it() -> None:
    queue = Queue()
    takers = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    for _ in range(3 * WORTH_SHARING):
        queue.put(an_item())
    assert [len(batch) for batch in await asyncio.gather(*takers)] == [WORTH_SHARING * 3 // 2] * 2
    queue.done()
    queue.done()
    one, other = (asyncio.create_task(queue.take()) for _ in range(2))
    await asyncio.sleep(0)
    for _ in range(WORTH_SHARING):
        queue.put(an_item())
    assert len(await one) == WORTH_SHARING
    assert not other.done()
    other.cancel()


async def test_few_wait_for_the_committer_that_is_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.queue.PATIENCE_SECONDS", 3600)
    queue = Queue()
    queue.put(an_item())
    await queue.take()
    other = asyncio.create_task(queue.take())
    queue.put(an_item())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not other.done()
    queue.done()
    assert len(await queue.take()) == 1
    other.cancel()


async def test_many_do_not_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.queue.PATIENCE_SECONDS", 3600)
    queue = Queue()
    queue.put(an_item())
    await queue.take()
    other = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    for _ in range(WORTH_SHARING):
        queue.put(an_item())
    assert len(await other) == WORTH_SHARING


async def test_nobody_waits_for_a_committer_that_stays_away() -> None:
    queue = Queue()
    queue.put(an_item())
    await queue.take()
    queue.put(an_item())
    assert len(await queue.take()) == 1
