"""Reading what a world left: its tables, at any time and without its knowing, and what statements wrote."""

import hashlib
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from orchestrator.domain.change import Change
from orchestrator.domain.events import GrantChanged, LoggedEvent
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.records import Step, Workspace
from orchestrator.domain.starting import Place, World
from orchestrator.store import codec, snapshots
from orchestrator.store.statement import FENCE
from tests.simulator.catalog import new_catalog
from tests.simulator.history import Key, Rows, Written
from tests.simulator.physical import Physical

_FENCE = {name: at for at, (name, _) in enumerate(FENCE)}
_EVENTS = """SELECT tenant, session_id, sequence, event_time, trace_id, payload_json, hash, previous_hash
FROM event ORDER BY session_id, sequence"""


def is_batch(result: Any) -> bool:
    """Whether these are the answers of the statement that writes change sets."""
    return (
        isinstance(result, list) and bool(result) and isinstance(result[0], asyncpg.Record) and "outcome" in result[0]
    )


def written_by(time: float, by: str, args: Sequence[Any], replies: Sequence[asyncpg.Record]) -> list[Written]:
    """What became of each change set of a batch."""

    def given(name: str, at: int) -> Any:
        return args[_FENCE[name]][at]

    return [
        Written(
            time,
            by,
            given("id", at),
            given("expected_sequence", at),
            given("owner", at),
            given("epoch", at),
            given("claim_for", at),
            given("release", at),
            reply["outcome"],
            reply["epoch"],
            reply["last_sequence"],
        )
        for reply in sorted(replies, key=lambda reply: int(reply["n"]))
        for at in [reply["n"] - 1]
    ]


class Evidence:
    """Looks at the tables beside everybody, while the world stands still."""

    def __init__(self, physical: Physical) -> None:
        self._physical = physical

    def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        connection = self._physical.take(())
        try:
            rows: list[asyncpg.Record] = self._physical.run(connection.fetch(query, *args))
            return rows
        finally:
            self._physical.give_back((), connection)

    def rows(self) -> Rows:
        rows = Rows()
        for stored in codec.CODECS.values():
            kept: list[Any] = getattr(rows, f"{stored.table.name}s")
            query = f"SELECT body FROM {stored.table.name} ORDER BY id"
            kept += [stored.decode(row["body"]) for row in self.fetch(query)]
        for row in self.fetch("SELECT * FROM session ORDER BY id"):
            rows.sessions.append(codec.decode_session({**row, "labels": msgspec.json.decode(row["labels"])}))
        for row in self.fetch("SELECT caller, request_id, answer_json FROM request ORDER BY request_id"):
            rows.requests.append((row["caller"], row["request_id"], row["answer_json"]))
        for row in self.fetch("SELECT session_id, sha256, data FROM content"):
            rows.contents.add((row["session_id"], hashlib.sha256(row["data"]).hexdigest()))
        for row in self.fetch(_EVENTS):
            rows.logs[row["session_id"]].append(LoggedEvent(*row.values()))
        return rows

    def running(self) -> int:
        """Of the one tenant."""
        return int(self.fetch("SELECT count(*) FROM run WHERE state = 'RUNNING'")[0]["count"])

    def miscounted(self) -> list[str]:
        """The tenant's counter, where it is not the number of its RUNNING runs."""
        counted = self.fetch("SELECT used FROM counter WHERE name = 'running'")
        return [
            f"{row['used']} are counted, {self.running()} are RUNNING"
            for row in counted
            if row["used"] != self.running()
        ]

    def still_due(self, key: Key, now: int) -> list[str]:
        """What the engine's rules would do in the session, from the rows alone."""
        connection = self._physical.take(())
        try:
            snapshot = self._physical.run(snapshots.load(connection, *key))
        finally:
            self._physical.give_back((), connection)
        if snapshot is None:
            return []
        change = Change(snapshot, now, lambda: "an-id")
        catalog = new_catalog()
        reconcile(change, World(catalog, _anywhere))
        due = [event for event in change.events if not _is_found_when_looked_at(event)]
        return [f"session {key[1]}: {event!r}"[:300] for event in due]


def _is_found_when_looked_at(event: object) -> bool:
    """That a grant has run out is written down whenever somebody looks: nobody does for its sake."""
    return isinstance(event, GrantChanged) and event.trigger == "expired"


def _anywhere(step: Step, workspace: Workspace) -> Place:
    return Place("any", "any")
