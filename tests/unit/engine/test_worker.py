"""One session in a worker's hands, with a store and executors that fail as they do in the wild."""

import asyncio
from dataclasses import replace

import pytest

from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.v1 import tool_call_pb2
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.deciding import decide
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.records import Decision
from orchestrator.domain.starting import World
from tests.unit.domain.build import draft, task
from tests.unit.engine.scene import OWNER, TOOLS, Scene
from tests.unit.engine.virtual_time import in_virtual_time, settle

UNKNOWN = frames_pb2.Unknown()
REFUSED = frames_pb2.Refused(reason=frames_pb2.REFUSAL_REASON_DRAINING)


# Driving


@in_virtual_time
async def test_a_claim_and_the_first_start_are_one_change_set_of_the_epoch_it_makes() -> None:
    scene = Scene()
    step = await scene.began()
    [claim] = scene.store.written[1:]
    assert (claim.claim_for, claim.owner, claim.epoch) == (OWNER, "", 0)
    assert (scene.session().owner, scene.session().epoch) == (OWNER, 1)
    assert [(f.step_id, f.epoch, f.WhichOneof("frame")) for f in scene.ground.line.frames] == [(step.id, 1, "start")]
    assert step.executor_instance == "i1"


@in_virtual_time
async def test_each_outcome_is_recorded_with_the_start_it_leads_to_and_the_end_with_the_release() -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("index_files")
    await scene.tell(finished=step_pb2.Finished())
    await scene.reply()
    assert scene.is_released
    claim, first, second, last = scene.store.written[1:]
    assert claim.claim_for
    assert [c.epoch for c in (first, second, last)] == [1, 1, 1]
    assert [c.release for c in (first, second, last)] == [False, False, True]
    assert [kind for _, _, kind in scene.sent] == ["start", "recorded", "start", "recorded", "start", "recorded"]
    scene.check_slots()


@in_virtual_time
async def test_a_run_that_waits_for_a_person_is_released_and_holds_nothing() -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("write_file")
    assert scene.is_released
    assert (scene.session().runnable, scene.session().due_time) == (False, 0)
    scene.check_slots()


@in_virtual_time
async def test_a_session_with_a_step_in_flight_is_never_released() -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("index_files", "write_file")  # one runs, one waits for a person
    assert scene.flying()
    assert not scene.task.done()
    assert scene.session().owner == OWNER


@in_virtual_time
async def test_what_is_due_soon_is_waited_for_and_not_released() -> None:
    scene = Scene()
    step = await scene.began()
    await scene.tell(refused=REFUSED)
    assert not scene.flying()
    assert not scene.task.done()
    scene.check_slots()
    await asyncio.sleep(0.06)
    assert [(s.id, s.dispatch_number) for s in scene.flying()] == [(step.id, 2)]


@in_virtual_time
async def test_what_is_due_later_is_released_until_then() -> None:
    scene = Scene()
    await scene.began()
    await scene.fail(seconds=5)
    assert scene.is_released
    assert scene.worker.due_time == scene.session().due_time == scene.ticks.now() + 5_000_000
    assert not scene.worker.wants_another_look


@in_virtual_time
async def test_outcomes_that_come_while_it_writes_are_in_the_next_change_set() -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("index_files", "send_mail")
    one, two = scene.flying()
    during = iter([True])

    def second_outcome() -> None:
        if next(during, False):
            frame = frames_pb2.ExecutorFrame(step_id=two.id, dispatch_number=1, finished=step_pb2.Finished())
            scene.ground.executors.receive(frame)

    scene.store.on_write = second_outcome
    before = len(scene.store.written)
    await scene.tell(one, finished=step_pb2.Finished())
    assert len(scene.store.written) == before + 2
    assert [s.state for s in scene.steps() if s.kind == "TOOL"] == ["FAILED", "FAILED"]  # both without a result
    assert [s.kind for s in scene.flying()] == ["MODEL"]
    scene.check_slots()


@in_virtual_time
async def test_an_outcome_said_twice_is_recorded_once() -> None:
    scene = Scene()
    step = await scene.began()
    frame = frames_pb2.ExecutorFrame(step_id=step.id, dispatch_number=1, finished=step_pb2.Finished())
    for _ in range(2):
        scene.ground.executors.receive(frame)
    await settle()
    finished = [e for c in scene.store.written for e in c.events if type(e).__name__ == "StepFinished"]
    assert len(finished) == 1
    scene.check_slots()


@in_virtual_time
@pytest.mark.parametrize("heard_while", ["it writes", "the store is away"])
async def test_that_a_step_was_lost_is_overruled_by_its_outcome_until_it_is_written(heard_while: str) -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("send_mail")
    [call] = scene.flying()
    finished = step_pb2.Finished(tool=tool_call_pb2.ToolResult(content="sent"))
    frame = frames_pb2.ExecutorFrame(step_id=call.id, epoch=1, dispatch_number=1, finished=finished)
    if heard_while == "it writes":
        scene.store.faults.append("stale")
        scene.store.on_write = lambda: scene.ground.executors.receive(frame)
        scene.ground.join("i2")
        await settle()
    else:
        scene.store.is_away = True
        scene.ground.join("i2")
        await asyncio.sleep(5)
        scene.ground.executors.receive(frame)
        scene.store.is_away = False
        await asyncio.sleep(3)
    [step] = [s for s in scene.steps() if s.id == call.id]
    assert (step.state, step.result and step.result.content) == ("SUCCEEDED", "sent")


@in_virtual_time
async def test_that_a_step_was_lost_is_overruled_by_its_being_found_running() -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("send_mail")
    [call] = scene.flying()
    scene.store.is_away = True
    scene.ground.join("i2")
    await asyncio.sleep(1)
    scene.ground.join("i1", tools=TOOLS)
    await scene.tell(call, running=frames_pb2.Running())
    scene.store.is_away = False
    await asyncio.sleep(3)
    assert [s.id for s in scene.flying()] == [call.id]
    await scene.tell(call, finished=step_pb2.Finished(tool=tool_call_pb2.ToolResult(content="sent")))
    assert [s.state for s in scene.steps() if s.id == call.id] == ["SUCCEEDED"]


@in_virtual_time
async def test_a_session_that_was_deleted_is_let_go() -> None:
    scene = Scene()
    await scene.began()
    del scene.store.sessions["s1"]
    scene.worker.nudge()
    await settle()
    assert scene.task.done()
    assert scene.ground.free() == scene.slots


# Others write too


@in_virtual_time
async def test_a_stale_decision_is_made_again_on_what_was_written_meanwhile() -> None:
    scene = Scene()
    step = await scene.began()
    scene.say()
    await scene.reply()
    assert scene.store.operations == ["engine", "engine", "engine"]
    assert next(s for s in scene.steps() if s.id == step.id).state == "SUCCEEDED"
    assert len(scene.flying()) == 1  # the second message's
    scene.check_slots()


@in_virtual_time
async def test_a_decision_that_was_stale_three_times_takes_the_waiting_path() -> None:
    scene = Scene()
    await scene.began()
    scene.store.faults.extend(["stale"] * 3)
    await scene.reply("index_files")
    assert scene.store.operations == ["engine", *["engine"] * 3, "engine_waiting"]
    assert [s.tool for s in scene.flying()] == ["index_files"]
    assert scene.sent[-1][2] == "start"
    scene.check_slots()


@in_virtual_time
@pytest.mark.parametrize("fault", ["unavailable", "fenced"])
async def test_what_was_not_written_on_the_waiting_path_leaves_no_slot_taken(fault: str) -> None:
    scene = Scene()
    await scene.began()
    scene.store.faults.extend(["stale", "stale", "stale", fault])
    await scene.reply("index_files")
    assert scene.task.done() == (fault == "fenced")
    assert scene.ground.free() == scene.slots - (not scene.task.done())
    await asyncio.sleep(1)
    if fault == "unavailable":
        assert [s.tool for s in scene.flying()] == ["index_files"]
        scene.check_slots()


@in_virtual_time
async def test_a_nudge_that_comes_while_it_loads_is_not_missed() -> None:
    scene = Scene()
    step = await scene.began()
    once = iter([True])

    def cancelled_after_the_read() -> None:
        if next(once, False):
            scene.cancel()
            scene.worker.nudge()

    scene.store.on_load = cancelled_after_the_read
    scene.worker.nudge()
    await settle()
    assert scene.sent[-2:] == [(step.id, 1, "cancel"), (step.id, 1, "recorded")]
    assert scene.is_released


@in_virtual_time
async def test_a_nudge_that_comes_while_it_is_released_asks_for_another_look() -> None:
    scene = Scene()
    await scene.began()
    scene.store.on_write = scene.worker.nudge
    await scene.reply()
    assert scene.is_released
    assert scene.worker.wants_another_look


@in_virtual_time
async def test_a_step_cancelled_elsewhere_is_ended_where_it_runs() -> None:
    scene = Scene()
    step = await scene.began()
    scene.cancel()
    assert scene.worker.is_behind(scene.session().last_sequence)
    scene.worker.nudge()
    await settle()
    assert scene.sent == [(step.id, 1, "start"), (step.id, 1, "cancel"), (step.id, 1, "recorded")]
    assert scene.is_released
    scene.check_slots()


@in_virtual_time
async def test_what_was_cancelled_while_its_outcome_was_on_its_way_stays_cancelled() -> None:
    scene = Scene()
    step = await scene.began()
    scene.cancel()
    await scene.reply(step=step)
    assert [s.state for s in scene.steps()] == ["CANCELLED"]
    assert scene.sent[-1] == (step.id, 1, "recorded")
    assert scene.is_released
    scene.check_slots()


# Fenced


@in_virtual_time
async def test_a_fenced_worker_changes_nothing_lets_its_steps_go_and_stops() -> None:
    scene = Scene()
    step = await scene.began()
    scene.store.alive.add("replica-2")
    scene.store.taken_by("replica-2")
    rows = replace(scene.session())
    written = len(scene.store.written)
    await scene.reply()
    assert scene.task.done()
    assert (scene.session(), len(scene.store.written)) == (rows, written)
    assert scene.sent == [(step.id, 1, "start")]  # neither recorded nor cancelled: the next owner asks
    assert scene.ground.free() == scene.slots


@in_virtual_time
async def test_who_reads_that_another_replica_has_the_session_lets_it_go_without_a_word() -> None:
    scene = Scene()
    step = await scene.began()
    scene.store.taken_by("replica-2")
    written = len(scene.store.written)
    scene.worker.nudge()
    await settle()
    assert scene.task.done()
    assert len(scene.store.operations) == written - 1  # all but the session's birth
    assert scene.sent == [(step.id, 1, "start")]
    assert scene.ground.free() == scene.slots


@in_virtual_time
async def test_an_epoch_is_never_taken_from_a_reload() -> None:
    """Its own lease lapsed, another replica claimed, and its lease lapsed too: what is loaded says nobody's."""
    scene = Scene()
    await scene.began()
    scene.store.taken_by("replica-2")
    scene.worker.nudge()
    await settle()
    await scene.reply()
    assert scene.task.done()
    assert (scene.session().owner, scene.session().epoch) == ("replica-2", 2)
    assert scene.flying()


@in_virtual_time
async def test_a_session_whose_owner_lives_is_not_taken() -> None:
    scene = Scene()
    scene.say()
    scene.store.alive.add("replica-2")
    scene.store.taken_by("replica-2")
    await scene.begin()
    assert scene.task.done()
    assert (scene.session().owner, scene.sent) == ("replica-2", [])
    scene.check_slots()


@in_virtual_time
async def test_the_next_owner_asks_for_what_is_in_flight_with_its_own_epoch() -> None:
    scene = Scene()
    step = await scene.began()
    scene.task.cancel()
    await settle()
    assert scene.ground.free() == scene.slots
    await scene.begin(scene.new_worker())
    assert scene.sent == [(step.id, 1, "start"), (step.id, 1, "reattach")]
    assert scene.ground.line.frames[-1].epoch == scene.session().epoch == 2
    scene.check_slots()
    await scene.reply()
    assert scene.is_released


# The store is away, or answers too late


@in_virtual_time
async def test_while_the_store_is_away_the_run_stays_as_it_was_and_goes_on_afterwards() -> None:
    scene = Scene()
    step = await scene.began()
    scene.store.is_away = True
    await scene.reply("index_files")
    await asyncio.sleep(60)
    assert not scene.task.done()
    assert [s.id for s in scene.flying()] == [step.id]
    scene.check_slots()
    scene.store.is_away = False
    await asyncio.sleep(3)
    assert [s.tool for s in scene.flying()] == ["index_files"]
    assert [kind for _, _, kind in scene.sent] == ["start", "recorded", "start"]
    scene.check_slots()


@in_virtual_time
async def test_a_store_that_is_away_is_asked_less_and_less_often() -> None:
    scene = Scene()
    await scene.began()
    scene.store.is_away = True
    scene.worker.nudge()
    before = scene.store.loads
    await asyncio.sleep(3.7)
    assert scene.store.loads - before == 4  # after 0, 0.25, 0.75, 1.75, and next 3.75 seconds


@in_virtual_time
async def test_a_claim_whose_answer_was_lost_is_made_again_and_its_step_asked_for() -> None:
    scene = Scene()
    scene.say()
    scene.store.faults.append("lost")
    await scene.begin()
    [step] = scene.flying()
    assert scene.sent == []
    scene.ground.executors.left("nowhere")
    await asyncio.sleep(1)
    assert scene.session().epoch == 2
    assert scene.sent == [(step.id, 1, "reattach")]
    scene.check_slots()


@in_virtual_time
async def test_an_outcome_whose_answer_was_lost_is_not_recorded_twice_and_the_next_step_is_asked_for() -> None:
    scene = Scene()
    step = await scene.began()
    scene.store.faults.append("lost")
    await scene.reply("index_files")
    await asyncio.sleep(1)
    [call] = scene.flying()
    assert [f for f in scene.sent if f[2] != "cancel"] == [
        (step.id, 1, "start"),
        (step.id, 1, "recorded"),
        (call.id, 1, "reattach"),
    ]
    assert len([s for s in scene.steps() if s.kind == "TOOL"]) == 1
    scene.check_slots()
    await scene.tell(finished=step_pb2.Finished())
    assert [s.kind for s in scene.flying()] == ["MODEL"]


@in_virtual_time
async def test_an_executor_forgets_an_outcome_that_was_released_with_though_the_answer_was_lost() -> None:
    scene = Scene()
    step = await scene.began()
    scene.store.faults.append("repeated")
    await scene.reply("write_file")  # asks a person, so the session is released with it
    assert scene.is_released
    assert (step.id, 1, "recorded") in scene.sent
    assert scene.ground.free() == scene.slots


@in_virtual_time
async def test_a_second_dispatch_whose_answer_was_lost_is_asked_for() -> None:
    scene = Scene()
    step = await scene.began()
    scene.store.faults.append("lost")
    await scene.tell(unknown=UNKNOWN)
    await asyncio.sleep(1)
    assert [(s.id, s.dispatch_number) for s in scene.flying()] == [(step.id, 2)]
    assert scene.sent.count((step.id, 2, "reattach")) == 1
    scene.check_slots()
    await scene.reply()
    assert scene.is_released


@in_virtual_time
async def test_a_dispatch_found_on_the_waiting_path_is_asked_for() -> None:
    """The last of three was written after all: an answer lost in COMMIT comes back stale."""
    scene = Scene()
    step = await scene.began()
    scene.store.faults.extend(["stale", "stale", "stale"])
    tries = iter(range(3))

    def written_by_itself() -> None:
        if next(tries, 0) == 2:
            rows = scene.store.sessions["s1"]
            done = replace(rows.steps[step.id], state="DISPATCHED", dispatch_number=2)
            rows.steps[step.id] = done

    scene.store.on_write = written_by_itself
    await scene.tell(unknown=UNKNOWN)
    assert scene.store.operations[-1] == "engine_waiting"
    assert scene.sent[-1] == (step.id, 2, "reattach")
    scene.check_slots()


# Room


@in_virtual_time
async def test_without_an_executor_it_says_so_and_is_released() -> None:
    scene = Scene(slots=0)
    scene.say()
    await scene.begin()
    assert scene.is_released
    assert len(scene.waits_for_room) == 1
    assert scene.session().due_time > scene.ticks.now()


@in_virtual_time
async def test_a_session_that_waits_as_it_did_is_left_as_it_is() -> None:
    scene = Scene(slots=0)
    scene.say()
    await scene.begin()
    await asyncio.sleep(3)
    for _ in range(2):
        await scene.begin(scene.new_worker())
        assert scene.is_released
        assert len(scene.store.written) == 3  # the message, the first look, and that it waits
    assert len(scene.waits_for_room) == 3
    assert scene.store.operations == ["engine", "engine"]
    scene.cancel()
    await scene.begin(scene.new_worker())
    assert scene.is_released
    assert scene.session().due_time == 0


@in_virtual_time
@pytest.mark.parametrize("written", [True, False])
async def test_that_a_step_was_lost_is_not_undone_once_it_is_written(written: bool) -> None:
    scene = Scene()
    await scene.began()
    await scene.reply("send_mail")
    [call] = scene.flying()
    finished = step_pb2.Finished(tool=tool_call_pb2.ToolResult(content="sent"))
    frame = frames_pb2.ExecutorFrame(step_id=call.id, epoch=1, dispatch_number=1, finished=finished)
    if not written:
        scene.store.faults.append("stale")
    scene.store.on_write = lambda: scene.ground.executors.receive(frame)
    scene.ground.join("i2")
    await settle()
    assert not scene.task.done() or scene.task.exception() is None
    [step] = [s for s in scene.steps() if s.id == call.id]
    assert (step.state == "SUCCEEDED") != written


@in_virtual_time
async def test_rows_that_no_event_made_be_written_are_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    await scene.began()

    def begins_something(change: Change, world: World) -> None:
        reconcile(change, world)
        change.put(replace(change.snapshot.runs[change.session.active_run_id], goal="never written"))

    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.engine.decision.reconcile", begins_something)
        scene.worker.nudge()
        await settle()
    await scene.reply("index_files")
    assert {run.goal for run in scene.store.sessions["s1"].runs.values()} == {"how are you?"}
    assert scene.store.loads == 3  # at first, when nudged, and when what it made of that was not written
    await scene.tell(finished=step_pb2.Finished())
    assert scene.store.loads == 3


@in_virtual_time
async def test_two_subtasks_with_room_for_one_are_both_written_whole() -> None:
    scene = Scene(slots=1)
    scene.submit(draft(task("a"), task("b"), parallel_limit=2))
    await scene.begin()
    [approval] = scene.store.sessions["s1"].approvals.values()

    def approve(change: Change) -> None:
        decide(change, approval, Decision("APPROVE", "anna", change.now, approval.digest), Catalog())

    scene.store.command("s1", approve)
    await scene.begin(scene.new_worker())
    assert len(scene.flying()) == 1
    assert len(scene.waits_for_room) == 1
    await scene.fail(seconds=100)
    await asyncio.sleep(10)
    rows = scene.store.sessions["s1"]
    assert {s.attempt_id for s in rows.steps.values()} <= set(rows.attempts)
    scene.check_slots()


@in_virtual_time
async def test_a_defect_in_the_rules_leaves_no_slot_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    scene.say()

    def breaks(change: Change, world: World) -> None:
        reconcile(change, world)
        raise ZeroDivisionError

    monkeypatch.setattr("orchestrator.engine.decision.reconcile", breaks)
    await scene.begin()
    assert isinstance(scene.task.exception(), ZeroDivisionError)
    assert scene.ground.free() == scene.slots


@in_virtual_time
async def test_a_step_whose_start_cannot_be_said_leaves_no_slot_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    await scene.began()

    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("orchestrator.engine.frames.tool_execution", breaks)
    await scene.reply("index_files", "send_mail")
    assert isinstance(scene.task.exception(), ZeroDivisionError)
    assert scene.ground.free() == scene.slots
