"""What the writer answers about a change set."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import asyncpg

from orchestrator.domain.change import ChangeSet, Request
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Session


class Outcome(StrEnum):
    """What became of a change set; everything but WRITTEN wrote nothing."""

    WRITTEN = "written"
    STALE = "stale"  # the session has moved on: reload and decide again
    FENCED = "fenced"  # another epoch holds the session, or a live owner does that the claim would rob
    BUSY = "busy"  # the session's row was locked; never leaves the writer, which tries again
    DUPLICATE = "duplicate"  # the request was answered before: `Answer.request` is what was stored
    OVER = "over"  # a limit would be passed, or others of the tenant wait for room and come first
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


def answer_of(change_set: ChangeSet, events: Sequence[LoggedEvent], reply: asyncpg.Record) -> Answer:
    """The answer that the writing statement's `reply` amounts to."""
    outcome = Outcome(reply["outcome"])
    row = (reply["last_sequence"], reply["epoch"], reply["owner"])
    match outcome:
        case Outcome.WRITTEN:
            session = _as_written(change_set.session, events, reply)
            return Answer(outcome, session, tuple(events), *row)
        case Outcome.DUPLICATE if change_set.request is not None:
            return Answer(outcome, None, (), *row, _as_stored(change_set.request, reply))
        case _:
            return Answer(outcome, None, (), *row)


def _as_written(session: Session, events: Sequence[LoggedEvent], reply: asyncpg.Record) -> Session:
    last = events[-1] if events else None
    return replace(
        session,
        last_sequence=reply["last_sequence"],
        last_hash=last.hash if last else session.last_hash,
        last_event_time=last.event_time if last else session.last_event_time,
        epoch=reply["epoch"],
        owner=reply["owner"],
    )


def _as_stored(request: Request, reply: asyncpg.Record) -> Request:
    return replace(
        request,
        method=reply["stored_method"],
        fingerprint=reply["stored_fingerprint"],
        answer_json=reply["stored_answer_json"],
        create_time=reply["stored_create_time"],
    )


class PoisonedChangeSet(Exception):
    """The database refuses this change set's data by itself, whatever it is written with: a defect of ours."""
