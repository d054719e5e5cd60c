"""A store in memory that compares and appends as the real one does, and fails when a test tells it to."""

import asyncio
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from orchestrator.domain.change import Change, ChangeSet, Request
from orchestrator.domain.commands import create_session
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.expected import Checked
from orchestrator.domain.records import Approval, Artifact, Attempt, Message, Plan, Run, Session, Step, Subtask, is_open
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.answers import Answer, Outcome

TABLES: dict[type, str] = {
    Message: "messages",
    Run: "runs",
    Plan: "plans",
    Subtask: "subtasks",
    Attempt: "attempts",
    Step: "steps",
    Approval: "approvals",
    Artifact: "artifacts",
}


class Ticks:
    """Time as the loop has it, and ids in order."""

    def __init__(self) -> None:
        self._last = 0

    def now(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e6)

    def new_id(self) -> str:
        self._last += 1
        return f"id{self._last:04}"


class MemoryStore:
    """Sessions by id, all of tenant "t". `alive` are the owners whose lease lives."""

    def __init__(self, ticks: Ticks) -> None:
        self.ticks = ticks
        self.sessions: dict[str, Snapshot] = {}
        self.alive: set[str] = set()
        self.requests: dict[str, Request] = {}
        # What befalls the next writes, in order: "" (nothing), unavailable, lost (written, and nobody heard so),
        # repeated (the same, and the writer asked again), repeated
        # (the same, and the writer asked again), broken, or what the answer says, such as stale and fenced.
        self.faults: deque[str] = deque()
        self.written: list[ChangeSet] = []
        self.operations: list[str] = []  # of all that was tried
        self.loads = 0
        self.kept: Snapshot | None = None
        self.forgotten: list[tuple[str, str]] = []
        self.on_load: Callable[[], None] = lambda: None  # after the read, before the reader has it
        self.on_write: Callable[[], None] = lambda: None  # before the write
        self.is_away = False
        self.contents: dict[str, bytes] = {}

    def create(self, session_id: str = "s1") -> None:
        created = create_session(Session("t", session_id), self.ticks.now(), self.ticks.new_id)
        self.sessions[session_id] = created.snapshot

    def command(self, session_id: str, decide: Callable[[Change], object]) -> None:
        """What somebody else writes: no owner does it, and the owner has yet to look at it."""
        change = Change(deepcopy(self.sessions[session_id]), self.ticks.now(), self.ticks.new_id)
        decide(change)
        change.put_session(runnable=True, settled=False)
        assert self._commit(change.as_change_set()).outcome == Outcome.WRITTEN

    def taken_by(self, owner: str, session_id: str = "s1") -> None:
        """Another replica has claimed it."""
        rows = self.sessions[session_id]
        rows.session = replace(rows.session, owner=owner, epoch=rows.session.epoch + 1)

    async def keep_content(self, tenant: str, session_id: str, checked: Checked, data: bytes) -> None:
        if self.is_away:
            raise StorageUnavailable("away")
        self.contents[checked.sha256] = data

    # What the worker knows

    def keep(self, snapshot: Snapshot) -> None:
        """It is as a load would find it, or a command that begins with it would go wrong."""
        self.kept = deepcopy(snapshot)

    def forget(self, tenant: str, session_id: str) -> None:
        self.forgotten.append((tenant, session_id))

    async def load(self, tenant: str, session_id: str) -> Snapshot | None:
        self.loads += 1
        if self.is_away:
            raise StorageUnavailable("away")
        rows = self.sessions.get(session_id)
        found = None if rows is None else _as_loaded(rows)
        self.on_load()
        await asyncio.sleep(0)
        return found

    async def write(self, change_set: ChangeSet, *, operation: str, trace_id: str) -> Answer:
        self.operations.append(operation)
        if not change_set.events:
            assert change_set.claim_for or change_set.release, "a change set without events"
        self.on_write()
        await asyncio.sleep(0)
        fault = self.faults.popleft() if self.faults else ""
        if self.is_away:
            raise StorageUnavailable("away")
        if fault not in ("", "lost", "repeated"):
            return _refused(fault)
        answer = self._commit(change_set)
        if fault == "repeated":
            return self._commit(change_set)
        if fault == "lost":
            raise StorageUnavailable("who knows")
        return answer

    async def write_waiting(
        self,
        tenant: str,
        session_id: str,
        decide: Callable[[Snapshot], ChangeSet | None],
        *,
        operation: str,
        trace_id: str,
    ) -> Answer:
        self.operations.append(operation)
        await asyncio.sleep(0)
        if session_id not in self.sessions:
            return Answer(Outcome.ABSENT)
        decide(_as_loaded(self.sessions[session_id]))  # its connection broke: the decision is made again
        change_set = decide(_as_loaded(self.sessions[session_id]))
        if fault := self.faults.popleft() if self.faults else "":
            return _refused(fault)
        if change_set is None:
            return Answer(Outcome.UNCHANGED, self.sessions[session_id].session)
        return self._commit(change_set)

    def _commit(self, change_set: ChangeSet) -> Answer:
        asked = change_set.request
        if asked is not None and (before := self.requests.get(asked.request_id)) is not None:
            return Answer(Outcome.DUPLICATE, request=before)
        rows = self.sessions.get(change_set.session.id)
        if rows is None:
            return Answer(Outcome.ABSENT)
        now = rows.session
        if change_set.owner and (change_set.owner, change_set.epoch) != (now.owner, now.epoch):
            return Answer(Outcome.FENCED)
        if change_set.claim_for and now.owner not in ("", change_set.claim_for) and now.owner in self.alive:
            return Answer(Outcome.FENCED)
        if now.last_sequence != change_set.expected_sequence:
            return Answer(Outcome.STALE)
        owner = "" if change_set.release else change_set.claim_for or now.owner
        rows.session = replace(
            change_set.session,
            last_sequence=now.last_sequence + len(change_set.events),
            last_event_time=self.ticks.now() if change_set.events else now.last_event_time,
            epoch=now.epoch + bool(change_set.claim_for),
            owner=owner,
        )
        for row in change_set.rows:
            getattr(rows, TABLES.get(type(row), "approvals"))[row.id] = row
        self.written.append(change_set)
        if asked is not None:
            self.requests[asked.request_id] = asked
        return Answer(Outcome.WRITTEN, rows.session, (), rows.session.last_sequence, rows.session.epoch, owner)


def _as_loaded(rows: Snapshot) -> Snapshot:
    """A copy of its own, without the runs that have ended, as the real store loads it."""
    found = deepcopy(rows)
    gone = {run.id for run in found.runs.values() if not is_open(run)}
    for table in ("runs", "plans", "subtasks", "attempts", "steps", "approvals"):
        kept = {key: row for key, row in getattr(found, table).items() if getattr(row, "run_id", key) not in gone}
        setattr(found, table, kept)
    return found


def _refused(fault: str) -> Answer:
    if fault == "unavailable":
        raise StorageUnavailable("away")
    if fault == "broken":
        raise ZeroDivisionError
    return Answer(Outcome(fault))
