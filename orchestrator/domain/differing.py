"""A write as a diff against a file as it is now. Pure; reading the file is not done here.

Whoever is asked sees what would change at the moment they look; the digest stays over what will be written. The work is
bounded: texts that differ too much for that are shown as one change of all that differs.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import Match, SequenceMatcher

from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Preview
from orchestrator.domain.visible import MOST_BYTES, cut, visible, visible_line

MOST_STEPS = 400_000
CONTEXT = 3
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class FileNow:
    """A file as it was when it was read; None: there is none."""

    content: bytes | None


def as_diff(preview: Preview, path: str, new: str, now: FileNow) -> Preview:
    """The preview of a write with the diff for its text; as it is where the file holds no text."""
    old = _text_of(now.content) if now.content is not None else ""
    if old is None:
        return preview
    text, is_cut = _fitting(_unified(path, old, new, is_new=now.content is None))
    return replace(preview, text=text, format="DIFF", truncated=preview.truncated or is_cut)


def _fitting(lines: Iterator[str]) -> tuple[str, bool]:
    """As much of the lines as a preview holds; what would be cut is not even made."""
    kept: list[str] = []
    room = MOST_BYTES
    for line in lines:
        kept.append(line)
        room -= len(line.encode()) + 1
        if room < 0:
            break
    text = "\n".join(kept)
    shown = cut(text)
    return shown, shown != text or next(lines, None) is not None


def _text_of(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _unified(path: str, old: str, new: str, *, is_new: bool) -> Iterator[str]:
    """The lines of a unified diff, each of them visible."""
    before, after = _LINE.findall(old), _LINE.findall(new)
    name = visible_line(path)
    yield "--- /dev/null" if is_new else f"--- a/{name}"
    yield f"+++ b/{name}"
    if before == after:
        return
    for group in _Matched(before, after).get_grouped_opcodes(CONTEXT):
        first, last = group[0], group[-1]
        yield f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@"
        for kind, a, b, c, d in group:
            if kind == "equal":
                yield from _marked(" ", before[a:b])
                continue
            yield from _marked("-", before[a:b])
            yield from _marked("+", after[c:d])


def _range(begin: int, end: int) -> str:
    """Lines as diffs count them: from 1, and from the line before where there are none."""
    count = end - begin
    return f"{begin + 1}" if count == 1 else f"{begin + 1 if count else begin},{count}"


def _marked(mark: str, lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield mark + visible(line.removesuffix("\n"))
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


class _Matched(SequenceMatcher[str]):
    """The library's grouping of changes over matches that are found in bounded time: its own search is not."""

    def __init__(self, before: list[str], after: list[str]) -> None:
        super().__init__(None, (), (), autojunk=False)
        self.a, self.b = before, after
        self._blocks = [*_matches(before, after), Match(len(before), len(after), 0)]

    def get_matching_blocks(self) -> list[Match]:
        return self._blocks


def _matches(before: list[str], after: list[str]) -> Iterator[Match]:
    """What both have, in order: the beginning, what is found between, the end."""
    shorter = min(len(before), len(after))
    head = 0
    while head < shorter and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < shorter - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    if head:
        yield Match(0, 0, head)
    numbers: dict[str, int] = {}
    a, b = (
        [numbers.setdefault(line, len(numbers)) for line in lines[head : len(lines) - tail]]
        for lines in (before, after)
    )
    for x, y, size in _between(a, b):
        yield Match(head + x, head + y, size)
    if tail:
        yield Match(len(before) - tail, len(after) - tail, tail)


def _between(a: list[int], b: list[int]) -> list[tuple[int, int, int]]:
    """The runs that a shortest edit leaves alone (Myers, "An O(ND) difference algorithm", 1986); none where finding it
    takes too many steps."""
    steps = MOST_STEPS
    furthest = {1: 0}
    trace: list[dict[int, int]] = []
    for edits in range(len(a) + len(b) + 1):
        trace.append(dict(furthest))
        steps -= len(furthest)
        for k in range(-edits, edits + 1, 2):
            down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            begun = x
            while x < len(a) and x - k < len(b) and a[x] == b[x - k]:
                x += 1
            furthest[k] = x
            steps -= 1 + x - begun
            if x >= len(a) and x - k >= len(b):
                return _kept(trace, len(a), len(b))
            if steps < 0:
                return []
    return []


def _kept(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int, int]]:
    """The way back from the end: its diagonals."""
    runs: list[tuple[int, int, int]] = []
    for edits in range(len(trace) - 1, -1, -1):
        furthest, k = trace[edits], x - y
        down = k == -edits or (k != edits and furthest[k - 1] < furthest[k + 1])
        from_k = k + 1 if down else k - 1
        from_x = furthest[from_k] if edits else 0
        begun = (from_x if down else from_x + 1) if edits else 0
        if x > begun:
            runs.append((begun, begun - k, x - begun))
        x, y = from_x, from_x - from_k
    return runs[::-1]
