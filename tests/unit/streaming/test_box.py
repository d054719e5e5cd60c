"""A watcher's box: it wakes for what comes, and says so when nothing came for a while."""

import asyncio

from orchestrator.streaming.feed import Box, Position

POSITION = Position(1, False, "EXECUTION")


async def test_what_comes_ends_the_wait() -> None:
    box = Box(wants_deltas=False)
    waiting = asyncio.create_task(box.wait(3600))
    await asyncio.sleep(0)
    box.move_to(POSITION)
    assert await waiting
    box.close()
    assert box._timer is None


async def test_a_quiet_time_ends_the_wait_and_so_does_the_next() -> None:
    box = Box(wants_deltas=False)
    for _ in range(2):
        assert not await box.wait(0.005)
        box.take()


async def test_the_time_counts_from_the_last_wait() -> None:
    box = Box(wants_deltas=False)
    began = asyncio.get_running_loop().time()
    first = asyncio.create_task(box.wait(0.02))
    await asyncio.sleep(0.01)
    box.move_to(POSITION)
    assert await first
    box.take()
    assert not await box.wait(0.02)
    assert asyncio.get_running_loop().time() - began >= 0.03


async def test_nothing_is_left_running_of_a_box_that_nobody_waits_at() -> None:
    box = Box(wants_deltas=False)
    waiting = asyncio.create_task(box.wait(0.005))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0.02)
    assert box._timer is None
