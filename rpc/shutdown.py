"""From SIGTERM or SIGINT to an orderly stop. What is stopped, and in which order, is each process's list."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import structlog

Stop = Callable[[], Awaitable[object]]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger("rpc")


async def run_until_signal(
    *stops: Stop,
    tasks: tuple["asyncio.Task[object]", ...] = (),
    limit: float = 30,
) -> None:
    """Wait for SIGTERM, SIGINT or the end of one of `tasks`, then run `stops` in order.

    The stops share `limit` seconds; a second signal ends the waiting at once. A stop that fails does not keep the
    later ones from running. What a stop or one of `tasks` failed with is raised at the end: a process without its
    engine must not look alive.
    """
    loop = asyncio.get_running_loop()
    asked, insisted = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (insisted if asked.is_set() else asked).set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)
    try:
        waiting = asyncio.create_task(asked.wait())
        await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        asked.set()
        _log.info("stopping")
        await _run_in_order(stops, insisted, limit)
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()


async def _run_in_order(stops: tuple[Stop, ...], insisted: asyncio.Event, limit: float) -> None:
    stopping = asyncio.create_task(_run_each(stops))
    insisting = asyncio.create_task(insisted.wait())
    await asyncio.wait({stopping, insisting}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
    insisting.cancel()
    if stopping.done():
        stopping.result()
        return
    _log.warning("stopped_early", asked_twice=insisted.is_set())
    stopping.cancel()
    await asyncio.wait({stopping}, timeout=1)


async def _run_each(stops: tuple[Stop, ...]) -> None:
    errors: list[BaseException] = []
    for stop in stops:
        running = asyncio.ensure_future(stop())
        try:
            await asyncio.wait({running})
        finally:
            running.cancel()
        error = None if running.cancelled() else running.exception()
        if error is not None:
            _log.error("stop_failed", exc_info=error)
            errors.append(error)
    if errors:
        raise errors[0]
