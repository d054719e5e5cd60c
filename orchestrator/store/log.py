"""Sealing: a change set's events get their numbers, time, exact text and place in the session's hash chain."""

from collections.abc import Sequence

from orchestrator.domain.events import Event, LoggedEvent, chain_hash, event_name
from orchestrator.domain.records import Session
from orchestrator.store.codec import to_json


def seal(session: Session, events: Sequence[Event], *, now: int, trace_id: str = "") -> list[LoggedEvent]:
    """The events as the log holds them, following `session.last_sequence`. Their time is `now`, or the time of
    the event before where a clock went back."""
    time = max(now, session.last_event_time)
    sequence, previous_hash = session.last_sequence, session.last_hash
    sealed = []
    for event in events:
        sequence += 1
        payload = f'{{"{event_name(type(event))}":{to_json(event)}}}'
        link = chain_hash(previous_hash, sequence, time, payload)
        sealed.append(LoggedEvent(session.tenant, session.id, sequence, time, trace_id, payload, link, previous_hash))
        previous_hash = link
    return sealed
