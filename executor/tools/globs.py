"""Which paths a pattern names: agents' file limits, and filters. Walking files is elsewhere."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_ANY_DIRECTORIES = "**"


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a relative path with slashes fits any of the patterns.

    `*`, `?` and `[…]` stop at a slash, a `**` between slashes does not; a pattern without a slash names files
    in any directory.
    """
    names = path.split("/")
    return any(_fits(names, _parts(pattern)) for pattern in patterns)


def _parts(pattern: str) -> list[str]:
    parts = pattern.strip("/").split("/")
    return parts if len(parts) > 1 else [_ANY_DIRECTORIES, *parts]


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    # All positions in the pattern at once: however many `**` somebody writes, the time stays proportional.
    positions = _with_skipped({0}, parts)
    for name in names:
        positions = _with_skipped(
            {
                at if parts[at] == _ANY_DIRECTORIES else at + 1
                for at in positions
                if at < len(parts) and (parts[at] == _ANY_DIRECTORIES or fnmatchcase(name, parts[at]))
            },
            parts,
        )
    return len(parts) in positions


def _with_skipped(positions: set[int], parts: Sequence[str]) -> set[int]:
    reached = set(positions)
    for at in sorted(positions):
        while at < len(parts) and parts[at] == _ANY_DIRECTORIES:
            at += 1
            reached.add(at)
    return reached
