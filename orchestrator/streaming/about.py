"""What an event of the log says of an approval, as far as an inbox must know. Pure."""

from functools import lru_cache
from typing import NamedTuple

import msgspec

from orchestrator.domain.records import Approval


class About(NamedTuple):
    """Which approval, and what happened to it."""

    id: str
    kind: str
    run_id: str
    what: str  # ASKED, VOTED, REMINDED or RESOLVED
    tool: str = ""  # ASKED
    nth: int = 0  # VOTED, REMINDED: how many there are with it


class _Asked(msgspec.Struct):
    id: str
    kind: str
    run_id: str
    tool: str = ""


class _ApprovalRequested(msgspec.Struct):
    approval: _Asked


class _ApprovalResolved(msgspec.Struct):
    approval_id: str
    kind: str
    run_id: str


class _VoteRecorded(_ApprovalResolved):
    votes: int


class _ApprovalReminder(_ApprovalResolved):
    number: int


class _Payload(msgspec.Struct):
    approval_requested: _ApprovalRequested | None = None
    vote_recorded: _VoteRecorded | None = None
    approval_reminder: _ApprovalReminder | None = None
    approval_resolved: _ApprovalResolved | None = None


_decode = msgspec.json.Decoder(_Payload).decode


@lru_cache(256)
def about(payload_json: str) -> About | None:
    """What an event says of an approval; None where it says nothing of one."""
    payload = _decode(payload_json)
    if payload.approval_requested is not None:
        asked = payload.approval_requested.approval
        return About(asked.id, asked.kind, asked.run_id, "ASKED", asked.tool)
    if (voted := payload.vote_recorded) is not None:
        return About(voted.approval_id, voted.kind, voted.run_id, "VOTED", nth=voted.votes)
    if (reminded := payload.approval_reminder) is not None:
        return About(reminded.approval_id, reminded.kind, reminded.run_id, "REMINDED", nth=reminded.number)
    if (resolved := payload.approval_resolved) is not None:
        return About(resolved.approval_id, resolved.kind, resolved.run_id, "RESOLVED")
    return None


class _Requested(msgspec.Struct):
    approval: Approval


class _Whole(msgspec.Struct):
    approval_requested: _Requested


_decode_whole = msgspec.json.Decoder(_Whole).decode


def approval_of(payload_json: str) -> Approval:
    """The approval that an event asks about, as it was asked."""
    return _decode_whole(payload_json).approval_requested.approval


def number_of(approval_id: str) -> int:
    """A UUID as a number: less than half the memory of its text."""
    return int(approval_id.replace("-", ""), 16)
