"""The engine of one replica: its lease, its claims, and a supervised worker for each session in its hands."""

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import structlog

from orchestrator.domain.catalog import SECOND, Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.records import Key, Session, Step
from orchestrator.engine.decision import Decision
from orchestrator.engine.executors import Executors
from orchestrator.engine.gathering import Contents, Gatherer
from orchestrator.engine.metrics import BLOCKED
from orchestrator.engine.room import WaitingForRoom
from orchestrator.engine.worker import Store, Ticks, Worker
from orchestrator.operations.context import Reservation
from rpc import logs

_log = structlog.get_logger("orchestrator.engine")

RELEASE_SECONDS = 1.0
CLAIM_SECONDS = 0.5
CLAIMS_AT_ONCE = 200
MAX_SESSIONS = 2_000
LONGEST_TIMER_SECONDS = 60.0  # what is due later is found by looking for what is claimable
FIRST_FAILURE_PAUSE_SECONDS = 1.0
LONGEST_FAILURE_PAUSE_SECONDS = 30.0


class Leases(Protocol):
    """The replica's lease row and the sessions that nobody alive owns."""

    async def renew(self) -> dict[Key, int]:
        """Live on; the last sequences of the sessions this replica owns."""

    async def claimable(self, limit: int) -> list[Key]: ...

    async def waiting_for_room(self, after: tuple[int, str], limit: int) -> dict[Key, int]:
        """Sessions that wait for nothing but an executor, with their due times: those after this due time and id."""

    async def release(self) -> None: ...


class Storage(Store, Contents, Protocol):
    """Sessions, and the bytes of artifacts."""


class Engine:
    """Claims sessions and drives them. It is the hands that operations know (`operations.context.Hands`)."""

    def __init__(
        self,
        owner: str,
        *,
        store: Storage,
        leases: Leases,
        executors: Executors,
        catalog: Catalog,
        ticks: Ticks,
        renew_seconds: float,
        lease_seconds: float = math.inf,
    ) -> None:
        self.owner = owner
        self._store = store
        self._leases = leases
        self._executors = executors
        self._gatherer = Gatherer(executors.files, store)
        self._catalog = catalog
        self._ticks = ticks
        self._renew_seconds = renew_seconds
        self._lease_seconds = lease_seconds
        self._renewed_at = -math.inf  # when the last renewal that succeeded was begun
        self._workers: dict[Key, Worker] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._retired: set[asyncio.Task[None]] = set()  # of workers whose place another has taken
        self._failures: dict[Key, int] = {}
        self._waiting = WaitingForRoom()
        self._offers = 0  # of executors, when those who wait for what nobody offers were last looked at
        self._again: set[Key] = set()
        self._timers: dict[Key, asyncio.TimerHandle] = {}  # for sessions that were let go until they are due
        self._found_waiting = (0, "")  # the due time and id of the last of those that wait for room that was looked at
        BLOCKED.set_function(lambda: len(self._waiting))
        self._look = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._stopping = False

    # Hands

    def may_take(self) -> bool:
        return not self._stopping and len(self._workers) < MAX_SESSIONS and self._lease_lives()

    def reserve(self) -> Reservation:
        return self._executors.reserve()

    def workspace_roots(self) -> list[str]:
        return self._executors.workspace_roots()

    def end(self, steps: Sequence[Step], epoch: int) -> None:
        for step in steps:
            self._executors.end(step, epoch)

    def adopt(self, change: Change, session: Session, reservation: Reservation) -> None:
        if self._stopping:  # meanwhile: the next owner asks the executor, which has not heard of these starts
            reservation.abandon()
            return
        self._retire((session.tenant, session.id))
        worker = self._new_worker((session.tenant, session.id))
        worker.adopt(change, session, reservation)
        self._supervise((session.tenant, session.id), worker)

    def nudge(self, tenant: str, session_id: str) -> None:
        key = (tenant, session_id)
        if worker := self._workers.get(key):
            worker.nudge()
        else:
            self._look.set()

    # What other replicas say

    def hear(self, tenant: str, session_id: str, last_sequence: int) -> None:
        """Somebody else wrote in the session; if it is in these hands, that was a command."""
        self._store.forget(tenant, session_id)
        if worker := self._workers.get((tenant, session_id)):
            worker.hear(last_sequence)

    def look(self) -> None:
        """There may be sessions to claim."""
        self._look.set()

    def wait_for_room(self, tenant: str, session_id: str, reservation: Reservation, priority: int) -> None:
        if reservation.missed_room:
            self._look_at((tenant, session_id))
        else:
            self._waiting.join((tenant, session_id), priority, lacks_slot=reservation.lacks_slot)

    def room_again(self, slots: int) -> None:
        """Executors have so many slots free that they had not: look at as many of the sessions that waited for one."""
        if self._offers != self._executors.offers:
            self._offers = self._executors.offers
            self._waiting.offers_changed()
        for key in self._waiting.offer(slots):
            self._look_at(key)

    def _looked(self, key: Key, decision: Decision) -> None:
        """Whether a session that was looked at waits for room now. What it was offered and needs not is the next's."""
        change, priority = decision.change, decision.change.session.priority
        self._waiting.leave(key, priority)
        if change.blocked:
            self.wait_for_room(*key, decision.reservation, priority)
        if change.starts or decision.reservation.lacks_slot:
            self._waiting.took(key)
        else:
            self._pass_on(key)

    def _pass_on(self, key: Key) -> None:
        if self._waiting.declined(key):
            self.room_again(1)

    # Life

    async def run(self) -> None:
        """Renew the lease, which has just been registered, and claim, until cancelled."""
        self._renewed_at = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            self._renewing = group.create_task(self._renew())
            group.create_task(self._claim())

    def take_no_more(self) -> None:
        """The replica is about to stop: what it drives goes on, what comes is for others."""
        self._stopping = True

    async def stop(self) -> None:
        """Let go of everything: steps in flight stay with their executors, for the next owner to reattach."""
        self._stopping = True
        tasks = [*self._tasks.values(), *self._retired]
        if self._renewing is not None:  # or a lease given up would live again, and keep the sessions from others
            tasks.append(self._renewing)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._leases.release()
        except (StorageUnavailable, TimeoutError) as error:
            _log.warning("the lease was not given up; it lapses", error=str(error))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                begun = asyncio.get_running_loop().time()
                self._compare(await self._leases.renew())
                self._renewed_at = begun
                await self._find_waiting()
            except StorageUnavailable as error:
                _log.warning("the lease was not renewed", error=str(error))

    async def _find_waiting(self) -> None:
        """Executors have room: look at sessions that wait for some and that no replica alive may remember, in turn."""
        limit = min(CLAIMS_AT_ONCE, self._executors.free_slots(), MAX_SESSIONS - len(self._workers))
        if limit <= 0 or self._stopping:
            return
        found = await self._leases.waiting_for_room(self._found_waiting, limit)
        self._found_waiting = (0, "")
        for key, due_time in found.items():
            if len(found) == limit:
                self._found_waiting = (due_time, key[1])
            if key not in self._workers:
                self._look_at(key)

    def _compare(self, owned: dict[Key, int]) -> None:
        """What the rows say is this replica's, beside what it has in hand."""
        for key, last_sequence in owned.items():
            worker = self._workers.get(key)
            if worker is None:
                self._look_at(key)  # claimed by a write whose answer was lost
            elif worker.is_behind(last_sequence):
                worker.nudge()
        for key, worker in self._workers.items():
            if key not in owned and worker.holds_session:
                worker.nudge()  # somebody has taken it while this replica slept, as like as not

    def _lease_lives(self) -> bool:
        """Whether others still count this replica as alive. What it owns it goes on with: fences decide about that."""
        return asyncio.get_running_loop().time() - self._renewed_at <= self._lease_seconds

    async def _claim(self) -> None:
        while not self._stopping:
            self._look.clear()
            room = MAX_SESSIONS - len(self._workers)
            try:
                self._take_on(await self._leases.claimable(min(CLAIMS_AT_ONCE, room)) if room > 0 else [])
            except StorageUnavailable as error:
                _log.warning("no claims: storage unavailable", error=str(error))
            try:
                async with asyncio.timeout(CLAIM_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue

    # Workers

    def _take_on(self, claimable: list[Key]) -> None:
        """Drive these and those that want another look; of the latter, what there is no place for waits."""
        again, self._again = self._again, set()
        for key in (*again, *claimable):
            if (worker := self._workers.get(key)) is not None:
                if key in again:
                    worker.nudge()
            elif self.may_take():
                self._supervise(key, self._new_worker(key))
            elif key in again:
                self._again.add(key)

    def _new_worker(self, key: Key) -> Worker:
        return Worker(
            key,
            owner=self.owner,
            store=self._store,
            executors=self._executors,
            gatherer=self._gatherer,
            catalog=self._catalog,
            ticks=self._ticks,
            looked=partial(self._looked, key),
        )

    def _retire(self, key: Key) -> None:
        """Another worker takes the place of this one, which has let the session go or has yet to claim it."""
        if self._workers.pop(key, None) is not None:
            task = self._tasks.pop(key)
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
            task.cancel()

    def _supervise(self, key: Key, worker: Worker) -> None:
        self._workers[key] = worker
        task = asyncio.get_running_loop().create_task(self._drive(key, worker))
        self._tasks[key] = task

    async def _drive(self, key: Key, worker: Worker) -> None:
        """The supervisor: a run that makes its worker fail is let go and tried again later, never lost."""
        try:
            logs.bind(session_id=key[1])  # for this task, which serves this session and no other
            await worker.run()
            self._failures.pop(key, None)
        except Exception:
            self._failures[key] = failures = self._failures.get(key, 0) + 1
            pause = min(FIRST_FAILURE_PAUSE_SECONDS * 2 ** (failures - 1), LONGEST_FAILURE_PAUSE_SECONDS)
            _log.exception("a session's worker failed", session_id=key[1], failures=failures, again_seconds=pause)
            await asyncio.sleep(pause)
            self._look_at(key)
        finally:
            self._forget(key, worker)

    def _forget(self, key: Key, worker: Worker) -> None:
        if self._workers.get(key) is not worker:
            return  # a command claimed it again meanwhile
        del self._workers[key]
        del self._tasks[key]
        self._pass_on(key)
        if worker.wants_another_look:
            self._look_at(key)
        elif worker.due_time and not self._stopping:
            self._look_when_due(key, worker.due_time)

    def _look_when_due(self, key: Key, due_time: int) -> None:
        """One timer a session: each look at one that waits ends here again, and would leave a timer more."""
        if (earlier := self._timers.pop(key, None)) is not None:
            earlier.cancel()
        seconds = max(0.0, (due_time - self._ticks.now()) / SECOND)
        if seconds <= LONGEST_TIMER_SECONDS:
            self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._look_at, key)

    def _look_at(self, key: Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self._again.add(key)
        self._look.set()
