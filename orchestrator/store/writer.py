"""The one way to write a session: change sets, compared and appended, by way of two committers.

Here callers wait for their turn and their answer, at most `ANSWER_SECONDS`; how a batch is written is
committer.py's and statement.py's business.
"""

import asyncio
from collections.abc import Callable, Hashable
from contextlib import suppress

import asyncpg

from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.answers import Answer, Outcome, answer_of
from orchestrator.store.batch import Prepared, prepare
from orchestrator.store.committer import Committer, OnWritten, announce
from orchestrator.store.connection import Connect, OwnConnection
from orchestrator.store.counting import Counters
from orchestrator.store.failures import UNAVAILABLE
from orchestrator.store.log import seal
from orchestrator.store.patience import Patience
from orchestrator.store.queue import Item, Queue
from orchestrator.store.turns import Turns
from orchestrator.store.waiting import Decide, WaitingPath

ANSWER_SECONDS = 4.0
CLOSE_SECONDS = 5.0

Keys = tuple[Hashable, ...]


class Writer:
    """Writes the change sets of this replica. `clock` gives Unix microseconds for the events' time.

    `on_written` is called after each commit, once per change set, in the order of the session's sequences. Where
    `runs_per_tenant` is not 0, no change set makes more runs of a tenant RUNNING than so many, and `on_fewer_running`
    is called when one of a tenant that has met the limit is RUNNING no longer. With `delivers` what concerns people is
    also written down for the webhook.
    """

    def __init__(
        self,
        connect: Connect,
        *,
        clock: Callable[[], int],
        committers: int = 2,
        on_written: OnWritten,
        runs_per_tenant: int = 0,
        on_fewer_running: Callable[[], None] = lambda: None,
        delivers: bool = False,
    ) -> None:
        self._clock = clock
        self._on_written = on_written
        self._counters = Counters(runs_per_tenant)
        self._on_fewer_running = on_fewer_running
        self._delivers = delivers
        self._turns = Turns()
        self._queue = Queue()
        self._patience = Patience(ANSWER_SECONDS)
        self._connections = [OwnConnection(connect) for _ in range(committers)]
        self._waiting = WaitingPath(connect, self._counters)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [
            asyncio.create_task(Committer(self._queue, own, self._counters, self._settle).run(), name=f"committer {n}")
            for n, own in enumerate(self._connections)
        ]

    async def close(self) -> None:
        """Write what is under way, as long as the database lets us, and stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._turns.quiet(), CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._patience.close()
        for connection in self._connections:
            connection.drop()
        self._waiting.close()

    async def write(self, change_set: ChangeSet, *, operation: str, trace_id: str = "") -> Answer:
        """Write all of it or nothing; the answer says which. Raises StorageUnavailable within 4 s.

        After that, nobody knows whether it was written: a command asks again with its request id, the engine
        loads the session again.
        """
        _check(change_set)
        try:
            if self._turns.are_free(_keys(change_set)):
                answer = await self._enqueue(change_set, operation, trace_id)
                self._patience.bound(answer)
                return await answer
            async with asyncio.timeout(ANSWER_SECONDS):
                return await (await self._enqueue(change_set, operation, trace_id))
        except TimeoutError:
            raise StorageUnavailable(UNAVAILABLE) from None

    async def write_waiting(
        self, tenant: str, session_id: str, decide: Decide, *, operation: str, trace_id: str = ""
    ) -> Answer:
        """For a decision that was stale again and again: lock the session, load it, decide, write.

        `decide` sees the newest snapshot while nobody else can write the session, so it must be pure and quick;
        what it raises is passed on, and None leaves all as it is. After a lost connection it is called again.
        """

        prepared: list[Prepared] = []

        def sealed(change_set: ChangeSet) -> Prepared:
            _check(change_set)
            prepared.append(self._seal(change_set, trace_id))
            return prepared[-1]

        turn = _session_key(tenant, session_id)
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._turns.holding(turn):
                answer = await self._waiting.write(tenant, session_id, decide, sealed, operation)
                if prepared:
                    self._notice_limit(prepared[-1], answer)
                announce(answer, self._on_written)
                return answer
        except TimeoutError:
            raise StorageUnavailable(UNAVAILABLE) from None

    async def _enqueue(self, change_set: ChangeSet, operation: str, trace_id: str) -> asyncio.Future[Answer]:
        """Whoever leaves cancels this future: the committers then drop the item, or write it for nobody."""
        keys = _keys(change_set)
        await self._turns.take(keys)
        try:
            prepared = self._seal(change_set, trace_id)
        except BaseException:
            self._turns.give_back(keys)
            raise
        item = Item(prepared, operation, keys, asyncio.get_running_loop().create_future())
        self._queue.put(item)
        return item.answer

    def _seal(self, change_set: ChangeSet, trace_id: str) -> Prepared:
        events = seal(change_set.session, change_set.events, now=self._clock(), trace_id=trace_id)
        return prepare(change_set, events, trace_id, self._counters.runs_per_tenant, delivers=self._delivers)

    def _notice_limit(self, prepared: Prepared, answer: Answer) -> None:
        tenant = prepared.change_set.session.tenant
        if answer.outcome is Outcome.OVER:
            self._counters.met_limit(tenant)
        elif answer.outcome is Outcome.WRITTEN and prepared.running < 0 and self._counters.may_be_waited_for(tenant):
            self._on_fewer_running()

    def _settle(self, item: Item, result: asyncpg.Record | BaseException) -> None:
        """The end of an item: its caller has the answer, the followers have the events, others have the turn."""
        if item.settled:
            return
        item.settled = True
        if isinstance(result, BaseException):
            if not item.answer.done():
                item.answer.set_exception(result)
        else:
            answer = answer_of(item.prepared.change_set, item.prepared.sealed, result)
            if not item.answer.done():
                item.answer.set_result(answer)
            self._notice_limit(item.prepared, answer)
            announce(answer, self._on_written)
        self._turns.give_back(item.keys)


def _check(change_set: ChangeSet) -> None:
    """What no change set of ours may be; each would break a promise of the log."""
    if not change_set.events and not change_set.claim_for and not change_set.release:
        raise ValueError("a change set appends an event, unless it claims or releases")
    if change_set.session.last_sequence != change_set.expected_sequence:
        raise ValueError("a change set's session still has the sequence it was made against")
    if change_set.creates and (change_set.request is None or change_set.expected_sequence):
        raise ValueError("a new session starts at sequence 0, fenced by its request")


def _session_key(tenant: str, session_id: str) -> Hashable:
    return "session", tenant, session_id


def _keys(change_set: ChangeSet) -> Keys:
    session, request = change_set.session, change_set.request
    key = _session_key(session.tenant, session.id)
    return (key,) if request is None else (key, ("request", request.tenant, request.caller, request.request_id))
