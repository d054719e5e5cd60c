"""The executors this replica knows: which step goes where, and what became of those in flight.

A `Flight` is a step that some executor instance holds for us. It outlives broken streams: only the instance's own
word, its death, or its silence past the deadline ends it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from gen.assent.executor.v1 import frames_pb2
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Step, Workspace
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.starting import Place
from orchestrator.domain.transcript import model_call
from orchestrator.engine import frames
from orchestrator.streaming.feed import Delta

_log = structlog.get_logger("orchestrator.executors")

Sink = Callable[[Outcome], None]
OnDelta = Callable[[str, str, Delta], None]  # tenant, session id, delta
OnRoom = Callable[[int], None]  # how many slots are free that were not


@dataclass(slots=True)
class Flight:
    """One dispatch in an executor's hands, and who wants to know."""

    step: Step
    epoch: int
    sink: Sink
    lost: bool = False


class Instance:
    """One executor instance, alive as far as this replica knows, and what it offers."""

    def __init__(self, hello: frames_pb2.Hello, tools: frozenset[str], address: str) -> None:
        self.id = hello.instance_id
        self.address = address
        self.roots = list(hello.workspace_root_ids)
        self.slots = hello.slots
        self.tools = tools
        self.draining = False

    def offers(self, step: Step, workspace: Workspace) -> bool:
        if self.draining:
            return False
        if step.kind == "MODEL":
            return True
        return step.tool in self.tools and (not workspace.root_id or workspace.root_id in self.roots)


class Line(Protocol):
    """A connection to one address; `ExecutorLink` is one."""

    address: str

    def send(self, frame: frames_pb2.OrchestratorFrame, deadline_time: int) -> None:
        """Soon, if connected; else never: what was not sent is asked for when the executor is back."""


class Reservation:
    """Slots taken for the steps of one change, until it is known whether it was written."""

    __slots__ = ("_executors", "_rooms", "_taken")

    def __init__(self, executors: "Executors") -> None:
        self._executors = executors
        self._rooms = executors.rooms
        self._taken: dict[str, str] = {}  # step id → instance id

    def __call__(self, step: Step, workspace: Workspace) -> Place | None:
        instance = self._executors.pick(step, workspace)
        if instance is None:
            return None
        self._executors.take(instance.id)
        self._taken[step.id] = instance.id
        return Place(instance.id, instance.address, next(iter(instance.roots), ""))

    def settle(self, started: Sequence[str]) -> None:
        """It was written and these were started: their slots are the flights' now."""
        for step_id in started:
            self._taken.pop(step_id, None)
        self.abandon()

    def abandon(self) -> None:
        taken, self._taken = self._taken, {}
        for instance_id in taken.values():
            self._executors.free(instance_id)

    @property
    def missed_room(self) -> bool:
        """Whether executors got room since it was made."""
        return self._rooms != self._executors.rooms


class Executors:
    """All executors of one replica. Links report to it; workers ask it to start, reattach, record and cancel."""

    def __init__(self, catalog: Catalog, *, on_delta: OnDelta, on_room: OnRoom) -> None:
        self._catalog = catalog
        self._on_delta = on_delta
        self._on_room = on_room
        self.rooms = 0  # how often there was room where there had been none
        self._instances: dict[str, Instance] = {}
        self._lines: dict[str, Line] = {}
        self._flights: dict[str, Flight] = {}
        self._taken: Counter[str] = Counter()  # slots by instance id, reserved or in flight; who is away keeps its own

    def add_line(self, line: Line) -> None:
        self._lines[line.address] = line

    # Placing

    def reserve(self) -> Reservation:
        return Reservation(self)

    def workspace_roots(self) -> list[str]:
        return [root for instance in self._instances.values() for root in instance.roots]

    def pick(self, step: Step, workspace: Workspace) -> Instance | None:
        """The instance with the most free slots of those that offer what the step needs."""
        able = [i for i in self._instances.values() if self._free_slots(i) > 0 and i.offers(step, workspace)]
        return max(able, key=self._free_slots, default=None)

    def take(self, instance_id: str) -> None:
        self._taken[instance_id] += 1

    def free(self, instance_id: str) -> None:
        """One of its slots is free again."""
        if (instance := self._instances.get(instance_id)) is not None and self._free_slots(instance) <= 0:
            self.rooms += 1
        self._taken[instance_id] -= 1
        if not self._taken[instance_id]:
            del self._taken[instance_id]
        self._on_room(1)

    def _free_slots(self, instance: Instance) -> int:
        return instance.slots - self._taken[instance.id]

    # What workers ask for

    def start(self, snapshot: Snapshot, step: Step, epoch: int, sink: Sink) -> None:
        """Send the start of a step whose dispatch is written. Its slot is already taken."""
        self._fly(Flight(step, epoch, sink))
        if step.kind == "MODEL":
            call = frames.model_call(model_call(snapshot, step, self._catalog))
            frame = frames.start_frame(step, epoch, call)
        else:
            agent = self._catalog.agents.get(step.agent)
            frame = frames.start_frame(step, epoch, frames.tool_execution(step, agent, snapshot.session.workspace))
        frame.start.traceparent = snapshot.runs[step.run_id].traceparent
        self._send(step.executor_address, frame, step.deadline_time)

    def reattach(self, step: Step, epoch: int, sink: Sink) -> None:
        """Ask the instance that has it what became of it."""
        self.take(step.executor_instance)
        flight = self._fly(Flight(step, epoch, sink))
        if step.executor_instance in self._instances:
            self._ask(flight)
        elif any(i.address == step.executor_address for i in self._instances.values()):
            self._lose(flight)  # another instance is there now: the one that had it died

    def recorded(self, step_id: str, epoch: int, number: int) -> None:
        flight = self._of(step_id, epoch)
        if flight is not None and flight.step.dispatch_number == number:
            self._send(flight.step.executor_address, frames.recorded_frame(step_id, epoch, number))
            self._end(flight)

    def cancel(self, step_id: str, epoch: int, number: int) -> None:
        """End it where it runs, and forget it: its row says CANCELLED already."""
        flight = self._of(step_id, epoch)
        if flight is not None and flight.step.dispatch_number == number:
            self.end(flight.step, epoch)
            self._end(flight)

    def end(self, step: Step, epoch: int) -> None:
        """End it where it runs, whoever started it."""
        for frame in (frames.cancel_frame, frames.recorded_frame):
            self._send(step.executor_address, frame(step.id, epoch, step.dispatch_number))

    def let_go(self, step_id: str, epoch: int) -> None:
        """The session is not ours any more: the next owner will ask."""
        if (flight := self._of(step_id, epoch)) is not None:
            self._end(flight)

    # What links report

    def joined(self, hello: frames_pb2.Hello, tools: frozenset[str], address: str) -> None:
        """An instance says hello: what it holds for us is asked for, what its predecessor held is lost."""
        for old in [i for i in self._instances.values() if i.address == address and i.id != hello.instance_id]:
            del self._instances[old.id]
        instance = self._instances.get(hello.instance_id)
        if instance is None:
            instance = self._instances[hello.instance_id] = Instance(hello, tools, address)
        instance.draining = False
        for flight in [f for f in self._flights.values() if f.step.executor_address == address]:
            if flight.step.executor_instance == hello.instance_id:
                self._ask(flight)
            else:
                self._lose(flight)
        self.rooms += 1
        self._on_room(self._free_slots(instance))

    def left(self, address: str) -> None:
        """The stream to this address broke: nothing new goes there until it is back."""
        for instance in self._instances.values():
            if instance.address == address:
                instance.draining = True

    def receive(self, frame: frames_pb2.ExecutorFrame) -> None:
        flight = self._flights.get(frame.step_id)
        if flight is None or flight.step.dispatch_number != frame.dispatch_number:
            return
        if frame.WhichOneof("frame") == "delta":
            step = flight.step
            self._on_delta(step.tenant, step.session_id, frames.delta_of(frame, step))
        elif (outcome := frames.outcome_of(frame)) is not None:
            flight.sink(outcome)

    def overdue(self, now: int, grace: int) -> None:
        """Give up on what has been silent past its deadline and `grace` (both microseconds)."""
        for flight in list(self._flights.values()):
            if flight.step.deadline_time + grace < now:
                self._lose(flight)

    # Inside

    def _of(self, step_id: str, epoch: int) -> Flight | None:
        """The step's flight, if it is that owner's: an older one may still be about to let go."""
        flight = self._flights.get(step_id)
        return flight if flight is not None and flight.epoch == epoch else None

    def _fly(self, flight: Flight) -> Flight:
        """Its slot is taken already; an older flight of the step is over."""
        if (older := self._flights.get(flight.step.id)) is not None:
            self._end(older)
        self._flights[flight.step.id] = flight
        return flight

    def _ask(self, flight: Flight) -> None:
        self._send(flight.step.executor_address, frames.reattach_frame(flight.step, flight.epoch))

    def _lose(self, flight: Flight) -> None:
        if flight.lost:
            return
        flight.lost = True
        _log.warning(
            "step lost with its executor", step_id=flight.step.id, executor_instance=flight.step.executor_instance
        )
        flight.sink(Outcome(flight.step.id, flight.step.dispatch_number, "LOST"))

    def _end(self, flight: Flight) -> None:
        del self._flights[flight.step.id]
        self.free(flight.step.executor_instance)

    def _send(self, address: str, frame: frames_pb2.OrchestratorFrame, deadline_time: int = 0) -> None:
        if (line := self._lines.get(address)) is not None:
            line.send(frame, deadline_time)
