"""Which step goes to which executor, whose slots it takes, and what ends a flight."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.v1 import delta_pb2, tool_call_pb2
from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Session, Step, Workspace
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.starting import NoPlace, Place
from orchestrator.engine.executors import Executors
from orchestrator.engine.instances import Reservation
from orchestrator.streaming.feed import Delta
from tests.unit.domain.build import a_run, a_step, catalog

ADDRESS, OTHER_ADDRESS = "127.0.0.1:1", "127.0.0.1:2"
NOWHERE = Workspace()


class FakeLine:
    """Keeps what would be sent."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.frames: list[frames_pb2.OrchestratorFrame] = []

    def send(self, frame: frames_pb2.OrchestratorFrame, deadline_time: int) -> None:
        self.frames.append(frame)

    @property
    def kinds(self) -> list[tuple[str, int, str | None]]:
        return [(f.step_id, f.dispatch_number, f.WhichOneof("frame")) for f in self.frames]


class Ground:
    """Executors on two lines, and what came back from them."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.deltas: list[Delta] = []
        self.rooms = 0
        self.seconds = 0.0  # what executors that fail are left alone by
        self.on_room: Callable[[int], None] = lambda slots: None
        self.executors = Executors(
            catalog(),
            on_delta=lambda _t, _s, delta: self.deltas.append(delta),
            on_room=self._room,
            clock=clock or (lambda: self.seconds),
        )
        self.lines = {address: FakeLine(address) for address in (ADDRESS, OTHER_ADDRESS)}
        for line in self.lines.values():
            self.executors.add_line(line)
        self.outcomes: list[Outcome] = []

    def _room(self, slots: int) -> None:
        self.rooms += slots
        self.on_room(slots)

    @property
    def line(self) -> FakeLine:
        return self.lines[ADDRESS]

    def join(
        self,
        instance: str = "i1",
        *,
        slots: int = 2,
        address: str = ADDRESS,
        tools: Sequence[str] = ("write_file",),
        roots: Sequence[str] = (),
        held: Sequence[str] = (),
    ) -> None:
        hello = frames_pb2.Hello(instance_id=instance, slots=slots, workspace_root_ids=roots)
        hello.held_steps.extend(frames_pb2.HeldStep(step_id=step_id, dispatch_number=1) for step_id in held)
        self.executors.joined(hello, frozenset(tools), address)

    def reserve(self, step: Step) -> Reservation:
        reservation = self.executors.reserve()
        assert isinstance(reservation(step, NOWHERE), Place)
        return reservation

    def fly(self, step_id: str = "x1", number: int = 1, epoch: int = 1, **fields: object) -> Step:
        """A step dispatched, written and started where there was room."""
        step = a_step(id=step_id, dispatch_number=number, deadline_time=1_000, **fields)
        reservation = self.executors.reserve()
        place = reservation(step, NOWHERE)
        assert isinstance(place, Place)
        step = replace(step, executor_instance=place.instance, executor_address=place.address)
        self.executors.start(SNAPSHOT, step, epoch, self.outcomes.append)
        reservation.settle([step_id])
        return step

    def free(self) -> int:
        """How many more steps would find room now."""
        probe = self.executors.reserve()
        count = 0
        while isinstance(probe(a_step(id=f"probe{count}"), NOWHERE), Place):
            count += 1
        probe.abandon()
        return count

    def finish(self, step_id: str = "x1", number: int = 1) -> None:
        result = step_pb2.Finished(tool=tool_call_pb2.ToolResult(content="ok"))
        frame = frames_pb2.ExecutorFrame(step_id=step_id, epoch=1, dispatch_number=number, finished=result)
        self.executors.receive(frame)

    def say(self, kind: str, step_id: str = "x1", number: int = 1) -> None:
        frame = frames_pb2.ExecutorFrame(step_id=step_id, epoch=1, dispatch_number=number)
        getattr(frame, kind).SetInParent()
        self.executors.receive(frame)

    def refuse(self, reason: str, step_id: str = "x1", number: int = 1) -> None:
        frame = frames_pb2.ExecutorFrame(step_id=step_id, epoch=1, dispatch_number=number)
        frame.refused.reason = frames_pb2.RefusalReason.Value(f"REFUSAL_REASON_{reason}")
        self.executors.receive(frame)


SNAPSHOT = Snapshot(Session("t", "s1"), runs={"r1": a_run()})


@pytest.fixture
def ground() -> Ground:
    return Ground()


# Placing


def test_a_step_goes_where_most_slots_are_free(ground: Ground) -> None:
    ground.join("i1", slots=2)
    ground.join("i2", slots=4, address=OTHER_ADDRESS)
    chosen = [ground.fly(f"x{n}").executor_instance for n in range(6)]
    assert chosen.count("i1") == 2
    assert chosen[:2] == ["i2", "i2"]
    assert ground.executors.pick(a_step(), NOWHERE) is None


def test_a_tool_goes_only_to_who_offers_it_and_a_model_call_anywhere(ground: Ground) -> None:
    ground.join(tools=["read_file"])
    assert ground.executors.pick(a_step(tool="write_file"), NOWHERE) is None
    assert ground.executors.pick(a_step(tool="read_file"), NOWHERE)
    assert ground.executors.pick(a_step(kind="MODEL", tool=""), NOWHERE)


def test_a_step_that_touches_files_goes_only_to_executors_of_its_root(ground: Ground) -> None:
    ground.join("i1", roots=["root-a"], slots=9)
    ground.join("i2", roots=["root-b"], address=OTHER_ADDRESS)
    there = ground.executors.pick(a_step(), Workspace("root-b", "dir"))
    assert there is not None
    assert there.id == "i2"
    assert ground.executors.pick(a_step(), Workspace("root-c", "dir")) is None
    assert ground.executors.pick(a_step(kind="MODEL"), Workspace("root-c", "dir"))


def test_nothing_is_placed_where_the_stream_is_broken_until_it_is_back(ground: Ground) -> None:
    ground.join()
    ground.executors.left(ADDRESS)
    assert ground.free() == 0
    ground.join()
    assert ground.free() == 2


# Slots


def test_a_slot_reserved_for_a_change_that_was_not_written_is_free_again(ground: Ground) -> None:
    ground.join()
    reservation = ground.reserve(a_step())
    assert ground.free() == 1
    reservation.abandon()
    reservation.abandon()
    assert ground.free() == 2


def test_of_what_was_reserved_only_what_started_keeps_its_slot(ground: Ground) -> None:
    ground.join(slots=3)
    reservation = ground.executors.reserve()
    for step_id in ("x1", "x2"):
        assert isinstance(reservation(a_step(id=step_id), NOWHERE), Place)
    reservation.settle(["x1"])
    assert ground.free() == 2


def test_a_flight_keeps_its_slot_until_its_outcome_is_recorded(ground: Ground) -> None:
    ground.join()
    ground.fly()
    ground.finish()
    assert ground.free() == 1
    ground.executors.recorded("x1", 1, 1)
    ground.executors.recorded("x1", 1, 1)
    assert ground.free() == 2


def test_every_slot_that_comes_free_is_told(ground: Ground) -> None:
    ground.join("i1", slots=2)
    ground.join("i2", slots=3, address=OTHER_ADDRESS)
    assert ground.rooms == 5
    ground.rooms = 0
    for name in ("x1", "x2"):
        ground.fly(name)
    ground.executors.recorded("x1", 1, 1)
    ground.executors.let_go("x2", 1)
    assert ground.rooms == 2
    ground.reserve(a_step(id="x3")).abandon()
    assert ground.rooms == 3
    ground.fly("x4")
    ground.executors.left(ADDRESS)
    ground.executors.left(OTHER_ADDRESS)
    ground.join("i2", slots=3, address=OTHER_ADDRESS)
    assert ground.rooms == 5


def test_a_reservation_knows_whether_there_was_room_where_there_had_been_none(ground: Ground) -> None:
    ground.join(slots=1)
    ground.fly("x1")
    late = ground.executors.reserve()
    assert late(a_step(id="x2"), NOWHERE) == NoPlace("NO_SLOT")
    assert not late.missed_room
    ground.executors.recorded("x1", 1, 1)
    assert late.missed_room


def test_steps_taken_over_before_their_executor_is_known_count_when_it_joins(ground: Ground) -> None:
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS)
    ground.executors.reattach(step, 2, ground.outcomes.append)
    ground.join(slots=2)
    assert ground.free() == 1
    ground.executors.recorded("x1", 2, 1)
    assert ground.free() == 2


def test_a_slot_reserved_at_an_instance_that_comes_and_goes_is_counted_once(ground: Ground) -> None:
    ground.join("i1")
    reservation = ground.reserve(a_step(id="x1"))
    ground.join("i2")
    ground.join("i1")
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS)
    ground.executors.start(SNAPSHOT, step, 1, ground.outcomes.append)
    reservation.settle(["x1"])
    assert ground.free() == 1
    ground.executors.recorded("x1", 1, 1)
    assert ground.free() == 2


def test_a_step_whose_start_cannot_be_said_gives_its_slot_back(ground: Ground) -> None:
    ground.join()
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS, arguments_json="\ud800")
    reservation = ground.reserve(step)
    with pytest.raises(UnicodeEncodeError):
        ground.executors.start(SNAPSHOT, step, 1, ground.outcomes.append)
    reservation.settle(["x1"])
    ground.executors.let_go("x1", 1)
    assert ground.free() == 2


# Whose flight it is


def test_a_newer_dispatch_takes_the_place_of_the_older(ground: Ground) -> None:
    ground.join()
    ground.fly("x1", 1)
    ground.fly("x1", 2)
    assert ground.free() == 1
    ground.finish("x1", 1)
    assert ground.outcomes == []
    ground.executors.recorded("x1", 1, 1)
    ground.executors.cancel("x1", 1, 1)
    assert ground.free() == 1
    ground.finish("x1", 2)
    assert [o.dispatch_number for o in ground.outcomes] == [2]


def test_an_owner_that_was_fenced_lets_go_of_nothing_its_successor_holds(ground: Ground) -> None:
    """Both in one replica: its lease lapsed, another replica claimed and released, then it claimed again."""
    ground.join()
    ground.fly("x1", 1, epoch=1)
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS)
    ground.executors.reattach(step, 3, ground.outcomes.append)
    assert ground.free() == 1
    ground.executors.let_go("x1", 1)
    ground.executors.recorded("x1", 1, 1)
    ground.executors.cancel("x1", 1, 1)
    assert ground.line.kinds == [("x1", 1, "start"), ("x1", 1, "reattach")]
    ground.finish()
    assert len(ground.outcomes) == 1
    ground.executors.let_go("x1", 3)
    assert ground.free() == 2


def test_a_flight_that_was_let_go_is_heard_of_no_more(ground: Ground) -> None:
    ground.join()
    ground.fly()
    ground.executors.let_go("x1", 1)
    ground.finish()
    ground.executors.overdue(10**18, 0)
    assert ground.outcomes == []
    assert ground.line.kinds == [("x1", 1, "start")]


def test_a_cancelled_flight_is_ended_where_it_runs_and_forgotten(ground: Ground) -> None:
    ground.join()
    ground.fly()
    ground.executors.cancel("x1", 1, 1)
    assert ground.line.kinds == [("x1", 1, "start"), ("x1", 1, "cancel"), ("x1", 1, "recorded")]
    ground.finish()
    assert ground.outcomes == []


# Frames


def test_late_frames_of_another_dispatch_and_of_unknown_steps_change_nothing(ground: Ground) -> None:
    ground.join()
    ground.fly("x1", 2)
    ground.finish("x1", 1)
    ground.finish("x1", 3)
    ground.finish("x7", 1)
    delta = frames_pb2.Delta(kind=delta_pb2.DELTA_KIND_TEXT, text="old")
    ground.executors.receive(frames_pb2.ExecutorFrame(step_id="x1", dispatch_number=1, delta=delta))
    assert (ground.outcomes, ground.deltas) == ([], [])


def test_a_delta_says_which_dispatch_it_belongs_to(ground: Ground) -> None:
    ground.join()
    ground.fly("x1", 2, subtask_id="k1", attempt_id="a1")
    delta = frames_pb2.Delta(kind=delta_pb2.DELTA_KIND_TOOL_ARGUMENTS, text="{", tool="write_file", call_id="c1")
    ground.executors.receive(frames_pb2.ExecutorFrame(step_id="x1", dispatch_number=2, delta=delta))
    assert ground.deltas == [Delta("r1", "k1", "a1", "x1", 2, "TOOL_ARGUMENTS", "{", "write_file", "c1")]


def test_frames_that_are_no_outcome_end_nothing(ground: Ground) -> None:
    ground.join()
    ground.fly()
    for content in ("accepted", "running", "progress", "artifact_chunk"):
        frame = frames_pb2.ExecutorFrame(step_id="x1", dispatch_number=1)
        getattr(frame, content).SetInParent()
        ground.executors.receive(frame)
    assert ground.outcomes == []


# Losing


def test_what_an_instance_held_is_lost_once_when_another_answers_at_its_address(ground: Ground) -> None:
    ground.join("i1")
    ground.fly("x1")
    ground.join("i2")
    ground.join("i3")
    ground.executors.overdue(10**18, 0)
    assert [(o.step_id, o.dispatch_number, o.kind) for o in ground.outcomes] == [("x1", 1, "LOST")]
    assert ground.free() == 2


def test_what_an_instance_holds_is_asked_for_when_it_is_back(ground: Ground) -> None:
    ground.join("i1")
    ground.fly("x1")
    ground.executors.left(ADDRESS)
    ground.join("i1")
    assert ground.outcomes == []
    assert ground.line.kinds == [("x1", 1, "start"), ("x1", 1, "reattach")]
    assert ground.line.frames[-1].reattach.target_instance_id == "i1"
    assert ground.free() == 1


def test_another_executors_coming_costs_nobody_else_anything(ground: Ground) -> None:
    ground.join("i1")
    ground.fly("x1")
    ground.join("i2", address=OTHER_ADDRESS)
    assert ground.outcomes == []


def test_a_step_whose_instance_is_known_to_be_gone_is_lost_when_it_is_taken_over(ground: Ground) -> None:
    ground.join("i2")
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS)
    ground.executors.reattach(step, 2, ground.outcomes.append)
    assert [o.kind for o in ground.outcomes] == ["LOST"]
    assert ground.line.frames == []


def test_a_step_whose_executor_nobody_has_heard_of_waits_for_it_until_it_is_overdue(ground: Ground) -> None:
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS, deadline_time=1_000)
    ground.executors.reattach(step, 2, ground.outcomes.append)
    for now in (1_000, 1_001, 1_101):
        ground.executors.overdue(now, 100)
        assert ground.outcomes == []
    ground.executors.overdue(1_102, 100)
    ground.executors.overdue(9_999, 100)
    assert [o.kind for o in ground.outcomes] == ["LOST"]


def test_who_has_slept_past_a_deadline_asks_before_it_gives_up(ground: Ground) -> None:
    ground.join()
    ground.fly("x1")
    ground.executors.overdue(50_000, 100)
    assert ground.line.kinds[-1] == ("x1", 1, "reattach")
    ground.finish()
    assert [o.kind for o in ground.outcomes] == ["SUCCEEDED"]


def test_what_is_said_to_run_on_past_its_deadline_is_asked_for_again_and_not_lost(ground: Ground) -> None:
    ground.join()
    ground.fly("x1")
    for now in range(2_000, 3_000, 50):
        ground.executors.overdue(now, 100)
        ground.say("running")
    assert ground.outcomes == []
    ground.executors.overdue(3_000, 100)
    ground.executors.overdue(3_101, 100)
    assert [o.kind for o in ground.outcomes] == ["LOST"]


def test_what_was_believed_lost_and_is_found_running_is_told_so(ground: Ground) -> None:
    ground.join("i1")
    ground.fly("x1")
    ground.join("i2")
    ground.join("i1")
    ground.say("running")
    assert [o.kind for o in ground.outcomes] == ["LOST", "RUNNING"]
    ground.join("i2")
    assert [o.kind for o in ground.outcomes] == ["LOST", "RUNNING", "LOST"]


# No place


def test_why_there_is_no_place_is_said(ground: Ground) -> None:
    def why(step: Step, workspace: Workspace = NOWHERE) -> object:
        return ground.executors.reserve()(step, workspace)

    nobody, nowhere_free = NoPlace("NO_EXECUTOR"), NoPlace("NO_SLOT")
    assert why(a_step()) == nobody
    ground.join(slots=1, roots=["root-a"])
    ground.fly("x1")
    assert why(a_step()) == nowhere_free
    assert why(a_step(tool="no_such_tool")) == nobody
    assert why(a_step(), Workspace("root-b", "dir")) == nobody
    assert why(a_step(kind="MODEL"), Workspace("root-b", "dir")) == nowhere_free
    ground.executors.left(ADDRESS)
    assert why(a_step()) == nobody


# Refused


@pytest.mark.parametrize("reason", ["NO_SLOT", "OLDER_EPOCH", "OTHER_INSTANCE", "DRAINING", "NOT_OFFERED"])
def test_a_start_that_was_refused_never_started(ground: Ground, reason: str) -> None:
    ground.join()
    ground.fly("x1")
    ground.refuse(reason)
    assert [(o.kind, o.failure.reason) for o in ground.outcomes] == [("REFUSED", reason)]


def test_that_another_instance_refuses_to_say_what_became_of_a_step_does_not_prove_that_it_never_started(
    ground: Ground,
) -> None:
    ground.join()
    ground.fly("x1")
    ground.executors.left(ADDRESS)
    ground.join()
    ground.refuse("OTHER_INSTANCE")
    assert [o.kind for o in ground.outcomes] == ["LOST"]


def test_who_is_told_that_a_newer_owner_asks_concludes_nothing(ground: Ground) -> None:
    ground.join()
    step = a_step(id="x1", dispatch_number=1, executor_instance="i1", executor_address=ADDRESS)
    ground.executors.reattach(step, 2, ground.outcomes.append)
    ground.refuse("OLDER_EPOCH")
    assert ground.outcomes == []


def test_a_start_that_was_never_sent_never_started(ground: Ground) -> None:
    ground.join()
    ground.fly("x1")
    [start] = ground.line.frames
    ground.executors.never_sent(start)
    assert [o.kind for o in ground.outcomes] == ["UNKNOWN"]


def test_of_a_step_that_was_asked_for_nobody_says_that_it_was_never_sent(ground: Ground) -> None:
    ground.join()
    ground.fly("x1")
    [start] = ground.line.frames
    ground.executors.left(ADDRESS)
    ground.join()
    ground.executors.never_sent(start)
    assert ground.outcomes == []


def test_that_another_start_was_never_sent_says_nothing_of_this_one(ground: Ground) -> None:
    ground.join()
    ground.fly("x1", 2)
    for epoch, number in ((1, 1), (2, 2)):
        ground.executors.never_sent(frames_pb2.OrchestratorFrame(step_id="x1", epoch=epoch, dispatch_number=number))
    assert ground.outcomes == []


def test_a_model_or_tool_that_was_refused_as_not_offered_goes_elsewhere(ground: Ground) -> None:
    ground.join("i1", slots=9)
    ground.join("i2", slots=1, address=OTHER_ADDRESS)
    assert ground.fly("x1").executor_instance == "i1"
    ground.refuse("NOT_OFFERED")
    assert ground.fly("x2").executor_instance == "i2"
    assert ground.executors.pick(a_step(), NOWHERE) is None
    assert ground.executors.pick(a_step(kind="MODEL"), NOWHERE)
    ground.join("i1", slots=9)
    assert ground.fly("x3").executor_instance == "i1"


# Slots that others have


def test_slots_that_others_have_are_not_offered(ground: Ground) -> None:
    ground.join(slots=4)
    ground.fly("x1")
    ground.say("accepted")
    ground.executors.says_free(ADDRESS, 1)  # two are somebody else's
    assert ground.free() == 1
    ground.executors.says_free(ADDRESS, 3)
    assert ground.free() == 3


def test_a_start_on_its_way_is_counted_once(ground: Ground) -> None:
    ground.join(slots=4)
    ground.fly("x1")
    ground.executors.says_free(ADDRESS, 4)  # it has not arrived
    assert ground.free() == 3
    ground.say("accepted")
    ground.executors.says_free(ADDRESS, 3)
    assert ground.free() == 3


def test_an_outcome_on_its_way_to_be_forgotten_is_nobody_elses(ground: Ground) -> None:
    ground.join(slots=1)
    ground.fly("x1")
    ground.finish()
    ground.executors.recorded("x1", 1, 1)
    ground.executors.says_free(ADDRESS, 0)  # said before it heard so
    assert ground.free() == 1
    ground.executors.says_free(ADDRESS, 0)  # so it is somebody else's by now
    assert ground.free() == 0


def test_steps_that_it_says_it_holds_when_it_is_back_are_ours(ground: Ground) -> None:
    ground.join(slots=4)
    ground.fly("x1")
    ground.executors.left(ADDRESS)
    ground.join(slots=4, held=["x1"])
    ground.executors.says_free(ADDRESS, 3)
    assert ground.free() == 3


def test_room_that_others_make_is_told_with_how_much_it_is(ground: Ground) -> None:
    ground.join(slots=4)
    late = ground.executors.reserve()
    ground.executors.says_free(ADDRESS, 0)
    ground.rooms = 0
    assert not late.missed_room
    ground.executors.says_free(ADDRESS, 3)
    assert ground.rooms == 3
    assert late.missed_room
    ground.executors.says_free(ADDRESS, 2)
    assert ground.rooms == 3


def test_a_refusal_for_want_of_a_slot_holds_until_the_executor_says_otherwise(ground: Ground) -> None:
    ground.join(slots=4)
    ground.fly("x1")
    ground.refuse("NO_SLOT")
    ground.executors.recorded("x1", 1, 1)
    assert ground.free() == 0
    ground.executors.says_free(ADDRESS, 2)
    assert ground.free() == 2


# An executor that keeps failing


def test_an_executor_whose_stream_keeps_breaking_is_left_alone_and_then_tried_with_one_step(ground: Ground) -> None:
    ground.join("i1", slots=9)
    ground.join("i2", slots=2, address=OTHER_ADDRESS)
    for _ in range(3):
        ground.executors.left(ADDRESS)
        ground.join("i1", slots=9)
    assert ground.fly("x1").executor_instance == "i2"  # others go on
    ground.rooms = 0
    ground.executors.try_again()
    assert ground.rooms == 0
    ground.seconds += 1
    ground.executors.try_again()
    assert ground.rooms == 1
    assert ground.fly("x2").executor_instance == "i1"
    assert ground.fly("x3").executor_instance == "i2"
    assert ground.executors.pick(a_step(), NOWHERE) is None
    ground.finish("x2")
    assert ground.free() == 8


def test_an_executor_that_stops_as_it_said_has_not_failed(ground: Ground) -> None:
    for _ in range(9):
        ground.join()
        ground.executors.drains(ADDRESS)
        assert ground.free() == 0
        ground.executors.left(ADDRESS)
    ground.join()
    assert ground.free() == 2


def test_an_executor_that_dies_under_its_steps_again_and_again_is_left_alone(ground: Ground) -> None:
    for n in range(3):
        ground.join(f"i{n}")
        ground.fly(f"x{n}")
    ground.join("i9")
    assert ground.free() == 0
    ground.seconds += 1
    ground.fly("x9")
    ground.join("i10")  # it died under that one too
    ground.seconds += 1.9
    assert ground.free() == 0
    ground.seconds += 0.1
    assert ground.free() == 1


def test_an_executor_that_refuses_one_start_after_the_other_is_left_alone(ground: Ground) -> None:
    ground.join(slots=20)
    for n in range(10):
        assert ground.free()
        ground.seconds += 0.001
        ground.fly(f"x{n}")
        ground.refuse("DRAINING", f"x{n}")
    assert ground.free() == 0


@pytest.mark.parametrize("reason", ["WRONG_DIGEST", "OLDER_EPOCH"])
def test_refusals_for_what_a_step_is_are_no_fault_of_the_executor(ground: Ground, reason: str) -> None:
    ground.join(slots=20)
    for n in range(15):
        ground.fly(f"x{n}")
        ground.refuse(reason, f"x{n}")
    assert ground.free() == 5
