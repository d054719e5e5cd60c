"""Which paths of a workspace an agent's globs name: the same that the executor, which looks again, would allow."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import accumulate
from operator import or_

_ANY_DIRECTORIES = "**"


def names_of(path: str) -> tuple[str, ...]:
    """The directories and the file a relative path names; empty for one that leads elsewhere or names no file."""
    if path.startswith(("/", "~")) or "\\" in path or "\x00" in path or path[1:2] == ":":
        return ()
    parts = path.split("/")
    if ".." in parts or parts[-1] in ("", "."):
        return ()
    return tuple(name for name in parts if name not in ("", "."))


def fits(path: str, globs: Iterable[str]) -> bool:
    """Whether any glob names the path: `*` stops at a slash, `**` does not; a glob without a slash fits anywhere."""
    names = names_of(path)
    return bool(names) and any(_fits(names, _parts(glob)) for glob in globs)


def _parts(glob: str) -> list[str]:
    parts = glob.strip("/").split("/")
    return parts if len(parts) > 1 else [_ANY_DIRECTORIES, *parts]


def _fits(names: tuple[str, ...], parts: list[str]) -> bool:
    reached = [True] + [False] * len(names)  # reached[n]: the parts so far fit the first n names
    for part in parts:
        if part == _ANY_DIRECTORIES:
            reached = list(accumulate(reached, or_))
        else:
            reached = [False, *(ok and fnmatchcase(name, part) for ok, name in zip(reached, names, strict=False))]
    return reached[-1]
