"""While a run is paused nothing of it starts, and what is closed stays closed; judged by the log."""

import json
from collections.abc import Iterator

from tests.simulator.history import History

_BEGINNINGS = ("run_started", "step_started", "message_created", "plan_drafted", "run_queued")


def check_control(history: History) -> Iterator[str]:
    for session_id, log in history.rows.logs.items():
        paused: set[str] = set()
        closed = False
        for event in log:
            ((name, body),) = json.loads(event.payload_json).items()
            where = f"session {session_id}, event {event.sequence}"
            if name == "run_state_changed":
                paused.discard(body["run_id"])
                if body["to_state"] == "PAUSED":
                    paused.add(body["run_id"])
            elif name == "step_started" and body["run_id"] in paused:
                yield f"{where}: a step of run {body['run_id']} started while it was paused"
            elif name == "session_closed":
                closed = True
            if closed and name in _BEGINNINGS:
                yield f"{where}: {name} after the session was closed"
