"""What a person is shown before deciding: the exact plan, arguments or change of a file. Pure lines.

All of it comes from the approval itself; a file's old content, where this machine has it, only makes a diff of it.
"""

import difflib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from cli.story import Line
from cli.words import one_line, plural, printable, state_of
from gen.assent.v1.approval_pb2 import APPROVAL_KIND_IN_DOUBT, APPROVAL_KIND_PLAN, Approval

OldText = Callable[[str], str | None]
"""From a path in the session's workspace to what the file holds now; None when that is not known here."""

SHORT = 24
"""How many lines are shown unasked."""


def no_old_text(_path: str) -> str | None:
    """For clients that do not see the workspace."""
    return None


def old_text_in(directory: Path) -> OldText:
    """The files of a workspace on this machine; a path that leads out of it is never read."""

    def old_text(path: str) -> str | None:
        file = (directory / path).resolve()
        if PurePosixPath(path).is_absolute() or not file.is_relative_to(directory.resolve()):
            return None
        try:
            return file.read_text() if file.is_file() else ""
        except (OSError, UnicodeDecodeError):
            return None

    return old_text


def preview(approval: Approval, old_text: OldText = no_old_text, limit: int = SHORT) -> list[Line]:
    """What would happen if this were approved, cut to `limit` lines; 0 shows all of it."""
    shown = approval.preview
    lines = [Line(f"  agent {printable(shown.agent)}", "quiet")] if shown.agent else []
    if shown.reason:
        who = "" if approval.kind == APPROVAL_KIND_IN_DOUBT else "policy: "
        lines.append(Line(f"  {who}{printable(shown.reason)}", "quiet"))
    if shown.agent_words:
        first, *rest = printable(shown.agent_words).splitlines()
        lines.append(Line(f"  the model says (its own words, not verified): {first}", "quiet"))
        lines += [Line(f"  | {line}", "quiet") for line in rest[: limit or None]]
    body = _body(approval, old_text)
    if limit and len(body) > limit:
        hidden = len(body) - limit
        body = [*body[:limit], Line(f"  … {plural(hidden, 'more line')}", "quiet")]
    if shown.truncated:
        body.append(Line("  … and more than is shown: read the whole before you decide", "ask"))
    return lines + body


def _body(approval: Approval, old_text: OldText) -> list[Line]:
    shown = approval.preview
    if shown.path and (shown.new_text or approval.tool == "write_file"):
        return _diff(shown.path, old_text(shown.path), shown.new_text)
    text = shown.text or approval.arguments_json
    tone = "plan" if approval.kind == APPROVAL_KIND_PLAN else "call"
    return [Line(f"  {line}", tone) for line in printable(text).splitlines()]


def _diff(path: str, old: str | None, new: str) -> list[Line]:
    name = printable(path)
    if not old:
        what = "new file" if old == "" else "would hold"
        added = [Line(f"  + {line}", "added") for line in printable(new).splitlines()]
        return [Line(f"  {name}: {what}, {plural(len(new.encode()), 'byte')}", "call"), *added]
    before, after = printable(old).splitlines(), printable(new).splitlines()
    changes = difflib.unified_diff(before, after, lineterm="", n=2)
    tones = {"+": "added", "-": "removed", "@": "quiet"}
    body = [Line(f"  {line}", tones.get(line[:1], "call")) for line in list(changes)[2:]]
    return [Line(f"  {name}: {plural(len(new.encode()), 'byte')}", "call"), *body]


def question(approval: Approval) -> Line:
    """The approval on one line."""
    return Line(f"{state_of(approval, 'kind')}: {title(approval)}", "ask")


def title(approval: Approval) -> str:
    """What it is about, in a few words."""
    return one_line(approval.preview.title or approval.tool)
