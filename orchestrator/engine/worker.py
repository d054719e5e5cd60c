"""One session in this replica's hands: reconcile → one change set → start the steps → fold the outcomes → again.

A worker exists only while something of its session is in flight or due. It never takes an epoch from a reload, only
from its own claim; fenced, it drops everything. No rule lives here.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from orchestrator.domain.catalog import SECOND, Catalog
from orchestrator.domain.change import Change, ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Key, Session
from orchestrator.domain.room import only_waits_for_room
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import StepState
from orchestrator.engine.decision import Decision
from orchestrator.engine.executors import Executors
from orchestrator.engine.gathering import Gatherer, Readings
from orchestrator.operations.context import Reservation
from orchestrator.store.answers import Answer
from orchestrator.store.answers import Outcome as Written
from orchestrator.store.timing import observe_tries
from rpc import failpoints, logs, tracing

_log = structlog.get_logger("orchestrator.engine")

STALE_TRIES = 3
STORAGE_PAUSE_SECONDS = 0.25
LONGEST_STORAGE_PAUSE_SECONDS = 2.0


class Store(Protocol):
    """Reading and writing one session, as the worker needs it."""

    async def load(self, tenant: str, session_id: str) -> Snapshot | None: ...

    def keep(self, snapshot: Snapshot) -> None:
        """The session as it was let go; the next command may begin with it."""

    def forget(self, tenant: str, session_id: str) -> None:
        """Another replica wrote in the session: what was kept of it is outdated."""

    async def write(self, change_set: ChangeSet, *, operation: str, trace_id: str) -> Answer: ...

    async def write_waiting(
        self, tenant: str, session_id: str, decide: "Decide", *, operation: str, trace_id: str
    ) -> Answer: ...


class Decide(Protocol):
    def __call__(self, snapshot: Snapshot) -> ChangeSet | None: ...


class Ticks(Protocol):
    """Time and identity."""

    def now(self) -> int: ...

    def new_id(self) -> str: ...


class Gone(Exception):
    """The session is no longer ours, or no longer there."""


class Worker:
    """Drives one session until nothing is in flight or due. `owner` is the replica's lease id."""

    def __init__(
        self,
        key: Key,
        *,
        owner: str,
        store: Store,
        executors: Executors,
        gatherer: Gatherer,
        catalog: Catalog,
        ticks: Ticks,
        looked: Callable[[Decision], None],
    ) -> None:
        self._key = key
        self._owner = owner
        self._store = store
        self._executors = executors
        self._catalog = catalog
        self._ticks = ticks
        self._looked = looked
        self._snapshot: Snapshot | None = None
        self._epoch = 0  # 0: not claimed yet
        self._run_id = self._trace_id = ""  # the run it has in hand, and the trace of the request that began it
        self._outcomes: list[Outcome] = []
        self._flights: dict[str, int] = {}  # step id → dispatch number, as started or reattached by this worker
        self._wake = asyncio.Event()
        self._readings = Readings(key, gatherer, self._wake.set)
        self._may_run = True  # among the runs of the tenant that may be worked on at once, as far as is known
        self._outdated = True  # somebody else may have written since the snapshot was loaded
        self.due_time = 0  # when the session wants to be looked at even if nothing happens; 0: not by itself

    # What others tell it

    def adopt(self, change: Change, session: Session, reservation: Reservation) -> None:
        """Begin with a session that a command claimed for this replica; its starts are due."""
        self._snapshot = change.snapshot
        self._snapshot.session = session
        self._epoch = session.epoch
        self._outdated = False
        self.due_time = _time_of(session)
        self._launch(change, reservation)
        self._readings.want(change.reads)

    def nudge(self) -> None:
        """The session was changed by somebody else."""
        self._outdated = True
        self._wake.set()

    def hear(self, last_sequence: int) -> None:
        """Another replica has written as far as this. A snapshot that is being loaded may be older than that."""
        if self._snapshot is None or self.is_behind(last_sequence):
            self.nudge()

    @property
    def holds_session(self) -> bool:
        """Whether it has claimed it."""
        return self._epoch != 0

    def is_behind(self, last_sequence: int) -> bool:
        """Whether somebody wrote what this worker has not seen."""
        return self._snapshot is not None and self._snapshot.session.last_sequence < last_sequence

    def deliver(self, outcome: Outcome) -> None:
        """Take note. That a step was lost is a belief until it is written: the executor's own word overrules it."""
        self._outcomes = [o for o in self._outcomes if o.kind != "LOST" or not _of_one_dispatch(o, outcome)]
        if outcome.kind != "RUNNING":
            self._outcomes.append(outcome)
        self._wake.set()

    # The loop

    async def run(self) -> None:
        """Until released, fenced or cancelled. Raises nothing of the storage: it waits for it."""
        pause = STORAGE_PAUSE_SECONDS
        try:
            self._follow(self._snapshot)
            if self._flights or self._readings:
                await self._wait()
            while True:
                try:
                    if await self._turn():
                        self._hand_over()
                        return
                    pause = STORAGE_PAUSE_SECONDS
                except StorageUnavailable as error:
                    _log.warning("storage unavailable; the run stays as it is", error=str(error))
                    self._snapshot = None
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_STORAGE_PAUSE_SECONDS)
                    continue
                await self._wait()
        except Gone as gone:
            _log.info("session let go", reason=str(gone))
            with suppress(StorageUnavailable):
                self._end_flights(await self._store.load(*self._key))  # perhaps by its own write, whose answer was lost
        finally:
            self._readings.close()
            for step_id in self._flights:
                self._executors.let_go(step_id, self._epoch)

    def _hand_over(self) -> None:
        """To whoever comes next."""
        if self._snapshot is not None and not self._outdated:
            self._store.keep(self._snapshot)
            self._snapshot = None

    async def _wait(self) -> None:
        """For an outcome, a nudge, or the next due time."""
        seconds = max(0.0, (self.due_time - self._ticks.now()) / SECOND) if self.due_time else None
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _turn(self) -> bool:
        """Everything that is due now, written. True when the session was released."""
        self._may_run = True
        for tries in range(1, STALE_TRIES + 1):
            self._wake.clear()
            decision = self._decide(await self._current())
            try:
                if not decision.writes:
                    return self._unwritten(decision)
                answer = await self._store.write(decision.change_set(), operation="engine", trace_id=self._trace_id)
                self._may_run = self._may_run and answer.outcome != Written.OVER
                if answer.outcome not in (Written.STALE, Written.OVER):
                    observe_tries("engine", tries)
                    return self._after(decision, answer)
            finally:
                decision.abandon()
            self._snapshot = None
        return await self._turn_waiting()

    async def _current(self) -> Snapshot:
        if self._snapshot is None or self._outdated:
            self._outdated = False  # before the load: a nudge while it goes on asks for another one
            self._snapshot = await self._store.load(*self._key)
            if self._snapshot is None:
                raise Gone("it was deleted")
            if self._epoch and self._epoch != self._snapshot.session.epoch:
                raise Gone("another replica has it")
            self._sort_flights(self._snapshot)
            self._follow(self._snapshot)
        return self._snapshot

    def _follow(self, snapshot: Snapshot | None) -> None:
        """What is written and logged from now on belongs to the trace of the request that began the run."""
        if snapshot is not None and (run := snapshot.run) is not None and run.id != self._run_id:
            self._run_id, self._trace_id = run.id, run.traceparent[3:35]  # the second field of a traceparent
            tracing.follow(run.traceparent)
            logs.bind(run_id=run.id)

    async def _turn_waiting(self) -> bool:
        """Stale three times: hold the session's row while deciding, so that busy commands cannot starve the run."""
        decisions: list[Decision] = []

        def decide(snapshot: Snapshot) -> ChangeSet | None:
            for earlier in decisions:
                earlier.abandon()
            decisions.append(self._decide(snapshot))
            return decisions[-1].change_set() if decisions[-1].writes else None

        self._wake.clear()
        try:
            answer = await self._store.write_waiting(
                *self._key, decide, operation="engine_waiting", trace_id=self._trace_id
            )
            if answer.outcome == Written.UNCHANGED:
                return self._unwritten(decisions[-1])
            if answer.outcome == Written.OVER and self._may_run:
                self._may_run = False
                return await self._turn_waiting()
            observe_tries("engine", STALE_TRIES + len(decisions))
            return self._after(decisions[-1] if decisions else None, answer)
        finally:
            for decision in decisions:
                decision.abandon()

    def _decide(self, snapshot: Snapshot) -> Decision:
        change = Change(
            snapshot,
            self._ticks.now(),
            self._ticks.new_id,
            policy=self._catalog.policy_of(snapshot.session),
            may_run=self._may_run,
        )
        return Decision(
            change,
            list(self._outcomes),
            self._readings.done(),
            catalog=self._catalog,
            reservation=self._executors.reserve(),
            owner=self._owner,
            epoch=self._epoch,
        )

    def _unwritten(self, decision: Decision) -> bool:
        """There was nothing to write; the outcomes at hand are in the ledger already."""
        self._settle(decision.outcomes)
        self._keep(decision)
        return decision.releases and self._epoch == 0

    def _after(self, decision: Decision | None, answer: Answer) -> bool:
        if decision is None or answer.outcome != Written.WRITTEN or answer.session is None:
            raise Gone(f"its change set was {answer.outcome}")
        decision.snapshot.session = answer.session
        self._epoch = answer.epoch
        self._settle(decision.outcomes)
        self._launch(decision.change, decision.reservation)
        self._keep(decision)
        return decision.releases

    def _keep(self, decision: Decision) -> None:
        """Go on from the snapshot it was made on, as far as that is what the rows say."""
        self._snapshot = None if decision.change.leaves_rows_unwritten else decision.snapshot
        self._readings.settle(decision.gathered)
        self._readings.want(decision.change.reads)
        self._sort_flights(decision.snapshot)
        self._follow(decision.snapshot)
        self._looked(decision)
        self.due_time = _time_of(decision.change.session)

    def _settle(self, outcomes: list[Outcome]) -> None:
        """These are in the ledger, or came too late for it: the executors may forget them."""
        for outcome in outcomes:
            if outcome in self._outcomes:  # else it was overruled while it was written
                self._outcomes.remove(outcome)
            if self._flights.get(outcome.step_id) == outcome.dispatch_number:
                del self._flights[outcome.step_id]
            self._executors.recorded(outcome.step_id, self._epoch, outcome.dispatch_number)
            if outcome.kind in ("FAILED", "LOST"):
                _log.warning("step failed", step_id=outcome.step_id, reason=outcome.failure.reason or outcome.kind)

    @property
    def wants_another_look(self) -> bool:
        """Something came while it was letting go."""
        return self._wake.is_set()

    # Steps in flight

    def _launch(self, change: Change, reservation: Reservation) -> None:
        launched: list[str] = []
        try:
            for step_id in change.starts:
                step = change.snapshot.steps[step_id]
                self._flights[step_id] = step.dispatch_number
                launched.append(step_id)
                if failpoints.on:
                    failpoints.hit("dispatch")
                self._executors.start(change.snapshot, step, self._epoch, self.deliver)
        finally:
            reservation.settle(launched)

    def _sort_flights(self, snapshot: Snapshot) -> None:
        """The rows are the truth: what is in flight by them is reattached, and any other dispatch is ended."""
        if self._epoch == 0:
            return
        for step_id, number in self._end_flights(snapshot).items():
            if step_id not in self._flights:
                self._flights[step_id] = number
                self._executors.reattach(snapshot.steps[step_id], self._epoch, self.deliver)

    def _end_flights(self, snapshot: Snapshot | None) -> dict[str, int]:
        """End those that are over by the rows, so that no executor keeps an outcome for nobody; what is in flight."""
        steps = snapshot.steps.values() if snapshot else ()
        flying = {s.id: s.dispatch_number for s in steps if s.state == StepState.DISPATCHED}
        for step_id, number in self._flights.items() - flying.items():
            del self._flights[step_id]
            self._executors.cancel(step_id, self._epoch, number)
        return flying


def _time_of(session: Session) -> int:
    """Its due time, if that ever comes."""
    return 0 if only_waits_for_room(session) else session.due_time


def _of_one_dispatch(one: Outcome, other: Outcome) -> bool:
    return (one.step_id, one.dispatch_number) == (other.step_id, other.dispatch_number)
