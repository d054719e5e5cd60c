"""Waits end when their time is up, each in its turn, and cost nothing once they are done."""

import asyncio
import weakref

import pytest

from orchestrator.store.patience import Patience


def a_wait() -> asyncio.Future[str]:
    return asyncio.get_running_loop().create_future()


async def test_a_wait_ends_when_its_time_is_up() -> None:
    patience, wait = Patience(0.01), a_wait()
    patience.bound(wait)
    with pytest.raises(TimeoutError):
        await wait


async def test_what_is_done_is_left_as_it_is_and_what_follows_still_ends() -> None:
    patience, answered, left, waiting = Patience(0.01), a_wait(), a_wait(), a_wait()
    for wait in (answered, left, waiting):
        patience.bound(wait)
    answered.set_result("in time")
    left.cancel()
    with pytest.raises(TimeoutError):
        await waiting
    assert await answered == "in time"
    assert left.cancelled()


async def test_waits_that_begin_later_end_later() -> None:
    patience = Patience(0.01)
    waits = [a_wait() for _ in range(3)]
    ended: list[asyncio.Future[str]] = []
    for wait in waits:
        wait.add_done_callback(ended.append)
        patience.bound(wait)
        await asyncio.sleep(0.002)
    await asyncio.wait(waits)
    assert ended == waits
    assert [type(wait.exception()) for wait in waits] == [TimeoutError] * 3


async def test_nothing_is_kept_of_what_is_done() -> None:
    patience, goes_on = Patience(3600), a_wait()
    patience.bound(goes_on)
    answered = a_wait()
    patience.bound(answered)
    answered.set_result("at once")
    kept = weakref.ref(answered)
    del answered
    assert kept() is None
    goes_on.cancel()
    patience.bound(last := a_wait())
    assert len(patience._waits) == 1
    patience.close()
    assert not last.done()


async def test_nothing_ends_after_it_was_closed() -> None:
    patience, wait = Patience(0), a_wait()
    patience.bound(wait)
    patience.close()
    await asyncio.sleep(0.005)
    assert not wait.done()
