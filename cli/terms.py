"""Who may decide an approval, how many must, and how long it waits, in words. Pure lines."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from cli.story import Line
from cli.words import one_line, plural, state_of
from gen.assent.v1.approval_pb2 import APPROVAL_KIND_PLAN, Approval

_THEN = {
    "HALT": "then the run is paused, and the same is asked again",
    "DENY": "then it is refused",
    "ESCALATE": "then it is asked of",
}


def terms_of(approval: Approval, now: datetime) -> list[Line]:
    """What is to be known of a question beside what it is about; nothing where anybody may answer at any time."""
    terms, lines = approval.terms, []
    if terms.roles or terms.requester_excluded:
        may = " or ".join(map(one_line, terms.roles)) or "anybody"
        lines.append(f"may decide: {may}{_excluded(approval)}")
    if terms.quorum > 1:
        voters = ", ".join(f"{one_line(vote.voter)} {state_of(vote, 'action')}" for vote in approval.votes)
        lines.append(f"votes: {votes_of(approval)}{f' ({voters})' if voters else ''}")
    if approval.HasField("expire_time"):
        then = _THEN.get(state_of(terms, "on_expiry"), "")
        others = f" {' or '.join(map(one_line, terms.escalation_roles))}" if terms.escalation_roles else ""
        when = approval.expire_time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M UTC")
        lines.append(f"expires {when} ({left(approval.expire_time, now)}), {then}{others}")
    if approval.reminders:
        lines.append(f"{plural(approval.reminders, 'reminder')} so far")
    if approval.earlier_approval_id:
        lines.append(f"asked again, after {approval.earlier_approval_id}")
    return [Line(f"  {line}", "quiet") for line in lines]


def _excluded(approval: Approval) -> str:
    if not approval.terms.requester_excluded:
        return ""
    author = approval.preview.agent if approval.kind == APPROVAL_KIND_PLAN else ""
    wrote = f" or wrote the plan ({one_line(author)})" if author not in ("", approval.requester) else ""
    return f", but not who asked for it ({one_line(approval.requester)}){wrote}"


def in_short(approval: Approval, now: datetime) -> str:
    """The same for a list: how many have said yes, and how long there is left."""
    parts = [votes_of(approval)] if approval.terms.quorum > 1 else []
    if approval.HasField("expire_time"):
        parts.append(left(approval.expire_time, now))
    return f"  [{', '.join(parts)}]" if parts else ""


def votes_of(approval: Approval) -> str:
    return f"{len(approval.votes)} of {approval.terms.quorum}"


def left(time: Timestamp, now: datetime) -> str:
    """How long until then."""
    wait = time.ToDatetime(UTC) - now
    if wait <= timedelta():
        return "time is up"
    minutes = wait.total_seconds() / 60
    if minutes < 1:
        return f"{wait.total_seconds():.0f}s left"
    if minutes < 90:
        return f"{minutes:.0f}m left"
    return f"{minutes / 60:.0f}h left" if minutes < 48 * 60 else f"{minutes / 1440:.0f}d left"
