"""The terminal we were started on: which screen fits it, and asking the person there for a line."""

import asyncio
import sys

from rich.console import Console

from cli.live import LiveScreen
from cli.plain import PlainScreen
from cli.screen import Screen


def new_console() -> Console:
    """Standard output; ids and paths stay as they are, uncoloured, to be found and copied."""
    return Console(highlight=False)


def has_person() -> bool:
    """Whether somebody can read and answer here."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def new_screen(console: Console, *, plain: bool = False) -> Screen:
    """Live on a terminal, plain lines anywhere else or on request."""
    return LiveScreen(console) if console.is_terminal and not plain else PlainScreen(console)


async def ask(prompt: str) -> str:
    """One line from the person. Can be cancelled: a blocked read in a thread could not."""
    print(prompt, end="", flush=True)
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin, read)
    try:
        typed = await line
    finally:
        loop.remove_reader(sys.stdin)
    if not typed:
        raise EOFError
    return typed
