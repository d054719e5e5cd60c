"""What a screen offers to those who tell a session's story, and the colours. Drawing is in live and plain."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.text import Text

from cli.story import Line
from cli.view import SessionView

TONES = {
    "state": "bold magenta",
    "plan": "cyan",
    "subtask": "bold",
    "tool": "blue",
    "call": "",
    "ok": "green",
    "bad": "red",
    "ask": "bold yellow",
    "notice": "yellow",
    "quiet": "dim",
    "user": "bold",
    "agent": "",
    "added": "green",
    "removed": "red",
    "title": "bold",
}


Show = Callable[[list[Line]], None]


class Screen(Protocol):
    """Shows lines for good and, where it can, the present state until it changes."""

    def show(self, lines: list[Line], sequence: int = 0) -> None:
        """Lines that stay; `sequence` is the event they tell of."""

    def refresh(self, view: SessionView) -> None:
        """The present state of the session."""

    def still(self) -> AbstractContextManager[Show]:
        """A person types: within this only what it gives shows lines, others wait until the end of it."""

    def close(self) -> None:
        """Leave the terminal as it was found."""


def styled(line: Line) -> RenderableType:
    """A line in the colour of its tone; where it is too long, what follows stands under its beginning."""
    text = line.text.lstrip(" ") or " "
    indent = max(0, len(line.text) - len(text))
    return Padding(Text(text, style=TONES.get(line.tone, "")), (0, 0, 0, indent), expand=False)


def print_lines(console: Console, lines: Iterable[Line]) -> None:
    """Lines of a command that follows nothing: styled on a terminal, and elsewhere as they are, never cut."""
    for line in lines:
        if console.is_terminal:
            console.print(styled(line))
        else:
            console.print(line.text, markup=False, soft_wrap=True)
