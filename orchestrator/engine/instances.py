"""The executor instances this replica knows: what each offers, how many more steps fit, and whether it is left alone.

Slots are shared with other orchestrators: what an instance says is free counts what all of them have there.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from gen.assent.executor.v1 import frames_pb2
from orchestrator.domain.records import Step, Workspace
from orchestrator.domain.starting import NoPlace, Place
from orchestrator.engine.breaker import Breaker
from orchestrator.engine.metrics import PAUSE

_log = structlog.get_logger("orchestrator.executors")

FULL_SECONDS = 3.0  # longer than an executor lets pass without saying how many slots are free

OnRoom = Callable[[int], None]  # how many slots are free that were not


class Instance:
    """One executor instance, alive as far as this replica knows, and what it offers."""

    def __init__(self, hello: frames_pb2.Hello, tools: frozenset[str], address: str) -> None:
        self.id = hello.instance_id
        self.address = address
        self.roots = list(hello.workspace_root_ids)
        self.slots = hello.slots
        self.tools = tools
        self.draining = False
        self.others = 0  # slots that others have there
        self.full_until = 0.0  # it refused a step for want of a slot, and has not said since how many are free
        self.recorded = 0  # outcomes of ours it was told to forget since it last said how many slots are free
        self.not_offered: set[str] = set()  # models and tools it has refused

    def offers(self, step: Step, workspace: Workspace) -> bool:
        if self.draining or (step.model if step.kind == "MODEL" else step.tool) in self.not_offered:
            return False
        if step.kind == "MODEL":
            return True
        return step.tool in self.tools and (not workspace.root_id or workspace.root_id in self.roots)


class Instances:
    """All instances, and their slots as far as this replica takes them or hears of them."""

    def __init__(self, on_room: OnRoom, clock: Callable[[], float]) -> None:
        self._on_room = on_room
        self._clock = clock
        self.rooms = 0  # how often there was room where there had been none
        self.offers = 0  # how often something came to be offered that was not
        self._instances: dict[str, Instance] = {}
        self._breakers: dict[str, Breaker] = {}  # by address
        self._taken: Counter[str] = Counter()  # slots by instance id, reserved or in flight; who is away keeps its own
        self._held: Counter[str] = Counter()  # of these, the ones the instance itself says it has

    def __contains__(self, instance_id: str) -> bool:
        return instance_id in self._instances

    def at(self, address: str) -> Instance | None:
        return next((i for i in self._instances.values() if i.address == address), None)

    def roots(self) -> list[str]:
        return [root for instance in self._instances.values() for root in instance.roots]

    def who_reads(self, root_id: str) -> str:
        """The address of a connected instance that offers this workspace root; empty: none does."""
        found = (i.address for i in self._instances.values() if root_id in i.roots and not i.draining)
        return next(found, "")

    # Who is there

    def joined(self, hello: frames_pb2.Hello, tools: frozenset[str], address: str) -> None:
        for old in [i for i in self._instances.values() if i.address == address and i.id != hello.instance_id]:
            del self._instances[old.id]
        instance = self._instances.get(hello.instance_id)
        if instance is None:
            instance = self._instances[hello.instance_id] = Instance(hello, tools, address)
        instance.draining = False
        instance.not_offered.clear()
        self.offers += 1
        self.rooms += 1
        self._on_room(self._free_slots(instance))

    def left(self, address: str) -> bool:
        """Nothing new goes there until it is back. Whether it was there until now."""
        instance = self.at(address)
        if instance is None or instance.draining:
            return False
        instance.draining = True
        return True

    # Slots

    def pick(self, step: Step, workspace: Workspace) -> Instance | None:
        """The instance with the most free slots of those that offer what the step needs."""
        able = [i for i in self._instances.values() if self._free_slots(i) > 0 and self._is_able(i, step, workspace)]
        return max(able, key=self._free_slots, default=None)

    def anybody_offers(self, step: Step, workspace: Workspace) -> bool:
        """Whether it is only for want of a free slot that there is no place for it."""
        return any(self._is_able(instance, step, workspace) for instance in self._instances.values())

    def free_slots(self) -> int:
        """How many steps would find room now, if they need nothing special."""
        return sum(max(0, self._free_slots(i)) for i in self._instances.values() if not i.draining)

    def _is_able(self, instance: Instance, step: Step, workspace: Workspace) -> bool:
        return instance.offers(step, workspace) and self._breaker(instance.address).admits(self._clock())

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

    def holds(self, instance_id: str) -> None:
        """It says that it has a step of ours."""
        self._held[instance_id] += 1

    def forgets(self, instance_id: str) -> None:
        """It is told to forget that step, or it is nothing to us any more."""
        self._held[instance_id] -= 1
        if not self._held[instance_id]:
            del self._held[instance_id]
        if (instance := self._instances.get(instance_id)) is not None:
            instance.recorded += 1

    def says_free(self, address: str, free_slots: int) -> None:
        """It says how many slots are free; what it has beside ours is somebody else's."""
        if (instance := self.at(address)) is None:
            return
        before = max(0, self._free_slots(instance))
        # What it was just told to forget may be counted still: better a refusal now and then than an idle slot.
        instance.others = max(0, instance.slots - free_slots - self._held[instance.id] - instance.recorded)
        instance.recorded = 0
        instance.full_until = 0.0
        if (more := self._free_slots(instance) - before) > 0:
            self.rooms += not before
            self._on_room(more)

    def is_full(self, instance_id: str) -> None:
        """It refused a step for want of a slot: others were faster. It says so itself when that changes."""
        if (instance := self._instances.get(instance_id)) is not None:
            instance.full_until = self._clock() + FULL_SECONDS

    def does_not_offer(self, instance_id: str, step: Step) -> None:
        if (instance := self._instances.get(instance_id)) is not None:
            instance.not_offered.add(step.model if step.kind == "MODEL" else step.tool)

    def _free_slots(self, instance: Instance) -> int:
        if instance.full_until and self._clock() < instance.full_until:
            return 0
        return instance.slots - instance.others - self._taken[instance.id]

    # Faults

    def tried(self, address: str) -> None:
        """A step goes there."""
        self._breaker(address).admitted(self._clock())

    def accepted(self, address: str) -> None:
        self._breaker(address).accepted()

    def worked(self, address: str) -> None:
        """A step came to an outcome there."""
        if self._breaker(address).worked():
            PAUSE.labels(address).set(0)
            _log.info("executor gets steps again", address=address)
            self.offers += 1
            self._tell_of_room(address)

    def failed(self, address: str) -> None:
        """Its stream broke, or its process died under its steps."""
        if self._breaker(address).failed(self._clock()):
            self._tell_of_pause(address)

    def refused(self, address: str) -> None:
        if self._breaker(address).refused(self._clock()):
            self._tell_of_pause(address)

    def try_again(self) -> None:
        """Of those that are left alone, let one step go to each whose pause has ended; ask this every second or so."""
        now = self._clock()
        for address, breaker in self._breakers.items():
            if not breaker.is_closed and breaker.admits(now):
                self._tell_of_room(address, at_most=1)

    def _breaker(self, address: str) -> Breaker:
        return self._breakers.setdefault(address, Breaker())

    def _tell_of_pause(self, address: str) -> None:
        seconds = self._breaker(address).pause_seconds
        PAUSE.labels(address).set(seconds)
        _log.warning("executor keeps failing and is left alone", address=address, seconds=seconds)

    def _tell_of_room(self, address: str, at_most: int = 1_000_000) -> None:
        if (instance := self.at(address)) is not None and (free := self._free_slots(instance)) > 0:
            self.rooms += 1
            self._on_room(min(free, at_most))


class Reservation:
    """Slots taken for the steps of one change, until it is known whether it was written."""

    __slots__ = ("_instances", "_rooms", "_taken", "lacks_slot")

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        self._rooms = instances.rooms
        self._taken: dict[str, str] = {}  # step id → instance id
        self.lacks_slot = False  # for want of a slot, and of nothing else, there was no place for a step

    def __call__(self, step: Step, workspace: Workspace) -> Place | NoPlace:
        instance = self._instances.pick(step, workspace)
        if instance is None:
            if self._instances.anybody_offers(step, workspace):
                self.lacks_slot = True
                return NoPlace("NO_SLOT")
            return NoPlace("NO_EXECUTOR")
        self._instances.take(instance.id)
        self._instances.tried(instance.address)
        self._taken[step.id] = instance.id
        return Place(instance.id, instance.address, next(iter(instance.roots), ""))

    def may_read(self, workspace: Workspace) -> bool:
        return bool(self._instances.who_reads(workspace.root_id))

    def settle(self, started: Sequence[str]) -> None:
        """It was written and these were started: their slots are the flights' now."""
        for step_id in started:
            self._taken.pop(step_id, None)
        self.abandon()

    def abandon(self) -> None:
        taken, self._taken = self._taken, {}
        for instance_id in taken.values():
            self._instances.free(instance_id)

    @property
    def missed_room(self) -> bool:
        """Whether executors got room since it was made."""
        return self._rooms != self._instances.rooms
