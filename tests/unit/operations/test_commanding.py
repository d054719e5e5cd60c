"""How a command is carried out, whatever the store answers; and that no slot stays taken for what was not written."""

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.change import Change, Request
from orchestrator.domain.commands import receive_message
from orchestrator.domain.control import cancel, close
from orchestrator.domain.errors import NotFound, RequestIdReused, StorageUnavailable, WrongState
from orchestrator.domain.records import Session, Step
from orchestrator.domain.snapshot import Snapshot
from orchestrator.operations.commanding import NotInSnapshot, command
from orchestrator.operations.context import Caller, Context, Reservation
from tests.unit.engine.scene import OWNER, Stage
from tests.unit.engine.virtual_time import in_virtual_time, settle

WHO = Caller("t", "anna", "SendMessage", "q1", "the same content", "trace", "")
TRIES = 3


class Hands:
    """An engine that starts what it is given and keeps all it was told."""

    owner = OWNER

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.takes = True
        self.adopted: list[Session] = []
        self.told: list[str] = []
        self.ended: list[tuple[str, int]] = []  # step ids and epochs

    def may_take(self) -> bool:
        return self.takes

    def reserve(self) -> Reservation:
        return self._stage.ground.executors.reserve()

    def end(self, steps: Sequence[Step], epoch: int) -> None:
        self.ended += [(step.id, epoch) for step in steps]

    def workspace_roots(self) -> list[str]:
        return []

    def adopt(self, change: Change, session: Session, reservation: Reservation) -> None:
        self.adopted.append(session)
        for step_id in change.starts:
            step = change.snapshot.steps[step_id]
            self._stage.ground.executors.start(change.snapshot, step, session.epoch, lambda _: None)
        reservation.settle(change.starts)

    def nudge(self, tenant: str, session_id: str) -> None:
        self.told.append("nudge")

    def wait_for_room(self, tenant: str, session_id: str, reservation: Reservation, priority: int) -> None:
        self.told.append("wait for room")


class Desk(Stage):
    """Where commands are given."""

    def __init__(self, *, slots: int = 4) -> None:
        super().__init__(slots=slots)
        self.store.create()
        self.hands = Hands(self)
        self.decisions = 0
        self.seen: list[int] = []  # the sequences that decisions were made on
        nothing: Any = None
        writer: Any = self.store
        self.context = Context(nothing, writer, self.hands, self.catalog, self.ticks.now, self.ticks.new_id)

    def decide(self, change: Change) -> Callable[[], str]:
        self.decisions += 1
        self.seen.append(change.session.last_sequence)
        message, _ = receive_message(change, "how are you?", "coder", "anna", self.catalog)
        return lambda: message.id

    async def command(self, decide: Callable[[Change], Callable[[], Any]] | None = None, who: Caller = WHO) -> Any:
        return await command(self.context, who, "s1", str, decide or self.decide)


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch) -> "Callable[..., Desk]":
    """Makes a desk whose reads come from its own store."""

    def make(**options: Any) -> Desk:
        made = Desk(**options)

        async def load(_database: object, tenant: str, session_id: str) -> Snapshot | None:
            return await made.store.load(tenant, session_id)

        async def find(_database: object, tenant: str, caller: str, request_id: str) -> Request | None:
            return made.store.requests.get(request_id)

        monkeypatch.setattr("orchestrator.store.snapshots.load", load)
        monkeypatch.setattr("orchestrator.operations.commanding.find_request", find)
        return made

    return make


MakeDesk = Callable[..., Desk]


# When it is written


@pytest.mark.parametrize("stale", range(TRIES + 1))
@in_virtual_time
async def test_where_the_tenant_has_no_room_it_is_decided_again_and_its_run_waits(desk: MakeDesk, stale: int) -> None:
    at = desk()
    at.store.faults.extend([*["stale"] * stale, "over"])
    await at.command()
    assert at.decisions >= stale + 2
    [run] = at.store.sessions["s1"].runs.values()
    assert (run.state, run.waits_for) == ("CREATED", "RUNS_PER_TENANT")
    assert at.session().queue_time > 0
    assert (at.hands.adopted, at.ground.free()) == ([], at.slots)


@in_virtual_time
@pytest.mark.parametrize("stale", [0, 1, 3])
async def test_a_command_whose_caller_goes_away_is_carried_out_and_its_step_started_at_once(
    desk: MakeDesk, stale: int
) -> None:
    at = desk()
    at.store.faults.extend(["stale"] * stale)
    asking = asyncio.create_task(at.command())

    def goes_away() -> None:
        asking.cancel()

    at.store.on_write = goes_away
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.cancelled()
    await settle()
    assert [s.epoch for s in at.hands.adopted] == [1]
    assert [kind for _, _, kind in at.ground.line.kinds] == ["start"]
    assert at.ground.free() == at.slots - 1


@in_virtual_time
async def test_a_command_on_a_free_session_claims_it_and_starts_its_step_at_once(desk: MakeDesk) -> None:
    at = desk()
    answer = await at.command()
    [written] = at.store.written
    assert (written.claim_for, written.owner) == (OWNER, "")
    assert (at.session().owner, at.session().epoch) == (OWNER, 1)
    assert [s.epoch for s in at.hands.adopted] == [1]
    assert len(at.flying()) == 1
    assert at.ground.free() == at.slots - 1
    assert at.hands.told == []
    assert list(at.store.sessions["s1"].messages) == [answer]


@in_virtual_time
async def test_a_session_that_somebody_owns_is_left_to_its_owner_who_is_told(desk: MakeDesk) -> None:
    at = desk()
    at.store.taken_by("replica-2")
    await at.command()
    assert at.session().owner == "replica-2"
    assert (at.session().runnable, at.session().settled) == (True, False)
    assert (at.flying(), at.hands.adopted, at.hands.told) == ([], [], ["nudge"])
    assert at.ground.free() == at.slots


@in_virtual_time
async def test_an_engine_that_takes_nothing_on_leaves_the_session_to_others(desk: MakeDesk) -> None:
    at = desk()
    at.hands.takes = False
    await at.command()
    assert (at.session().owner, at.session().runnable) == ("", True)
    assert (at.flying(), at.hands.told) == ([], ["nudge"])


@in_virtual_time
async def test_without_room_the_session_stays_free_and_waits_for_some(desk: MakeDesk) -> None:
    at = desk(slots=0)
    await at.command()
    assert at.session().owner == ""
    assert at.session().due_time > at.ticks.now()
    assert at.hands.told == ["wait for room"]


@in_virtual_time
async def test_a_decision_that_changes_nothing_is_answered_and_not_written(desk: MakeDesk) -> None:
    at = desk()
    assert await at.command(lambda change: lambda: "as before") == "as before"
    assert (at.store.operations, at.hands.told, at.hands.adopted) == ([], [], [])
    assert at.store.requests == {}


# When it cancels what is in flight


def cancelling(change: Change) -> Callable[[], str]:
    run = cancel(change, change.session.active_run_id, "anna", "enough")
    return lambda: run.id


@in_virtual_time
async def test_the_executors_of_cancelled_steps_are_told_though_the_owner_may_be_gone(desk: MakeDesk) -> None:
    at = desk()
    await at.command()
    [step] = at.flying()
    at.store.taken_by("replica-2")
    await at.command(cancelling, who=replace(WHO, request_id="q2"))
    assert at.hands.ended == [(step.id, at.session().epoch)]
    assert at.hands.told == ["nudge"]


@in_virtual_time
@pytest.mark.parametrize("fault", ["unavailable", "busy"])
async def test_executors_are_told_nothing_of_a_cancel_that_was_not_written(desk: MakeDesk, fault: str) -> None:
    at = desk()
    await at.command()
    at.store.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await at.command(cancelling, who=replace(WHO, request_id="q2"))
    assert at.hands.ended == []


@in_virtual_time
async def test_a_session_that_was_closed_has_settled_before_its_owner_looks(desk: MakeDesk) -> None:
    at = desk()
    await at.command()
    at.store.taken_by("replica-2")

    def closing(change: Change) -> Callable[[], str]:
        session = close(change, "anna", "")
        return lambda: session.id

    await at.command(closing, who=replace(WHO, request_id="q2"))
    assert (at.session().state, at.session().settled, at.session().runnable) == ("CLOSED", True, True)


# When others were faster


@in_virtual_time
@pytest.mark.parametrize("answer", ["stale", "fenced"])
async def test_it_decides_again_on_what_was_written_meanwhile(desk: MakeDesk, answer: str) -> None:
    at = desk()
    at.store.faults.append(answer)
    once = iter([True])
    at.store.on_write = lambda: at.say() if next(once, False) else None
    await at.command()
    assert at.decisions == 2
    assert at.seen[1] > at.seen[0]
    assert at.session().last_sequence > at.seen[1]


@in_virtual_time
async def test_the_loser_of_a_race_finds_the_winners_answer(desk: MakeDesk) -> None:
    at = desk()
    at.store.faults.append("stale")
    taken: list[str] = []

    def decide(change: Change) -> Callable[[], str]:
        if taken:
            raise WrongState("approval", "v1", "RESOLVED", "decided", ("PENDING",))
        taken.append("by somebody else")
        return at.decide(change)

    with pytest.raises(WrongState):
        await at.command(decide)
    assert at.ground.free() == at.slots
    assert at.store.written == []


@in_virtual_time
async def test_stale_three_times_it_waits_for_its_turn(desk: MakeDesk) -> None:
    at = desk()
    at.store.faults.extend(["stale"] * TRIES)
    await at.command()
    assert at.store.operations == ["SendMessage"] * (TRIES + 1)
    assert len(at.store.written) == 1
    assert len(at.hands.adopted) == 1
    assert at.ground.free() == at.slots - 1


@in_virtual_time
async def test_a_decision_that_changes_nothing_in_its_turn_is_answered(desk: MakeDesk) -> None:
    at = desk()
    at.store.faults.extend(["stale"] * TRIES)

    def decide(change: Change) -> Callable[[], str]:
        return at.decide(change) if at.decisions < TRIES else lambda: "as before"

    assert await at.command(decide) == "as before"
    assert (at.store.written, at.hands.adopted) == ([], [])
    assert at.ground.free() == at.slots


# When the session was kept


def keep(at: Desk) -> None:
    """As its worker left it."""
    at.context.kept.put(deepcopy(at.store.sessions["s1"]))


@in_virtual_time
async def test_a_command_on_a_session_that_was_kept_loads_nothing_and_the_next_one_does(desk: MakeDesk) -> None:
    at = desk()
    keep(at)
    await at.command()
    assert (at.store.loads, at.decisions, len(at.store.written)) == (0, 1, 1)
    assert at.session().owner == OWNER
    await at.command(who=replace(WHO, request_id="q2"))
    assert at.store.loads == 1


@in_virtual_time
async def test_a_command_that_leaves_a_session_to_nobody_keeps_it_for_the_next(desk: MakeDesk) -> None:
    at = desk(slots=0)
    await at.command()
    loads = at.store.loads
    kept = at.context.kept.take("t", "s1")
    assert kept == await at.store.load("t", "s1")
    assert loads == 1


@in_virtual_time
async def test_a_change_decided_on_what_is_outdated_is_not_written_and_decided_again(desk: MakeDesk) -> None:
    at = desk()
    keep(at)
    at.say()
    await at.command()
    assert (at.decisions, len(at.store.written)) == (2, 2)
    assert at.seen[1] > at.seen[0]


class Missing(NotInSnapshot):
    pass


@in_virtual_time
@pytest.mark.parametrize("error", [WrongState("run", "r1", "WAITING", "paused", ()), Missing()])
async def test_a_refusal_for_what_is_outdated_is_none(desk: MakeDesk, error: Exception) -> None:
    at = desk()
    keep(at)
    at.say()

    def decide(change: Change) -> Callable[[], str]:
        if not change.snapshot.runs:
            raise error
        return at.decide(change)

    await at.command(decide)
    assert len(at.store.written) == 2
    keep(at)
    at.context.kept.take("t", "s1")
    at.store.sessions["s1"].runs.clear()
    with pytest.raises(type(error)):
        await at.command(decide, who=replace(WHO, request_id="q2"))


@in_virtual_time
async def test_that_nothing_is_to_be_done_is_not_believed_of_what_is_outdated(desk: MakeDesk) -> None:
    at = desk()
    keep(at)
    at.say()

    def decide(change: Change) -> Callable[[], str]:
        return at.decide(change) if change.snapshot.runs else lambda: "as before"

    assert await at.command(decide) != "as before"
    assert len(at.store.written) == 2


# Repeats


@in_virtual_time
async def test_a_repeat_gets_the_first_answer_and_decides_nothing(desk: MakeDesk) -> None:
    at = desk()
    first = await at.command()
    loads = at.store.loads
    assert await at.command(who=replace(WHO, repeats=True)) == first
    assert (at.decisions, at.store.loads, len(at.store.written)) == (1, loads, 1)


@in_virtual_time
@pytest.mark.parametrize("stale", [0, TRIES])
async def test_a_repeat_that_was_written_by_the_other_first_gets_its_answer(desk: MakeDesk, stale: int) -> None:
    at = desk()
    first = await at.command()
    before = deepcopy(at.session())
    at.store.faults.extend(["stale"] * stale)
    assert await at.command() == first
    assert (at.session(), len(at.store.written)) == (before, 1)
    assert at.ground.free() == at.slots - len(at.flying())


@in_virtual_time
@pytest.mark.parametrize("stale", [0, TRIES])
async def test_a_repeat_is_not_refused_for_what_its_first_sending_did_meanwhile(desk: MakeDesk, stale: int) -> None:
    at = desk()
    first = await at.command()
    written, at.store.requests = at.store.requests, {}
    at.store.faults.extend(["stale"] * stale)

    def decide(change: Change) -> Callable[[], str]:
        if at.decisions <= stale:
            return at.decide(change)
        at.store.requests = written
        raise WrongState("run", "r1", "PAUSED", "paused", ("RUNNING",))

    assert await at.command(decide, who=replace(WHO, repeats=True)) == first
    with pytest.raises(WrongState):
        await at.command(decide)


@in_virtual_time
@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("other", [{"fingerprint": "other"}, {"method": "CancelRun"}])
async def test_an_id_used_again_for_something_else_is_refused(
    desk: MakeDesk, repeats: bool, other: dict[str, Any]
) -> None:
    at = desk()
    await at.command()
    with pytest.raises(RequestIdReused):
        await at.command(who=replace(WHO, repeats=repeats, **other))
    assert len(at.store.written) == 1
    assert at.ground.free() == at.slots - 1


# When it is not written


@in_virtual_time
@pytest.mark.parametrize("stale", [0, TRIES])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("unavailable", StorageUnavailable),
        ("broken", ZeroDivisionError),
        ("absent", NotFound),
        ("busy", StorageUnavailable),
    ],
)
async def test_what_was_not_written_takes_no_slot_and_adopts_nothing(
    desk: MakeDesk, stale: int, fault: str, error: type[Exception]
) -> None:
    at = desk()
    at.store.faults.extend([*["stale"] * stale, fault])
    with pytest.raises(error):
        await at.command()
    assert at.ground.free() == at.slots
    assert (at.hands.adopted, at.hands.told, at.store.written) == ([], [], [])


@in_virtual_time
async def test_an_answer_that_was_lost_takes_no_slot_and_the_repeat_finds_it(desk: MakeDesk) -> None:
    at = desk()
    at.store.faults.append("lost")
    with pytest.raises(StorageUnavailable):
        await at.command()
    assert at.ground.free() == at.slots
    [message] = at.store.sessions["s1"].messages
    assert await at.command(who=replace(WHO, repeats=True)) == message
    assert len(at.store.written) == 1


@in_virtual_time
@pytest.mark.parametrize("stale", [0, TRIES])
@pytest.mark.parametrize("where", ["deciding", "going on", "answering", "keeping the answer"])
async def test_a_defect_anywhere_takes_no_slot(
    desk: MakeDesk, monkeypatch: pytest.MonkeyPatch, stale: int, where: str
) -> None:
    at = desk()
    at.store.faults.extend(["stale"] * stale)

    def breaks(*_: object) -> Any:
        raise ZeroDivisionError

    def decide(change: Change) -> Callable[[], Any]:
        answer = at.decide(change)
        if at.decisions <= stale:
            return answer
        if where == "deciding":
            breaks()
        if where == "going on":
            monkeypatch.setattr("orchestrator.operations.commanding.World", breaks)
        if where == "keeping the answer":
            monkeypatch.setattr("orchestrator.store.codec.to_json", breaks)
        return breaks if where == "answering" else answer

    with pytest.raises(ZeroDivisionError):
        await at.command(decide)
    assert at.ground.free() == at.slots
    assert at.store.written == []


@in_virtual_time
async def test_a_session_that_is_not_there_is_not_found(desk: MakeDesk) -> None:
    at = desk()
    at.store.sessions.clear()
    with pytest.raises(NotFound):
        await at.command()
    assert at.decisions == 0


@in_virtual_time
async def test_a_session_deleted_while_it_waited_for_its_turn_is_not_found(desk: MakeDesk) -> None:
    at = desk()
    at.store.faults.extend(["stale"] * TRIES)
    tries = iter(range(TRIES))
    at.store.on_write = lambda: at.store.sessions.clear() if next(tries, 0) == TRIES - 1 else None
    with pytest.raises(NotFound):
        await at.command()
    assert at.ground.free() == at.slots
