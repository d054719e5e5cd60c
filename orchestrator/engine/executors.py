"""The steps in the hands of executors: who wants to know of each, and what became of it.

A `Flight` is a step that some executor instance holds for us. It outlives broken streams: only the instance's own
word, its death, or its silence past the deadline ends it. Where steps go is instances.py's part.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from gen.assent.executor.v1 import frames_pb2
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Step, Workspace
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.transcript import model_call
from orchestrator.engine import frames
from orchestrator.engine.files import Files
from orchestrator.engine.instances import Instance, Instances, OnRoom, Reservation
from orchestrator.engine.metrics import LOSSES, REFUSALS
from orchestrator.streaming.feed import Delta

_log = structlog.get_logger("orchestrator.executors")

Sink = Callable[[Outcome], None]
OnDelta = Callable[[str, str, Delta], None]  # tenant, session id, delta

_ABOUT_THE_STEP = (
    frames_pb2.REFUSAL_REASON_WRONG_DIGEST,
    frames_pb2.REFUSAL_REASON_NOT_OFFERED,
    frames_pb2.REFUSAL_REASON_OLDER_EPOCH,
)
# Refusals that say of a start that it never started, and of a reattachment nothing: the step may have run elsewhere.
_OF_WHO_ASKS = (frames_pb2.REFUSAL_REASON_OTHER_INSTANCE, frames_pb2.REFUSAL_REASON_OLDER_EPOCH)


@dataclass(slots=True)
class Flight:
    """One dispatch in an executor's hands, and who wants to know."""

    step: Step
    epoch: int
    sink: Sink
    asked: bool = False  # it may have been there before: what became of it was asked for
    held: bool = False  # the instance says that it has it
    lost: bool = False  # as far as anybody here believes
    overdue_since: int = 0  # when it was first seen to be silent past its deadline, in microseconds


class Line(Protocol):
    """A connection to one address; `ExecutorLink` is one."""

    address: str

    def send(self, frame: frames_pb2.OrchestratorFrame, deadline_time: int) -> None:
        """Soon, if connected; else never: what was not sent is asked for when the executor is back."""


class Executors:
    """All executors of one replica. Links report to it; workers ask it to start, reattach, record and cancel.

    `clock` counts seconds from anywhere.
    """

    def __init__(
        self, catalog: Catalog, *, on_delta: OnDelta, on_room: OnRoom, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._on_delta = on_delta
        self._instances = Instances(on_room, clock)
        self._lines: dict[str, Line] = {}
        self._flights: dict[str, Flight] = {}
        self.files = Files(self._instances.who_reads, self._send)

    def add_line(self, line: Line) -> None:
        self._lines[line.address] = line

    # Placing

    def reserve(self) -> Reservation:
        return Reservation(self._instances)

    def workspace_roots(self) -> list[str]:
        return self._instances.roots()

    def pick(self, step: Step, workspace: Workspace) -> Instance | None:
        return self._instances.pick(step, workspace)

    def free_slots(self) -> int:
        return self._instances.free_slots()

    @property
    def offers(self) -> int:
        """How often something came to be offered that was not."""
        return self._instances.offers

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
        self._instances.take(step.executor_instance)
        flight = self._fly(Flight(step, epoch, sink, asked=True))
        if step.executor_instance in self._instances:
            self._ask(flight)
        elif self._instances.at(step.executor_address) is not None:
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
        held = {(each.step_id, each.dispatch_number) for each in hello.held_steps}
        died = False
        for flight in [f for f in self._flights.values() if f.step.executor_address == address]:
            if flight.step.executor_instance != hello.instance_id:
                died |= self._lose(flight)
                continue
            if (flight.step.id, flight.step.dispatch_number) in held:
                self._hold(flight)
            self._ask(flight)
        if died:
            self._instances.failed(address)
        self._instances.joined(hello, tools, address)

    def left(self, address: str) -> None:
        """The stream to this address broke: nothing new goes there until it is back."""
        self.files.left(address)
        if self._instances.left(address):
            self._instances.failed(address)

    def drains(self, address: str) -> None:
        """It is stopping, and says so: nothing new goes there."""
        self._instances.left(address)

    def says_free(self, address: str, free_slots: int) -> None:
        self._instances.says_free(address, free_slots)

    def never_sent(self, frame: frames_pb2.OrchestratorFrame) -> None:
        """This start was not and will not be given to the stream: nobody else sends it, so the step never started."""
        flight = self._of(frame.step_id, frame.epoch)
        if flight is not None and flight.step.dispatch_number == frame.dispatch_number and not flight.asked:
            flight.sink(Outcome(frame.step_id, frame.dispatch_number, "UNKNOWN"))

    def receive(self, frame: frames_pb2.ExecutorFrame) -> None:
        if frame.HasField("artifact_chunk"):
            self.files.receive(frame)
            return
        flight = self._flights.get(frame.step_id)
        if flight is None or flight.step.dispatch_number != frame.dispatch_number:
            return
        address = flight.step.executor_address
        match frame.WhichOneof("frame"):
            case "delta":
                step = flight.step
                self._on_delta(step.tenant, step.session_id, frames.delta_of(frame, step))
            case "accepted" | "running":
                self._hold(flight)
                self._instances.accepted(address)
                self._find(flight)
            case "refused":
                self._refused(flight, frame)
            case "finished" | "failed":
                self._hold(flight)
                self._instances.worked(address)
                self._tell(flight, frame)
            case "unknown":
                self._tell(flight, frame)

    def overdue(self, now: int, grace: int) -> None:
        """Give up on what stays silent past its deadline (both microseconds).

        `grace` runs from when that was first seen here, and whoever has the step is asked then: this replica may have
        been the one that slept, or may have only just begun.
        """
        for flight in list(self._flights.values()):
            if flight.step.deadline_time >= now:
                flight.overdue_since = 0
            elif not flight.overdue_since:
                flight.overdue_since = now
                self._ask(flight)
            elif flight.overdue_since + grace < now:
                self._lose(flight)

    def try_again(self) -> None:
        """Look whether executors that were left alone may be tried again."""
        self._instances.try_again()

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
        flight.asked = True
        self._send(flight.step.executor_address, frames.reattach_frame(flight.step, flight.epoch))

    def _hold(self, flight: Flight) -> None:
        if not flight.held:
            flight.held = True
            self._instances.holds(flight.step.executor_instance)

    def _tell(self, flight: Flight, frame: frames_pb2.ExecutorFrame) -> None:
        flight.lost = False
        if (outcome := frames.outcome_of(frame)) is not None:
            flight.sink(outcome)

    def _refused(self, flight: Flight, frame: frames_pb2.ExecutorFrame) -> None:
        reason, instance_id = frame.refused.reason, flight.step.executor_instance
        REFUSALS.labels(frames.refusal_word(frame)).inc()
        if flight.asked and reason in _OF_WHO_ASKS:
            if reason == frames_pb2.REFUSAL_REASON_OTHER_INSTANCE:
                self._lose(flight)
            return  # an older epoch's: its next write is fenced
        if reason == frames_pb2.REFUSAL_REASON_NOT_OFFERED:
            self._instances.does_not_offer(instance_id, flight.step)
        elif reason == frames_pb2.REFUSAL_REASON_NO_SLOT:
            self._instances.is_full(instance_id)
        if reason not in _ABOUT_THE_STEP:
            self._instances.refused(flight.step.executor_address)
        self._tell(flight, frame)

    def _find(self, flight: Flight) -> None:
        """It was believed lost, and is not."""
        flight.overdue_since = 0
        if flight.lost:
            flight.lost = False
            flight.sink(Outcome(flight.step.id, flight.step.dispatch_number, "RUNNING"))

    def _lose(self, flight: Flight) -> bool:
        """Whether that is news."""
        if flight.lost:
            return False
        flight.lost = True
        LOSSES.inc()
        _log.warning(
            "step lost with its executor", step_id=flight.step.id, executor_instance=flight.step.executor_instance
        )
        flight.sink(Outcome(flight.step.id, flight.step.dispatch_number, "LOST"))
        return True

    def _end(self, flight: Flight) -> None:
        del self._flights[flight.step.id]
        if flight.held:
            self._instances.forgets(flight.step.executor_instance)
        self._instances.free(flight.step.executor_instance)

    def _send(self, address: str, frame: frames_pb2.OrchestratorFrame, deadline_time: int = 0) -> None:
        if (line := self._lines.get(address)) is not None:
            line.send(frame, deadline_time)
