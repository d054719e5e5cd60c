"""The screen for files, pipes and logs: lines, without colours, state or cursor."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from cli.screen import Show
from cli.story import Line
from cli.view import SessionView


class PlainScreen:
    """For files, pipes and logs: each line once, after the number of its event."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held: list[tuple[list[Line], int]] | None = None

    def show(self, lines: list[Line], sequence: int = 0) -> None:
        if self._held is not None:
            self._held.append((lines, sequence))
        else:
            self._print(lines, sequence)

    def refresh(self, view: SessionView) -> None:
        """A file has no present."""

    @contextmanager
    def still(self) -> Iterator[Show]:
        self._held = []
        try:
            yield self._print
        finally:
            held, self._held = self._held, None
            for lines, sequence in held:
                self._print(lines, sequence)

    def close(self) -> None:
        """Nothing was taken."""

    def _print(self, lines: list[Line], sequence: int = 0) -> None:
        number = f"{sequence:>4}" if sequence else "    "
        for line in lines:
            self._console.print(f"{number}  {line.text}", markup=False, soft_wrap=True)
