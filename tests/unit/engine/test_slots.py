"""Whatever happens in whatever order, every slot is counted once, given back once, and every loss is told once."""

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Step
from orchestrator.domain.starting import Place
from orchestrator.engine.instances import Reservation
from tests.unit.domain.build import a_step
from tests.unit.engine.test_executors import ADDRESS, NOWHERE, OTHER_ADDRESS, SNAPSHOT, Ground

# Two addresses; behind the first, processes come and go.
HOMES = {"i1": ADDRESS, "i2": ADDRESS, "i3": OTHER_ADDRESS}
SLOTS = {"i1": 2, "i2": 3, "i3": 2}
GRACE = 10

step_ids = st.sampled_from(["x1", "x2", "x3", "x4"])
instances = st.sampled_from(sorted(HOMES))
epochs = st.integers(1, 3)


@dataclass(eq=False)
class Flying:
    """The model's view of a flight."""

    step: Step
    epoch: int
    heard: list[Outcome] = field(default_factory=list)
    lost: bool = False
    overdue_since: int = 0


class Slots(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        hours = count()  # no executor is left alone for so long: that is no part of this
        self.ground = Ground(clock=lambda: next(hours) * 3600.0)
        self.executors = self.ground.executors
        self.present: dict[str, bool] = {}  # instance id → whether its stream is up
        self.reserved: list[tuple[Reservation, dict[str, str]]] = []
        self.flights: dict[str, Flying] = {}
        self.ended: list[Flying] = []
        self.numbers: Counter[str] = Counter()

    # What the engine does

    @rule(wanted=st.lists(step_ids, min_size=1, max_size=3, unique=True))
    def reserve(self, wanted: list[str]) -> None:
        reservation, taken = self.executors.reserve(), dict[str, str]()
        self.reserved.append((reservation, taken))
        for step_id in wanted:
            has_room = self.free_by_the_model() > 0
            place = reservation(a_step(id=step_id), NOWHERE)
            assert isinstance(place, Place) == has_room
            if isinstance(place, Place):
                assert self.present[place.instance]
                assert HOMES[place.instance] == place.address
                taken[step_id] = place.instance

    @precondition(lambda self: self.reserved)
    @rule(data=st.data())
    def abandon(self, data: st.DataObject) -> None:
        reservation, _ = self.reserved.pop(data.draw(st.integers(0, len(self.reserved) - 1)))
        reservation.abandon()

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), epoch=epochs)
    def write_and_start(self, data: st.DataObject, epoch: int) -> None:
        reservation, taken = self.reserved.pop(data.draw(st.integers(0, len(self.reserved) - 1)))
        started = data.draw(st.lists(st.sampled_from(sorted(taken)), unique=True)) if taken else []
        for step_id in started:
            self.numbers[step_id] += 1
            flying = self.new_flight(step_id, taken[step_id], epoch)
            self.executors.start(SNAPSHOT, flying.step, epoch, flying.heard.append)
        reservation.settle(started)

    @rule(step_id=step_ids, instance=instances, epoch=epochs)
    def take_over(self, step_id: str, instance: str, epoch: int) -> None:
        flying = self.new_flight(step_id, instance, epoch)
        self.executors.reattach(flying.step, epoch, flying.heard.append)
        others = [i for i in self.present if HOMES[i] == HOMES[instance]]
        flying.lost = bool(others) and instance not in others

    @rule(step_id=step_ids, epoch=epochs, behind=st.integers(0, 1), how=st.sampled_from(["recorded", "cancel"]))
    def settle(self, step_id: str, epoch: int, behind: int, how: str) -> None:
        number = self.numbers[step_id] - behind
        getattr(self.executors, how)(step_id, epoch, number)
        flying = self.flights.get(step_id)
        if flying and (flying.epoch, flying.step.dispatch_number) == (epoch, number):
            self.ended.append(self.flights.pop(step_id))

    @rule(step_id=step_ids, epoch=epochs)
    def let_go(self, step_id: str, epoch: int) -> None:
        self.executors.let_go(step_id, epoch)
        if step_id in self.flights and self.flights[step_id].epoch == epoch:
            self.ended.append(self.flights.pop(step_id))

    # What executors do

    @rule(instance=instances)
    def join(self, instance: str) -> None:
        self.ground.join(instance, slots=SLOTS[instance], address=HOMES[instance])
        for other in [i for i in self.present if HOMES[i] == HOMES[instance] and i != instance]:
            del self.present[other]
        self.present[instance] = True
        for flying in self.flights.values():
            home = flying.step.executor_address
            flying.lost |= home == HOMES[instance] and flying.step.executor_instance != instance

    @rule(address=st.sampled_from([ADDRESS, OTHER_ADDRESS]))
    def leave(self, address: str) -> None:
        self.executors.left(address)
        self.present |= {i: False for i in self.present if HOMES[i] == address}

    @rule(step_id=step_ids, behind=st.integers(-1, 1))
    def finish(self, step_id: str, behind: int) -> None:
        number = self.numbers[step_id] - behind
        flying = self.flights.get(step_id)
        wanted = flying is not None and flying.step.dispatch_number == number
        before = len(flying.heard) if flying else 0
        self.ground.finish(step_id, number)
        if flying:
            assert len(flying.heard) - before == wanted
            flying.lost &= not wanted

    @rule(now=st.integers(0, 300))
    def time_passes(self, now: int) -> None:
        self.executors.overdue(now, GRACE)
        for flying in self.flights.values():
            if now <= flying.step.deadline_time:
                flying.overdue_since = 0
            elif not flying.overdue_since:
                flying.overdue_since = now
            else:
                flying.lost |= now > flying.overdue_since + GRACE

    # What must hold

    @invariant()
    def every_slot_is_counted_once(self) -> None:
        assert self.ground.free() == self.free_by_the_model()

    @invariant()
    def every_loss_is_told_once_and_only_to_who_has_it(self) -> None:
        for flying in [*self.flights.values(), *self.ended]:
            since = max((n for n, o in enumerate(flying.heard, 1) if o.kind == "SUCCEEDED"), default=0)
            losses = [o for o in flying.heard[since:] if o.kind == "LOST"]
            assert len(losses) == flying.lost
            assert all(o.dispatch_number == flying.step.dispatch_number for o in flying.heard)

    def teardown(self) -> None:
        """When all have let go, all is free."""
        for reservation, _ in self.reserved:
            reservation.abandon()
        for step_id, flying in self.flights.items():
            self.executors.let_go(step_id, flying.epoch)
        assert self.ground.free() == sum(SLOTS[i] for i, is_up in self.present.items() if is_up)

    def new_flight(self, step_id: str, instance: str, epoch: int) -> Flying:
        step = a_step(
            id=step_id,
            dispatch_number=self.numbers[step_id],
            executor_instance=instance,
            executor_address=HOMES[instance],
            deadline_time=100 + 50 * len(self.ended),
        )
        if step_id in self.flights:
            self.ended.append(self.flights[step_id])
        self.flights[step_id] = Flying(replace(step), epoch)
        return self.flights[step_id]

    def free_by_the_model(self) -> int:
        held = Counter(instance for _, taken in self.reserved for instance in taken.values())
        held.update(flying.step.executor_instance for flying in self.flights.values())
        return sum(max(0, SLOTS[i] - held[i]) for i, is_up in self.present.items() if is_up)


TestSlots = Slots.TestCase
TestSlots.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
