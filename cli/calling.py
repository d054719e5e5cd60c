"""How a command runs: to its end or a signal, in the caller's name, against a server."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from cli import options
from cli.client import Client
from cli.health import reachable
from cli.trouble import ExitCode

caller: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("caller", default=())
"""The metadata of each call: who asks, as the options before the command's name said."""


def run_to_end(command: Coroutine[Any, Any, object]) -> None:
    """Run a command to its end; SIGTERM ends it as orderly as Ctrl-C does."""

    async def main() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await command

    try:
        asyncio.run(main())
    except (asyncio.CancelledError, KeyboardInterrupt, EOFError):
        sys.exit(ExitCode.INTERRUPTED)


def ask(server: str, command: Callable[[Client], Coroutine[Any, Any, object]]) -> None:
    """Run a command that speaks to a server."""

    async def speak() -> None:
        async with Client(str(reachable(options.address(server))), caller.get()) as client:
            await command(client)

    run_to_end(speak())
