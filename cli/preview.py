"""What a person is shown before deciding, as the server made it, in lines. Pure.

Nothing is rendered here: the lines are cut, toned and made safe once more, should a server be of an older version.
"""

from cli.answering import hint_of
from cli.story import Line
from cli.words import one_line, plural, printable, state_of
from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_IN_DOUBT,
    APPROVAL_KIND_PLAN,
    APPROVAL_KIND_QUESTION,
    PREVIEW_FORMAT_DIFF,
    Approval,
)

SHORT = 24
"""How many lines are shown unasked."""


def preview(approval: Approval, limit: int = SHORT) -> list[Line]:
    """What would happen if this were approved, cut to `limit` lines; 0 shows all of it."""
    shown = approval.preview
    whose = "by" if approval.kind == APPROVAL_KIND_PLAN else "agent"  # a plan may be a person's
    lines = [Line(f"  {whose} {printable(shown.agent)}", "quiet")] if shown.agent else []
    if shown.reason:
        who = "" if approval.kind == APPROVAL_KIND_IN_DOUBT else "policy: "
        lines.append(Line(f"  {who}{printable(shown.reason)}", "quiet"))
    if shown.agent_words:
        first, *rest = printable(shown.agent_words).splitlines()
        lines.append(Line(f"  the model says (its own words, not verified): {first}", "quiet"))
        lines += [Line(f"  | {line}", "quiet") for line in rest[: limit or None]]
    body = _body(approval)
    if limit and len(body) > limit:
        hidden = len(body) - limit
        body = [*body[:limit], Line(f"  … {plural(hidden, 'more line')}", "quiet")]
    if shown.truncated:
        body.append(Line("  … and more than is shown: read the whole before you decide", "ask"))
        body += [] if limit else [Line(f"  {line}", "call") for line in printable(approval.arguments_json).splitlines()]
    if approval.kind == APPROVAL_KIND_QUESTION:
        body = [*body, Line(f"  the answer: {hint_of(approval)}", "quiet")]
    return lines + body


def _body(approval: Approval) -> list[Line]:
    shown = approval.preview
    if shown.format == PREVIEW_FORMAT_DIFF:
        return _diff(printable(shown.text).split("\n"), printable(shown.path))
    if shown.path:
        held = [Line(f"  + {line}", "added") for line in printable(shown.new_text).splitlines()]
        return [Line(f"  {printable(shown.path)}: would hold", "call"), *held]
    text = shown.text or approval.arguments_json
    tone = "plan" if approval.kind == APPROVAL_KIND_PLAN else "call"
    return [Line(f"  {line}", tone) for line in printable(text).splitlines()]


def _diff(lines: list[str], path: str) -> list[Line]:
    """Without its head, which says only whether there is a file."""
    what = "new file" if lines[0] == "--- /dev/null" else "changes" if len(lines) > 2 else "holds exactly this already"
    tones = {"+": "added", "-": "removed", "@": "quiet", "\\": "quiet"}
    body = [Line(f"  {line}", tones.get(line[:1], "call")) for line in lines[2:]]
    return [Line(f"  {path}: {what}", "call"), *body]


def question(approval: Approval) -> Line:
    """The approval on one line."""
    return Line(f"{state_of(approval, 'kind')}: {title(approval)}", "ask")


def title(approval: Approval) -> str:
    """What it is about, in a few words."""
    return one_line(approval.preview.title or approval.tool)
