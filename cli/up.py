"""`assent up`: everything on one machine until Ctrl-C, with a word to the person about what happens.

Starting and stopping themselves are in cli/stack.py.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.stack import Stack, StackSettings

LOG_POLL_SECONDS = 0.2
STARTING = "Starting PostgreSQL, orchestrator, executor and gateway …"
LOGS = ("migrate.log", "executor.log", "orchestrator.log", "gateway.log")


async def up(settings: StackSettings, console: Console, *, verbose: bool) -> None:
    """Start everything, say where it listens, stop in order on a signal; a second one stops at once."""
    stopping = asyncio.Event()
    stack = Stack(settings, say=lambda text: console.print(f"[yellow]![/] {escape(text)}"))
    watchers: list[asyncio.Task[None]] = []
    with on_signals(stopping.set):
        if verbose:
            watchers = [asyncio.create_task(_show(stack.logs / name, console)) for name in LOGS]
        console.print(STARTING, style="dim")
        started = await _unless(stopping, stack.start())
        if started:
            announce(stack, console)
            await stopping.wait()
            console.print("stopping …")
    if started:
        stop = asyncio.create_task(stack.stop())
        with on_signals(lambda: stop.cancel()):
            await stop
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    console.print("stopped")


def announce(stack: Stack, console: Console, *, hint: str = "Ctrl-C stops it.") -> None:
    """Say where each service listens and where the data is."""
    settings, pids = stack.settings, stack.pids()
    table = Table.grid(padding=(0, 2))
    rows = [
        ("gRPC", str(settings.grpc_address), f"orchestrator, pid {pids['orchestrator']}"),
        ("HTTP", f"http://{settings.http_address}", f"gateway, pid {pids['gateway']}"),
        ("executor", str(settings.executor_address), f"pid {pids['executor']}"),
        ("database", *_database(stack)),
        *_metrics(stack),
        ("data", str(settings.data_dir), "logs in logs/"),
    ]
    for name, where, what in rows:
        table.add_row(f"  [dim]{name}[/]", f"[bold]{escape(where)}[/]", f"[dim]{escape(what)}[/]")
    console.print(f"[bold green]Assent is up.[/] {hint}".rstrip())
    console.print(table, soft_wrap=True)


def _metrics(stack: Stack) -> list[tuple[str, str, str]]:
    addresses = (stack.settings.metrics_address, stack.settings.executor_metrics_address)
    shown = [f"http://{address}/metrics" for address in addresses if address]
    return [("metrics", url, who) for url, who in zip(shown, ("orchestrator", "executor"), strict=False)]


def _database(stack: Stack) -> tuple[str, str]:
    if stack.settings.database_url:
        return "ASSENT_DATABASE_URL", "your server"
    return str(stack.settings.data_dir / "postgres"), f"embedded PostgreSQL, pid {stack.pids()['PostgreSQL']}"


@contextmanager
def on_signals(act: Callable[[], object]) -> Iterator[None]:
    """Within this, SIGINT, SIGTERM and a closed terminal call `act` instead of ending the process."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for each in signals:
        loop.add_signal_handler(each, act)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


async def _unless(stopping: asyncio.Event, start: Coroutine[None, None, None]) -> bool:
    """Finish `start` unless told to stop first; then it is cancelled, and cleans up by itself."""
    starting = asyncio.ensure_future(start)
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def _show(log: Path, console: Console) -> None:
    """Print what is added to a log from now on, each line under its name."""
    position = _size(log)
    while True:
        lines, position = _read_from(log, position)
        for line in lines:
            console.print(f"[cyan]{log.stem:>12}[/] │ {escape(line)}", soft_wrap=True)
        await asyncio.sleep(LOG_POLL_SECONDS)


def _read_from(log: Path, position: int) -> tuple[list[str], int]:
    """The lines of a log from a position on, and the position after them; a log that shrank is a new one."""
    size = _size(log)
    if size == position:
        return [], position
    with log.open("rb") as file:
        file.seek(position if position < size else 0)
        return file.read().decode(errors="replace").splitlines(), file.tell()


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0
