"""The one way to write a session: change sets, compared and appended, by way of two committers.

Here callers wait for their turn and their answer, at most `ANSWER_SECONDS`; how a batch is written is
committer.py's and statement.py's business.
"""

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import replace

import asyncpg

from orchestrator.domain.change import ChangeSet, Request
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store.answers import Answer, Outcome
from orchestrator.store.committer import Committer
from orchestrator.store.connection import Connect, OwnConnection
from orchestrator.store.log import seal
from orchestrator.store.queue import Item, Queue
from orchestrator.store.statement import prepare
from orchestrator.store.turns import Turns
from orchestrator.store.waiting import WaitingPath

ANSWER_SECONDS = 4.0
CLOSE_SECONDS = 5.0

OnWritten = Callable[[Session, list[LoggedEvent]], None]


class Writer:
    """Writes the change sets of this replica. `clock` gives Unix microseconds for the events' time.

    `on_written` is called after each commit, once per change set, in the order of the session's sequences.
    """

    def __init__(
        self, connect: Connect, *, clock: Callable[[], int], committers: int = 2, on_written: OnWritten
    ) -> None:
        self._clock = clock
        self._on_written = on_written
        self._turns = Turns()
        self._queue = Queue()
        self._connections = [OwnConnection(connect) for _ in range(committers)]
        self._committers = [Committer(self._queue, own, self._settle) for own in self._connections]
        self._waiting = WaitingPath(connect)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(each.run(), name="committer") for each in self._committers]

    async def close(self) -> None:
        """Write what is queued, while the database lets us, and stop."""
        ...

    async def write(self, change_set: ChangeSet, *, operation: str, trace_id: str = "") -> Answer:
        """Write all of it or nothing; the answer says which. Raises StorageUnavailable within 4 s.

        After that, nobody knows whether it was written: a command asks again with its request id.
        """
        raise NotImplementedError

    async def write_waiting(
        self,
        tenant: str,
        session_id: str,
        decide: Callable[[Snapshot], ChangeSet | None],
        *,
        operation: str,
        trace_id: str = "",
    ) -> Answer:
        """For a decision that was stale again and again: lock the session, load it, decide, write.

        `decide` sees the newest snapshot while nobody else can write the session, so it must be pure and quick;
        what it raises is passed on, and None leaves everything as it is. It is called again after a lost connection.
        """
        raise NotImplementedError
