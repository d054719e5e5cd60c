"""One replica's engine: what it claims, whom it drives, and that one session's failure is nobody else's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from orchestrator.domain.change import Change
from orchestrator.domain.commands import receive_message
from orchestrator.domain.ending import cancel_run
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import StepWaiting
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.room import WHEN_THERE_IS_ROOM
from orchestrator.domain.starting import World
from orchestrator.engine import engine as engine_module
from orchestrator.engine.engine import Engine
from tests.unit.engine.memory_store import MemoryStore
from tests.unit.engine.scene import OWNER, TOOLS, Stage
from tests.unit.engine.test_executors import OTHER_ADDRESS
from tests.unit.engine.virtual_time import in_virtual_time, settle

Key = tuple[str, str]


class FakeLeases:
    """What the lease row's queries would find in the memory store."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.is_released = False
        self.renewals = 0
        self.limits: list[int] = []
        self.is_shy = False  # finds nothing to claim

    def _wanting(self, owned: Callable[[str], bool]) -> dict[Key, int]:
        if self.store.is_away:
            raise StorageUnavailable("away")
        now = self.store.ticks.now()
        sessions = [rows.session for rows in self.store.sessions.values()]
        return {
            (s.tenant, s.id): s.last_sequence
            for s in sessions
            if owned(s.owner) and (s.runnable or 0 < s.due_time <= now)
        }

    async def renew(self) -> dict[Key, int]:
        self.renewals += 1
        return self._wanting(lambda owner: owner == OWNER)

    async def claimable(self, limit: int) -> list[Key]:
        self.limits.append(limit)
        found = [] if self.is_shy else list(self._wanting(lambda owner: owner not in self.store.alive))
        return found[:limit]

    async def waiting_for_room(self, after: tuple[int, str], limit: int) -> dict[Key, int]:
        if self.store.is_away:
            raise StorageUnavailable("away")
        sessions = [rows.session for rows in self.store.sessions.values()]
        found = sorted(
            (s.due_time, s.id)
            for s in sessions
            if not s.owner and not s.runnable and (s.due_time, s.id) > max(after, (WHEN_THERE_IS_ROOM, ""))
        )
        return {("t", session_id): due for due, session_id in found[:limit]}

    async def release(self) -> None:
        if self.store.is_away:
            raise StorageUnavailable("away")
        self.is_released = True
        self.store.alive.discard(OWNER)


class House(Stage):
    """An engine with everything it needs."""

    def __init__(self, *, slots: int = 4) -> None:
        super().__init__(slots=slots)
        self.leases = FakeLeases(self.store)
        self.engine = Engine(
            OWNER,
            store=self.store,
            leases=self.leases,
            executors=self.ground.executors,
            catalog=self.catalog,
            ticks=self.ticks,
            renew_seconds=5,
            lease_seconds=15,
        )
        self.ground.on_room = self.engine.room_again

    def hear(self, *session_ids: str) -> None:
        """Somebody wrote to these sessions, new ones, elsewhere."""
        for session_id in session_ids:
            self.store.create(session_id)
            self.say(session_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.engine.run())
        await settle()
        try:
            yield
        finally:
            await self.engine.stop()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_sessions_nobody_owns_are_claimed_and_driven() -> None:
    house = House()
    house.hear("s1", "s2")
    async with house.running():
        assert {house.flying(s)[0].executor_instance for s in ("s1", "s2")} == {"i1"}
        house.hear("s3")
        await asyncio.sleep(0.6)
        assert house.flying("s3")


@in_virtual_time
async def test_a_nudge_makes_it_look_at_once() -> None:
    house = House()
    async with house.running():
        house.hear("s1")
        house.engine.nudge("t", "s1")
        await settle()
        assert house.flying("s1")


@in_virtual_time
async def test_sessions_that_found_no_room_are_looked_at_as_soon_as_there_is_some() -> None:
    house = House(slots=1)
    house.hear("s1", "s2", "s3")
    async with house.running():
        [first] = [s for s in ("s1", "s2", "s3") if house.flying(s)]
        began = house.ticks.now()
        await house.reply(session=first)
        [second] = [s for s in ("s1", "s2", "s3") if house.flying(s)]
        assert second != first
        await house.reply(session=second)
        [third] = [s for s in ("s1", "s2", "s3") if house.flying(s)]
        assert {first, second, third} == {"s1", "s2", "s3"}
        assert house.ticks.now() == began
        assert len(house.engine._waiting) == 0


@in_virtual_time
async def test_of_those_that_found_no_room_the_higher_priority_is_first_and_then_the_longest_waiting() -> None:
    house = House(slots=1)
    house.hear("s0")
    async with house.running():
        for session_id, priority in (("s1", 0), ("s2", -1), ("s3", 5), ("s4", 0), ("s5", 5)):
            house.hear(session_id)
            rows = house.store.sessions[session_id]
            rows.session = replace(rows.session, priority=priority)
            house.engine.nudge("t", session_id)
            await settle()
        served = []
        for _ in range(6):
            [flying] = [f"s{n}" for n in range(6) if house.flying(f"s{n}")]
            served.append(flying)
            await house.reply(session=flying)
    assert served == ["s0", "s3", "s5", "s1", "s4", "s2"]


@in_virtual_time
async def test_room_that_comes_while_a_session_is_being_let_go_is_not_missed() -> None:
    house = House(slots=0)
    house.hear("s1")
    once = iter([True])
    house.store.on_write = lambda: house.ground.join(slots=1, tools=TOOLS) if next(once, False) else None
    async with house.running():
        assert house.flying("s1")


@in_virtual_time
async def test_room_offered_to_a_session_that_needs_none_any_more_goes_to_the_next() -> None:
    house = House(slots=1)
    house.hear("s1")
    async with house.running():
        for name in ("s2", "s3"):
            house.hear(name)
            house.engine.nudge("t", name)
            await settle()
        house.cancel("s2")  # elsewhere, without a word to this replica
        await house.reply(session="s1")
        assert house.flying("s3")


@in_virtual_time
async def test_sessions_that_want_several_slots_at_once_leave_none_of_one_unused() -> None:
    """The room that a session makes may be told to another, while it takes it itself."""
    house = House(slots=1)
    names = [f"s{n}" for n in range(4)]
    house.hear(*names)
    async with house.running():
        replied: set[str] = set()
        while flying := [name for name in names if house.flying(name)]:
            assert len(flying) == 1
            [step] = house.flying(flying[0])
            if step.kind == "TOOL":
                house.ground.finish(step.id, step.dispatch_number)
                await settle()
            elif flying[0] in replied:
                await house.reply(session=flying[0])
            else:
                replied.add(flying[0])
                await house.reply("index_files", "index_files", session=flying[0])
        assert {house.session(name).active_run_id for name in names} == {""}


@in_virtual_time
async def test_many_that_wait_for_room_cost_no_more_each_than_a_few_do() -> None:
    house = House(slots=4)
    names = [f"s{n}" for n in range(60)]
    house.hear(*names)
    async with house.running():
        while flying := [name for name in names if house.flying(name)]:
            assert len(flying) == min(4, len(names))
            await house.reply(session=flying[0])
            names.remove(flying[0])
    assert names == []
    assert len(house.store.operations) < 60 * 4


@in_virtual_time
async def test_slots_that_come_free_together_are_all_taken() -> None:
    house = House(slots=2)
    names = ["s1", "s2", "s3", "s4"]
    house.hear(*names)
    async with house.running():
        done = [name for name in names if house.flying(name)]
        house.cancel(done[0])
        house.cancel(done[1])
        house.engine.nudge("t", done[0])
        house.engine.nudge("t", done[1])
        await settle()
        assert [name for name in names if house.flying(name)] == [name for name in names if name not in done]


@in_virtual_time
async def test_sessions_wait_for_an_executor_and_start_when_one_joins() -> None:
    house = House(slots=0)
    house.hear("s1")
    async with house.running():
        await asyncio.sleep(0.2)
        house.ground.join(slots=1, tools=TOOLS)
        await settle()
        assert house.flying("s1")


@in_virtual_time
async def test_sessions_that_wait_for_an_executor_say_so_once_and_cost_no_commit_after_that() -> None:
    house = House(slots=0)
    house.hear("s1", "s2")
    async with house.running():
        await asyncio.sleep(3)
        written = len(house.store.written)
        await asyncio.sleep(600)
        assert len(house.store.written) == written
        said = [e for c in house.store.written for e in c.events if isinstance(e, StepWaiting)]
        assert sorted(e.step_id for e in said) == sorted(s.id for name in ("s1", "s2") for s in house.steps(name))
        assert {e.waiting_for.reason for e in said} == {"NO_EXECUTOR"}
        assert len(house.engine._waiting) == 2
        house.ground.join(slots=2, tools=TOOLS)
        await settle()
        assert {s.dispatch_number for name in ("s1", "s2") for s in house.flying(name)} == {1}
        assert {s.waiting_for for name in ("s1", "s2") for s in house.flying(name)} == {None}


@in_virtual_time
async def test_what_a_replica_that_is_gone_knew_to_wait_for_room_is_found_by_the_next() -> None:
    house = House(slots=0)
    names = [f"s{n}" for n in range(5)]
    house.hear(*names)
    async with house.running():
        await asyncio.sleep(3)
    assert {house.session(name).owner for name in names} == {""}
    next_house = House(slots=0)
    next_house.store.sessions = house.store.sessions
    next_house.ground.join(slots=2, tools=("write_file",))
    async with next_house.running():
        await asyncio.sleep(5.1)
        assert len([name for name in names if next_house.flying(name)]) == 2
        for _ in names:
            [name, *_] = [name for name in names if next_house.flying(name)]
            await next_house.reply(session=name)
            await asyncio.sleep(5)
        assert not any(next_house.session(name).runnable for name in names)
        assert {s.state for name in names for s in next_house.steps(name)} == {"SUCCEEDED"}


@in_virtual_time
async def test_those_that_nothing_can_be_done_for_do_not_hide_those_behind_them() -> None:
    house = House(slots=0)
    house.hear("s1", "s2", "s3")
    async with house.running():
        await asyncio.sleep(3)
        for name in ("s1", "s2"):
            rows = house.store.sessions[name]
            rows.steps = {s.id: replace(s, model="nobody:model") for s in rows.steps.values()}
    next_house = House(slots=0)
    next_house.store.sessions = house.store.sessions
    next_house.ground.join(slots=1)
    next_house.ground.executors._instances._instances["i1"].not_offered.add("nobody:model")
    async with next_house.running():
        await asyncio.sleep(16)
        assert next_house.flying("s3")
        written = len(next_house.store.written)
        await asyncio.sleep(60)
        assert len(next_house.store.written) == written


@in_virtual_time
async def test_while_one_session_only_waits_for_room_nothing_is_due() -> None:
    """It would be a timer in a year that never comes."""
    house = House(slots=1)
    house.hear("s1")
    async with house.running():
        await house.reply("index_files", "send_mail")
        await asyncio.sleep(3)
        assert len(house.flying("s1")) == 1
        [worker] = house.engine._workers.values()
        assert worker.due_time == 0
        assert house.session().due_time > WHEN_THERE_IS_ROOM


@in_virtual_time
async def test_a_session_in_hand_that_found_no_room_is_told_of_it_too() -> None:
    """It is not let go while another step of it is in flight."""
    house = House(slots=2)
    house.hear("s1")
    async with house.running():
        await house.reply("index_files", "send_mail")  # the model's own slot is free when this is written
        assert len(house.flying("s1")) == 2


@in_virtual_time
async def test_what_is_due_later_is_looked_at_when_it_is_due() -> None:
    house = House()
    house.leases.is_shy = True
    house.hear("s1")
    async with house.running():
        house.engine._look_at(("t", "s1"))
        await settle()
        await house.fail(seconds=5)
        assert not house.flying("s1")
        await asyncio.sleep(4.9)
        assert not house.flying("s1")
        await asyncio.sleep(0.2)
        assert [s.dispatch_number for s in house.flying("s1")] == [2]


@in_virtual_time
async def test_a_session_whose_worker_fails_is_tried_again_later_and_later_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    tries: list[float] = []

    def breaks(change: Change, world: World) -> None:
        if change.session.id == "bad":
            tries.append(asyncio.get_running_loop().time())
            raise ZeroDivisionError
        reconcile(change, world)

    monkeypatch.setattr("orchestrator.engine.decision.reconcile", breaks)
    house.hear("bad", "good")
    with capture_logs() as logged:
        async with house.running():
            await asyncio.sleep(130)
            assert house.flying("good")
            assert [round(later - tried) for tried, later in pairwise(tries)] == [1, 2, 4, 8, 16, 30, 30, 30]
            monkeypatch.undo()
            await asyncio.sleep(31)
            assert house.flying("bad")
            await house.reply(session="bad")
            assert house.engine._failures == {}
    assert [line["failures"] for line in logged if line["log_level"] == "error"] == [1, 2, 3, 4, 5, 6, 7, 8, 9]


@in_virtual_time
async def test_a_session_left_to_us_by_a_lost_answer_is_driven_after_the_next_renewal() -> None:
    house = House()
    house.leases.is_shy = True
    house.hear("s1")
    house.store.taken_by(OWNER)
    async with house.running():
        await asyncio.sleep(4.9)
        assert not house.flying("s1")
        await asyncio.sleep(0.2)
        assert house.flying("s1")
        assert house.session().epoch == 2


@in_virtual_time
async def test_what_another_replica_wrote_is_seen_at_the_next_renewal() -> None:
    house = House()
    house.hear("s1")
    async with house.running():
        house.cancel("s1")
        await asyncio.sleep(5.1)
        assert [kind for _, _, kind in house.ground.line.kinds] == ["start", "cancel", "recorded"]


@in_virtual_time
async def test_what_was_taken_while_this_replica_slept_is_let_go_at_the_next_renewal() -> None:
    house = House()
    house.hear("s1", "s2")
    async with house.running():
        [step] = house.flying("s1")
        house.store.alive.add("replica-2")
        house.store.taken_by("replica-2", "s1")
        await asyncio.sleep(5.1)
        assert list(house.engine._workers) == [("t", "s2")]
        assert house.ground.free() == house.slots - 1
        assert [kind for _, _, kind in house.ground.line.kinds] == ["start", "start"]
        assert (house.session("s1").epoch, house.flying("s1")) == (2, [step])


@in_virtual_time
async def test_a_replica_whose_lease_has_lapsed_takes_nothing_on_until_it_is_renewed() -> None:
    house = House()
    house.hear("s1")
    async with house.running():
        fails = True
        renew = house.leases.renew

        async def away() -> dict[Key, int]:
            if fails:
                raise StorageUnavailable("away")
            return await renew()

        house.leases.renew = away  # type: ignore[method-assign]
        await asyncio.sleep(14.9)
        assert house.engine.may_take()
        await asyncio.sleep(0.2)
        assert not house.engine.may_take()
        house.hear("s2")
        await asyncio.sleep(2)
        assert not house.flying("s2")
        await house.reply("index_files", session="s1")  # what it has it goes on with: no fence says no
        assert [s.tool for s in house.flying("s1")] == ["index_files"]
        fails = False
        await asyncio.sleep(5)
        assert house.engine.may_take()
        assert house.flying("s2")


@in_virtual_time
@pytest.mark.parametrize("old", ["about to claim", "letting go"])
async def test_a_session_that_a_command_claims_while_a_worker_is_still_at_it_is_driven_by_one(old: str) -> None:
    house = House()
    house.leases.is_shy = True
    house.hear("s1")
    async with house.running():
        if old == "letting go":
            house.engine._look_at(("t", "s1"))
            await settle()
            await house.reply("write_file")
            worker = house.engine._new_worker(("t", "s1"))
            house.engine._supervise(("t", "s1"), worker)  # as one that has released and not yet ended
            claim(house)
        else:
            once = iter([True])
            house.store.on_load = lambda: claim(house) if next(once, False) else None
            house.engine._look_at(("t", "s1"))
        await settle()
        assert len(house.engine._workers) == 1
        assert house.ground.free() == house.slots - 1
        [step] = house.flying("s1")
        assert house.ground.line.kinds[-1] == (step.id, step.dispatch_number, "start")
        assert house.session().epoch == house.ground.line.frames[-1].epoch
        assert house.engine._retired == set()
    assert house.ground.free() == house.slots


def claim(house: House) -> None:
    """What a command does that finds the session free."""
    rows = house.store.sessions["s1"]
    change = Change(deepcopy(rows), house.ticks.now(), house.ticks.new_id)
    run = change.snapshot.run
    if run is not None:
        cancel_run(change, run, actor="anna", reason="enough")
    receive_message(change, "how are you?", "coder", "anna", house.catalog)
    reservation = house.engine.reserve()
    reconcile(change, World(house.catalog, reservation))
    answer = house.store._commit(change.as_change_set(claim_for=OWNER))
    assert answer.session is not None
    house.engine.adopt(change, answer.session, reservation)


@in_virtual_time
async def test_no_more_sessions_are_taken_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_SESSIONS", 2)
    house = House(slots=9)
    house.hear("s1", "s2", "s3", "s4")
    async with house.running():
        assert house.leases.limits == [2]
        assert not house.engine.may_take()
        house.leases.is_shy = True
        house.engine._look_at(("t", "s3"))
        house.engine._look_at(("t", "s4"))
        await asyncio.sleep(1)
        assert [s for s in ("s1", "s2", "s3", "s4") if house.flying(s)] == ["s1", "s2"]
        await house.reply(session="s1")
        await asyncio.sleep(1)
        assert len([s for s in ("s2", "s3", "s4") if house.flying(s)]) == 2
        await house.reply(session="s2")
        await asyncio.sleep(1)
        assert [s for s in ("s3", "s4") if house.flying(s)] == ["s3", "s4"]


@in_virtual_time
async def test_while_the_store_is_away_nothing_that_wanted_a_look_is_forgotten() -> None:
    house = House()
    house.leases.is_shy = True
    house.hear("s1")
    async with house.running():
        house.store.is_away = True
        house.engine._look_at(("t", "s1"))
        await asyncio.sleep(20)
        house.store.is_away = False
        await asyncio.sleep(2.1)
        assert house.flying("s1")


@in_virtual_time
async def test_who_waits_for_what_no_executor_offers_does_not_keep_slots_from_others() -> None:
    house = House(slots=0)
    house.ground.join(slots=1, tools=("read_file",))
    async with house.running():
        for session in ("s1", "s2", "s3"):
            house.hear(session)
            await asyncio.sleep(1)
            await house.reply("send_mail", session=session)
        house.hear("s4", "s5")
        await asyncio.sleep(3)  # until all of them have been looked at for the last time
        [first] = [s for s in ("s4", "s5") if house.flying(s)]
        began = house.ticks.now()
        await house.reply(session=first)
        await settle()
        assert [s for s in ("s4", "s5") if house.flying(s)] == [{"s4": "s5", "s5": "s4"}[first]]
        assert house.ticks.now() == began
        house.ground.join("i2", slots=3, address=OTHER_ADDRESS, tools=("send_mail",))
        await settle()
        assert [s for s in ("s1", "s2", "s3") if house.flying(s)] == ["s1", "s2", "s3"]


@in_virtual_time
async def test_stopping_hands_over_what_is_in_flight() -> None:
    house = House()
    house.hear("s1")
    async with house.running():
        [step] = house.flying("s1")
        await house.engine.stop()
        assert house.leases.is_released
        assert not house.engine.may_take()
        assert house.flying("s1") == [step]
        assert house.ground.line.kinds == [(step.id, 1, "start")]
        assert house.ground.free() == house.slots
        house.hear("s2")
        house.engine.nudge("t", "s2")
        await asyncio.sleep(3)
        assert not house.flying("s2")


@in_virtual_time
async def test_a_lease_that_was_given_up_does_not_come_to_life_again_while_the_process_ends() -> None:
    house = House()
    async with house.running():
        await asyncio.sleep(6)
        assert house.leases.renewals == 1
        await house.engine.stop()
        await asyncio.sleep(20)  # a client that does not read its stream holds the end up
        assert house.leases.renewals == 1


@in_virtual_time
async def test_a_stop_with_the_store_away_still_stops() -> None:
    house = House()
    house.hear("s1")
    async with house.running():
        house.store.is_away = True
        await house.engine.stop()
        assert not house.leases.is_released


@in_virtual_time
async def test_nothing_is_kept_of_sessions_that_are_at_rest() -> None:
    house = House()
    house.hear("s1", "s2")
    async with house.running():
        await house.reply(session="s1")
        await house.reply(session="s2")
        engine = house.engine
        assert (engine._workers, engine._tasks, engine._waiting._keys, engine._again) == ({}, {}, {}, set())
        assert house.ground.free() == house.slots


@in_virtual_time
async def test_a_session_that_is_looked_at_often_while_it_waits_is_not_looked_at_ever_more_often() -> None:
    house = House(slots=0)
    async with house.running():
        house.hear("s1")
        for _ in range(20):
            house.engine.room_again(1)  # and somebody else takes it
            await asyncio.sleep(0.1)
        before = len(house.store.operations)
        await asyncio.sleep(30)
        assert 1 <= len(house.store.operations) - before <= 8  # once in five seconds
