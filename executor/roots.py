"""The workspace roots of this executor and their ids: executors that share a volume find the same id in it."""

import os
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_ID_FILE = ".assent-root"


def open_roots(paths: Iterable[Path]) -> dict[str, Path]:
    """The roots by id, each made if it is missing."""
    roots: dict[str, Path] = {}
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
        roots[_id_of(path)] = path.resolve()
    return roots


def _id_of(root: Path) -> str:
    """The id in the root itself; the first executor there makes one up."""
    file = root / _ID_FILE
    if not file.exists():
        mine = root / f"{_ID_FILE}.{os.getpid()}"
        mine.write_text(f"{uuid.uuid4()}\n")
        with suppress(FileExistsError):
            os.link(mine, file)
        mine.unlink()
    return str(uuid.UUID(file.read_text().strip()))
