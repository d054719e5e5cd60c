"""Which paths of a workspace globs name, and which a call names.

What an agent's globs name is the same that the executor, which looks again, would allow.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import accumulate
from operator import or_
from typing import Any

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


def is_elsewhere(path: str) -> bool:
    """Whether nobody can say from the path alone where in the workspace it leads."""
    is_root = not path.startswith("/") and all(part in ("", ".") for part in path.split("/"))
    return not is_root and not names_of(path)


def as_named(path: str) -> str:
    """Without what a directory's name may end with."""
    return _TRAILING.sub("", path) or path


_TRAILING = re.compile(r"(?:/+\.?)+$")


# Arguments that name paths, by the last word of their name.
_PATH_WORDS = frozenset(("path", "file", "filename", "directory", "dir", "folder", "cwd", "source", "destination"))
_PLURALS = {"paths": "path", "files": "file", "filenames": "filename", "directories": "directory", "dirs": "dir"}
_LAST_WORD = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+)$")
_FILE_NAME = re.compile(r"[fF]ile_?[nN]ame(s?)$")


def path_arguments(arguments: Mapping[str, Any]) -> list[str]:
    """The paths that a call's arguments name, however deep: what stands under `path`, `files`, `sourceDirectory` …"""
    found: list[str] = []
    left: list[tuple[bool, Any]] = [(False, arguments)]
    while left:
        named, value = left.pop()
        if isinstance(value, str):
            if named:
                found.append(as_named(value))
        elif isinstance(value, list):
            left += [(named, item) for item in reversed(value)]
        elif isinstance(value, dict):
            if named and not any(map(_names_paths, value)):  # {"files": {"a.txt": …}} names its paths by keys
                found += map(as_named, value)
            left += [(_names_paths(key), item) for key, item in reversed(value.items())]
    return found


def _names_paths(key: str) -> bool:
    last = _LAST_WORD.search(_FILE_NAME.sub(r"_filename\1", key))
    word = last[0].lower() if last else ""
    return _PLURALS.get(word, word) in _PATH_WORDS
