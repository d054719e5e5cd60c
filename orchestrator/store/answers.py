"""What the writer answers about a change set."""

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.change import Request
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session


class Outcome(StrEnum):
    """What became of a change set; everything but WRITTEN wrote nothing."""

    WRITTEN = "written"
    STALE = "stale"  # the session has moved on: reload and decide again
    FENCED = "fenced"  # another epoch holds the session, or a live owner does that the claim would rob
    BUSY = "busy"  # the session's row was locked; never leaves the writer, which tries again
    DUPLICATE = "duplicate"  # the request was answered before: `Answer.request` is what was stored
    OVER = "over"  # a shared counter's limit would be passed
    ABSENT = "absent"  # there is no such session
    UNCHANGED = "unchanged"  # the waiting path's decision was to do nothing


@dataclass(frozen=True, slots=True)
class Answer:
    """`last_sequence`, `epoch` and `owner` are the session row's own, as far as one was seen (else 0, 0, "").

    When WRITTEN, `session` is the session as it now is and `events` are what it logged.
    """

    outcome: Outcome
    session: Session | None = None
    events: tuple[LoggedEvent, ...] = ()
    last_sequence: int = 0
    epoch: int = 0
    owner: str = ""
    request: Request | None = None


class PoisonedChangeSet(Exception):
    """The database refuses this change set's data by itself, whatever it is written with: a defect of ours."""
