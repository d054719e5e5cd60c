"""A signal, or the death of what must live, ends a process in order."""

import asyncio
import os
import signal

import pytest

from rpc.shutdown import run_until_signal


async def started(runner: "asyncio.Task[None]") -> None:
    """Until the runner has installed its handlers: the default SIGTERM would end the tests."""
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        assert not runner.done()
        await asyncio.sleep(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_runs_the_stops_in_order_and_restores_the_handlers(number: signal.Signals) -> None:
    stopped: list[str] = []

    async def stop(name: str) -> None:
        await asyncio.sleep(0)
        stopped.append(name)

    before = signal.getsignal(signal.SIGTERM)
    runner = asyncio.create_task(run_until_signal(lambda: stop("server"), lambda: stop("engine")))
    await started(runner)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(runner, 10)
    assert stopped == ["server", "engine"]
    assert signal.getsignal(signal.SIGTERM) == before


async def test_second_signal_ends_the_waiting() -> None:
    stopping = asyncio.Event()
    cancelled: list[bool] = []

    async def never() -> None:
        stopping.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    runner = asyncio.create_task(run_until_signal(never))
    await started(runner)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stopping.wait(), 10)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(runner, 10)
    assert cancelled == [True]


async def test_stops_that_take_longer_than_the_limit_are_given_up() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    finished = asyncio.create_task(asyncio.sleep(0))
    await asyncio.wait_for(run_until_signal(never, tasks=(finished,), limit=0.01), 10)


async def test_task_that_dies_stops_the_process_and_is_its_error() -> None:
    stopped: list[bool] = []

    async def engine() -> None:
        raise RuntimeError("the engine died")

    async def stop() -> None:
        stopped.append(True)

    with pytest.raises(RuntimeError, match="the engine died"):
        await asyncio.wait_for(run_until_signal(stop, tasks=(asyncio.create_task(engine()),)), 10)
    assert stopped == [True]


async def test_stop_that_fails_does_not_keep_the_later_ones_from_running() -> None:
    stopped: list[str] = []

    async def fails() -> None:
        raise OSError("the port would not close")

    async def stop() -> None:
        stopped.append("engine")

    finished = asyncio.create_task(asyncio.sleep(0))
    with pytest.raises(OSError, match="the port would not close"):
        await asyncio.wait_for(run_until_signal(fails, stop, tasks=(finished,)), 10)
    assert stopped == ["engine"]
