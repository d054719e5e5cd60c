"""Every session's log is gapless, in order and chained, stands where its row says, and is what its watchers saw."""

from collections.abc import Iterator

from orchestrator.domain.events import chain_hash
from orchestrator.domain.records import FIRST_HASH
from tests.simulator.history import History


def check_logs(history: History) -> Iterator[str]:
    for session in history.rows.sessions:
        previous, time = FIRST_HASH, 0
        log = history.rows.logs.get(session.id, [])
        for number, event in enumerate(log, start=1):
            where = f"session {session.id}, event {number}"
            if event.sequence != number:
                yield f"{where} has the sequence {event.sequence}"
                break
            if event.previous_hash != previous:
                yield f"{where} does not follow the event before it"
            if event.hash != chain_hash(previous, number, event.event_time, event.payload_json):
                yield f"{where} does not have the hash of its content"
            if event.event_time < time:
                yield f"{where} is earlier than the event before it"
            previous, time = event.hash, event.event_time
        if (session.last_sequence, session.last_hash) != (len(log), previous):
            yield f"session {session.id} stands at {session.last_sequence}, its log at {len(log)}"
    for session_id in history.rows.logs.keys() - {session.id for session in history.rows.sessions}:
        yield f"session {session_id} has a log and no row"


def check_views(history: History) -> Iterator[str]:
    """A watcher saw every event once, in order; at rest it has seen all."""
    for view in history.views:
        log = history.rows.logs.get(view.session_id, [])
        where = f"a watcher of session {view.session_id}"
        for number, (sequence, payload) in enumerate(view.events, start=view.after + 1):
            if sequence != number:
                yield f"{where} saw {sequence} where {number} was next"
                break
            if number > len(log) or log[number - 1].payload_json != payload:
                yield f"{where} saw an event {number} that the log does not have"
                break
        else:
            if not history.unrest and view.after + len(view.events) < len(log):
                yield f"{where} saw {view.after + len(view.events)} of {len(log)} events"
