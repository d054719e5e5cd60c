"""`Change` collects what one decision does to a session; `ChangeSet` is what of it is written, whole or not at all.

A Change applies rows to its snapshot as it goes, so the rules that follow see them. It knows no rule itself.
"""

from collections.abc import Callable
from dataclasses import field
from typing import TypeVar

from orchestrator.domain.catalog import Policy
from orchestrator.domain.events import Event
from orchestrator.domain.frozen import dataclass, replace
from orchestrator.domain.reading import Reading
from orchestrator.domain.records import (
    Approval,
    Artifact,
    Attempt,
    Grant,
    Message,
    Plan,
    Row,
    Run,
    Session,
    Step,
    Subtask,
)
from orchestrator.domain.snapshot import Snapshot

T = TypeVar("T", Message, Run, Plan, Subtask, Attempt, Step, Approval, Grant, Artifact)


@dataclass(frozen=True, slots=True)
class Request:
    """Who asked with which request id; the row that makes a repeat return the first answer (AIP-155)."""

    tenant: str
    caller: str
    request_id: str
    method: str
    fingerprint: str  # SHA-256 of the request's content without its id
    answer_json: str = ""
    create_time: int = 0


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Everything that changes in one session at once, made against `expected_sequence`.

    `session` is the session as it shall be, its last_sequence, last_hash and last_event_time still those it was
    made against: the store moves them on. An engine's change set names the `owner` and `epoch` it holds; a command's
    leaves `owner` empty. `claim_for` takes the session for that owner (epoch + 1) in the same write, if nobody
    alive owns it. `release` gives it up. `creates` inserts the session. `running` is how many more of the tenant's runs
    are RUNNING after it.
    """

    session: Session
    expected_sequence: int
    rows: tuple[Row, ...] = ()
    events: tuple[Event, ...] = ()
    request: Request | None = None
    owner: str = ""
    epoch: int = 0
    claim_for: str = ""
    release: bool = False
    creates: bool = False
    running: int = 0


@dataclass(slots=True)
class Change:
    """One decision in the making. `now` in Unix microseconds; `new_id` gives fresh UUIDv7 strings.

    `policy` is the session's: the terms of what is asked. `may_run` is what is believed of the limit of runs at once;
    that a limit would be passed is found by the write.
    """

    snapshot: Snapshot
    now: int
    new_id: Callable[[], str]
    events: list[Event] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)  # steps to start once this is written
    ends: list[Step] = field(default_factory=list)  # cancelled in flight: their executors are told once this is written
    blocked: bool = False  # something is due that no executor has room for
    waits_since: list[int] = field(default_factory=list)  # … of each such step, for how long already
    policy: Policy = field(default_factory=Policy)
    reads: dict[str, Reading] = field(default_factory=dict)  # by subtask: to be read once this is written
    judged: set[str] = field(default_factory=set)  # calls: what their verdicts rest on is the same in all of it
    limit_reached: str = ""  # the limit of the run for which a call that is due does not start
    may_run: bool = True  # whether one more of the tenant's runs may be RUNNING
    running: int = 0  # how many more are, after this
    _base_sequence: int = -1
    _rows: dict[tuple[type, str], Row] = field(default_factory=dict)
    _session_touched: bool = False

    def __post_init__(self) -> None:
        self._base_sequence = self.snapshot.session.last_sequence

    @property
    def session(self) -> Session:
        return self.snapshot.session

    def put(self, row: T) -> T:
        """Insert or replace a row, in the snapshot at once and in the change set."""
        table: dict[str, T] = getattr(self.snapshot, _TABLES[type(row)])
        table[row.id] = row
        self._rows[type(row), row.id] = row
        return row

    def put_session(self, **changes: object) -> None:
        self.snapshot.session = replace(self.snapshot.session, **changes)  # type: ignore[arg-type]  # fields by name
        self._session_touched = True

    def emit(self, event: Event) -> None:
        self.events.append(event)

    @property
    def next_sequence(self) -> int:
        """The sequence the next emitted event will have."""
        return self._base_sequence + len(self.events) + 1

    def as_change_set(
        self,
        *,
        request: Request | None = None,
        owner: str = "",
        epoch: int = 0,
        claim_for: str = "",
        release: bool = False,
        creates: bool = False,
    ) -> ChangeSet:
        """What is to be written. Rows travel only with events: without one the sequence stands still, and a decision
        made on the older snapshot would not notice them. They are made again when something does happen."""
        session = replace(self.session, update_time=self.now)
        return ChangeSet(
            session,
            self._base_sequence,
            tuple(self._rows.values()) if self.events else (),
            tuple(self.events),
            request,
            owner,
            epoch,
            claim_for,
            release,
            creates,
            self.running if self.events else 0,
        )

    @property
    def leaves_rows_unwritten(self) -> bool:
        """Whether its snapshot now holds rows that its change set does not: to be thrown away."""
        return bool(self._rows) and not self.events

    @property
    def is_empty(self) -> bool:
        """Whether a decision did nothing; asked before the engine's rules go on, which always settle the session."""
        return not self.events and not self._rows and not self._session_touched


_TABLES: dict[type, str] = {
    Message: "messages",
    Run: "runs",
    Plan: "plans",
    Subtask: "subtasks",
    Attempt: "attempts",
    Step: "steps",
    Approval: "approvals",
    Grant: "grants",
    Artifact: "artifacts",
}
