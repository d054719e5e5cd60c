"""Sessions as this replica last wrote them, kept for the next command on them, which so need not load them. No I/O.

They may be outdated. A change that was decided on one is as good as any, for the write compares sequences; a refusal,
or that there is nothing to do, is not.
"""

from collections.abc import Iterable
from typing import TypeVar

from orchestrator.domain.records import Approval, Artifact, Attempt, Plan, Step, Subtask, is_open
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.snapshots import LATEST_MESSAGES

T = TypeVar("T", Plan, Subtask, Attempt, Step, Approval, Artifact)
Key = tuple[str, str]  # tenant, session id

MOST_CHARACTERS = 16_000_000
ROW_CHARACTERS = 1_500  # what a row takes beside its long texts, roughly


class Kept:
    """What was kept last; beyond MOST_CHARACTERS what was kept first goes."""

    def __init__(self) -> None:
        self._snapshots: dict[Key, tuple[Snapshot, int]] = {}
        self._characters = 0

    def put(self, snapshot: Snapshot) -> None:
        """Whoever gives it does not use it any more. One that somebody owns, or is to take on, is not worth keeping."""
        session = snapshot.session
        self.forget(session.tenant, session.id)
        if session.owner or session.runnable:
            return
        kept = as_loaded(snapshot)
        self._snapshots[session.tenant, session.id] = kept, (size := _size(kept))
        self._characters += size
        while self._characters > MOST_CHARACTERS:
            self.forget(*next(iter(self._snapshots)))

    def take(self, tenant: str, session_id: str) -> Snapshot | None:
        """For one decision, which changes it: it is kept no longer."""
        snapshot, size = self._snapshots.pop((tenant, session_id), (None, 0))
        self._characters -= size
        return snapshot

    def forget(self, tenant: str, session_id: str) -> None:
        """Somebody else wrote in the session, or is about to."""
        self.take(tenant, session_id)


def as_loaded(snapshot: Snapshot) -> Snapshot:
    """As a load finds it: without what was of use only to runs that have ended."""
    runs = {run.id: run for run in snapshot.runs.values() if is_open(run)}
    active = {snapshot.session.active_run_id}
    return Snapshot(
        snapshot.session,
        runs,
        _of(runs, snapshot.plans),
        _of(runs, snapshot.subtasks),
        _of(active, snapshot.attempts),
        _of(active, snapshot.steps),
        _of(active, snapshot.approvals),
        dict(list(snapshot.messages.items())[-LATEST_MESSAGES:]),
        {grant.id: grant for grant in snapshot.grants.values() if not grant.end_time},
        _of(active, snapshot.artifacts),
    )


def _of(runs: Iterable[str], rows: dict[str, T]) -> dict[str, T]:
    return {row.id: row for row in rows.values() if row.run_id in runs}


def _size(snapshot: Snapshot) -> int:
    rows = 1 + len(snapshot.runs) + len(snapshot.plans) + len(snapshot.subtasks) + len(snapshot.attempts)
    rows += len(snapshot.steps) + len(snapshot.approvals) + len(snapshot.messages)
    rows += len(snapshot.grants) + len(snapshot.artifacts)
    size = rows * ROW_CHARACTERS
    size += sum(len(message.text) for message in snapshot.messages.values())
    size += sum(len(artifact.preview) for artifact in snapshot.artifacts.values())
    size += sum(len(subtask.instructions) for subtask in snapshot.subtasks.values())
    size += sum(len(tool.input_schema_json) for tool in snapshot.session.client_tools)
    for step in snapshot.steps.values():
        size += len(step.arguments_json) + (len(step.result.content) if step.result else 0)
        size += len(step.reply.text) + len(step.reply.reasoning) if step.reply else 0
    return size
