"""What every operation is given: who asks, the store, the catalog, and the engine's hands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.domain.catalog import Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.records import Session, Step, Workspace
from orchestrator.domain.starting import NoPlace, Place
from orchestrator.store.database import Database
from orchestrator.store.kept import Kept
from orchestrator.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal, and the identity of this request for a repeat to be recognised."""

    tenant: str
    subject: str
    method: str = ""
    request_id: str = ""
    fingerprint: str = ""  # SHA-256 of the request's content without its id
    trace_id: str = ""
    traceparent: str = ""
    repeats: bool = False  # the client chose the request id, so it may have sent it before
    roles: frozenset[str] = frozenset()  # as policies name them; "*": every one


class Reservation(Protocol):
    """Slots of executors taken for the steps of one change, until it is known whether it was written."""

    def __call__(self, step: Step, workspace: Workspace) -> Place | NoPlace: ...

    def may_read(self, workspace: Workspace) -> bool:
        """Whether an executor that offers the workspace is connected."""

    def settle(self, started: Sequence[str]) -> None:
        """It was written and these steps started; what else was taken is free again."""

    def abandon(self) -> None:
        """It was not written: the slots are free again."""

    @property
    def missed_room(self) -> bool:
        """Whether executors got room since it was made."""

    @property
    def lacks_slot(self) -> bool:
        """Whether a step found no place for want of a slot, and not of an executor that offers what it needs."""


class Hands(Protocol):
    """The engine as operations see it: it takes sessions over, and looks at those it is told about."""

    @property
    def owner(self) -> str:
        """The id this replica's lease goes by."""

    def may_take(self) -> bool:
        """Whether this replica takes on sessions now."""

    def reserve(self) -> Reservation: ...

    def adopt(self, change: Change, session: Session, reservation: Reservation) -> None:
        """The session was claimed for this replica by the change set just written; its starts are due."""

    def nudge(self, tenant: str, session_id: str) -> None:
        """Something of the session changed: look at it soon."""

    def wait_for_room(self, tenant: str, session_id: str, reservation: Reservation, priority: int) -> None:
        """The session has steps to start and the reservation found no room: look at it as soon as there is some."""

    def end(self, steps: Sequence[Step], epoch: int) -> None:
        """A command cancelled these while they were in flight: tell their executors, as far as they are connected."""

    def workspace_roots(self) -> list[str]:
        """The roots that connected executors offer; new workspaces are made under the first."""


@dataclass(frozen=True, slots=True)
class Context:
    database: Database
    writer: Writer
    hands: Hands
    catalog: Catalog
    clock: Callable[[], int]
    new_id: Callable[[], str]
    on_deleted: Callable[[str, str], None] = lambda tenant, session_id: None  # who holds something of the session
    kept: Kept = field(default_factory=Kept)
