"""What became of a step: every answer to a reattachment, and what late, repeated and stale frames start: nothing."""

import pytest

from executor import servicer
from gen.assent.executor.v1 import frames_pb2 as pb
from tests.integration.executor.talk import (
    RunningExecutor,
    Talk,
    cancel,
    model_step,
    new_id,
    reattach,
    recorded,
    started,
    tool_step,
)
from tests.unit.executor.test_command import until_dead

# Leaves a line each time it is started, and goes on until the file `go` is there.
GATED = "echo started >> log; echo started; until [ -e go ]; do sleep 0.01; done; echo done"


async def kind_of_next(talk: Talk, step_id: str) -> str:
    frame = await talk.next_of(step_id)
    kind = frame.WhichOneof("frame") or ""
    if kind != "refused":
        return kind
    return pb.RefusalReason.Name(frame.refused.reason).removeprefix("REFUSAL_REASON_")


async def gated_step(executor: RunningExecutor, talk: Talk, *, epoch: int = 1, dispatch: int = 1) -> str:
    """Start a step that has begun and does not end."""
    frame = started(executor.command(GATED), epoch=epoch, dispatch=dispatch)
    talk.send(frame)
    await talk.next_of(frame.step_id, "progress")
    return frame.step_id


def open_gate(executor: RunningExecutor) -> None:
    executor.path("go").touch()


def times_started(executor: RunningExecutor) -> int:
    return executor.path("log").read_text().count("started")


async def test_a_broken_stream_ends_no_step_and_loses_no_outcome(executor: RunningExecutor) -> None:
    first = await executor.talk()
    step_id = await gated_step(executor, first)
    await first.close()
    open_gate(executor)
    second = await executor.talk()
    assert [held.step_id for held in second.hello.held_steps] == [step_id]
    second.send(reattach(step_id, epoch=2))
    finished = await second.outcome_of(step_id)
    assert finished.finished.tool.content.endswith("done\n")
    assert finished.epoch == 2
    assert times_started(executor) == 1


async def test_a_running_steps_frames_go_to_the_newest_owner(executor: RunningExecutor) -> None:
    first, second = await executor.talk(), await executor.talk()
    step_id = await gated_step(executor, first)
    second.send(reattach(step_id, epoch=2, target=second.hello.instance_id))
    assert await kind_of_next(second, step_id) == "running"
    open_gate(executor)
    assert (await second.outcome_of(step_id)).HasField("finished")
    first.send(started(tool_step("noop", "{}"), marker := new_id()))
    await first.outcome_of(marker)
    assert not [frame for frame in first.frames if frame.step_id == step_id]


async def test_an_outcome_is_told_again_until_it_is_recorded(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(tool_step("noop", '{"a": 1}'))
    talk.send(frame)
    first = await talk.outcome_of(frame.step_id)
    for epoch in (1, 2):
        talk.send(reattach(frame.step_id, epoch=epoch))
        again = await talk.outcome_of(frame.step_id)
        assert again.finished == first.finished
        assert again.epoch == epoch
    assert [held.state for held in (await executor.talk()).hello.held_steps] == [pb.HELD_STATE_ENDED]


async def test_recorded_outcomes_are_forgotten_and_never_started_again(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(executor.command("echo started >> log"))
    talk.send(frame)
    await talk.outcome_of(frame.step_id)
    talk.send(recorded(frame.step_id))
    await talk.capacity(8)
    assert not (await executor.talk()).hello.held_steps
    talk.send(frame)
    assert await kind_of_next(talk, frame.step_id) == "OLDER_EPOCH"
    talk.send(reattach(frame.step_id, epoch=2))
    failed = (await talk.outcome_of(frame.step_id)).failed
    assert (failed.reason, failed.effect_possible) == ("EXECUTOR_LOST", True)
    assert times_started(executor) == 1


async def test_unknown_is_a_promise_that_late_starts_keep(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = new_id()
    talk.send(reattach(step_id, epoch=3, dispatch=2))
    assert await kind_of_next(talk, step_id) == "unknown"
    for epoch, dispatch in ((3, 2), (3, 1), (2, 2), (2, 9), (1, 1)):
        talk.send(started(executor.command("echo started >> log"), step_id, epoch=epoch, dispatch=dispatch))
        assert await kind_of_next(talk, step_id) == "OLDER_EPOCH"
    assert not executor.path("log").exists()
    talk.send(started(executor.command("echo started >> log"), step_id, epoch=3, dispatch=3))
    assert (await talk.outcome_of(step_id)).HasField("finished")
    assert times_started(executor) == 1


async def test_an_older_unknown_does_not_weaken_a_newer_one(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = new_id()
    for epoch, dispatch in ((3, 2), (1, 1)):
        talk.send(reattach(step_id, epoch=epoch, dispatch=dispatch))
        assert await kind_of_next(talk, step_id) == "unknown"
    talk.send(started(tool_step("noop", "{}"), step_id, epoch=2, dispatch=2))
    assert await kind_of_next(talk, step_id) == "OLDER_EPOCH"


async def test_another_instance_says_nothing_about_a_step_it_does_not_know(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = new_id()
    talk.send(reattach(step_id, target=new_id()))
    assert await kind_of_next(talk, step_id) == "OTHER_INSTANCE"
    talk.send(started(tool_step("noop", "{}"), step_id))
    assert await kind_of_next(talk, step_id) == "accepted"


async def test_a_start_that_comes_twice_is_reattached(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = await gated_step(executor, talk)
    talk.send(started(executor.command(GATED), step_id))
    assert await kind_of_next(talk, step_id) == "running"
    open_gate(executor)
    first = await talk.outcome_of(step_id)
    talk.send(started(executor.command(GATED), step_id))
    assert (await talk.outcome_of(step_id)).finished == first.finished
    assert times_started(executor) == 1


async def test_a_newer_dispatch_joins_a_step_that_still_runs(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = await gated_step(executor, talk)
    talk.send(started(executor.command(GATED), step_id, epoch=2, dispatch=2))
    assert await kind_of_next(talk, step_id) == "running"
    open_gate(executor)
    finished = await talk.outcome_of(step_id)
    assert (finished.epoch, finished.dispatch_number) == (2, 2)
    assert times_started(executor) == 1


async def test_a_newer_dispatch_after_a_failure_begins_anew(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = await gated_step(executor, talk)
    talk.send(cancel(step_id))
    assert (await talk.outcome_of(step_id)).failed.reason == "CANCELLED"
    talk.send(started(executor.command("echo started >> log"), step_id, dispatch=2))
    assert await kind_of_next(talk, step_id) == "accepted"
    assert (await talk.outcome_of(step_id)).HasField("finished")
    assert times_started(executor) == 2
    assert len((await executor.talk()).hello.held_steps) == 1


async def test_a_stale_owner_changes_nothing(executor: RunningExecutor) -> None:
    old, new = await executor.talk(), await executor.talk()
    step_id = await gated_step(executor, old)
    new.send(reattach(step_id, epoch=2))
    assert await kind_of_next(new, step_id) == "running"
    for frame in (
        cancel(step_id, epoch=1),
        reattach(step_id, epoch=1),
        started(executor.command(GATED), step_id, epoch=1),
        started(executor.command(GATED), step_id, epoch=1, dispatch=2),
    ):
        old.send(frame)
        assert await kind_of_next(old, step_id) == "OLDER_EPOCH"
    old.send(recorded(step_id, epoch=1))
    open_gate(executor)
    assert (await new.outcome_of(step_id)).HasField("finished")
    old.send(recorded(step_id, epoch=1), started(tool_step("noop", "{}"), marker := new_id()))
    await old.outcome_of(marker)
    new.send(reattach(step_id, epoch=2))
    assert (await new.outcome_of(step_id)).HasField("finished")
    assert times_started(executor) == 1


async def test_cancelling_kills_the_processes_and_says_that_something_may_have_happened(
    executor: RunningExecutor,
) -> None:
    talk = await executor.talk()
    frame = started(executor.command("bash -c 'echo $$; exec sleep 60' & echo $$; wait"))
    talk.send(frame)
    pids: list[int] = []
    while len(pids) < 2:
        pids += [int(pid) for pid in (await talk.next_of(frame.step_id, "progress")).progress.message.split()]
    talk.send(cancel(frame.step_id), cancel(frame.step_id))
    failed = (await talk.outcome_of(frame.step_id)).failed
    assert (failed.reason, failed.effect_possible) == ("CANCELLED", True)
    for pid in pids:
        assert await until_dead(pid)


async def test_a_model_call_can_be_cancelled(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(model_step("hangs"))
    talk.send(frame, cancel(frame.step_id))  # before its task has had a chance to begin
    assert (await talk.outcome_of(frame.step_id)).failed.reason == "CANCELLED"
    talk.send(recorded(frame.step_id))
    await talk.capacity(8)


async def test_a_cancelled_step_that_is_recorded_at_once_gives_its_slot_back(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = await gated_step(executor, talk)
    talk.send(cancel(step_id), recorded(step_id))
    await talk.capacity(8)
    assert not (await executor.talk()).hello.held_steps


async def test_cancelling_a_step_that_never_came_makes_sure_that_it_never_starts(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    step_id = new_id()
    talk.send(cancel(step_id))
    assert await kind_of_next(talk, step_id) == "unknown"
    talk.send(started(tool_step("noop", "{}"), step_id))
    assert await kind_of_next(talk, step_id) == "OLDER_EPOCH"


async def test_cancelling_a_step_that_has_ended_changes_nothing(executor: RunningExecutor) -> None:
    talk = await executor.talk()
    frame = started(tool_step("noop", "{}"))
    talk.send(frame)
    await talk.outcome_of(frame.step_id)
    talk.send(cancel(frame.step_id), reattach(frame.step_id))
    assert (await talk.outcome_of(frame.step_id)).HasField("finished")


async def test_what_an_orchestrator_leaves_behind_is_told_to_the_others(executor: RunningExecutor) -> None:
    leaving, staying = await executor.talk(), await executor.talk()
    frame = started(tool_step("noop", "{}"))
    leaving.send(frame)
    await leaving.outcome_of(frame.step_id)
    await leaving.close()
    again = (await staying.next_of("", "hello")).hello
    assert (again.instance_id, [held.step_id for held in again.held_steps]) == (
        staying.hello.instance_id,
        [frame.step_id],
    )
    staying.send(recorded(frame.step_id))
    await staying.capacity(8)


async def test_an_outcome_that_nobody_records_is_told_again_until_somebody_does(
    executor: RunningExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "_UNRECORDED_SECONDS", 0.2)
    talk = await executor.talk()
    frame = started(tool_step("noop", "{}"))
    talk.send(frame)
    await talk.outcome_of(frame.step_id)
    for _ in range(2):
        again = (await talk.next_of("", "hello")).hello
        assert [(held.step_id, held.state) for held in again.held_steps] == [(frame.step_id, pb.HELD_STATE_ENDED)]
    talk.send(recorded(frame.step_id))
    await talk.capacity(8)


async def test_an_orchestrator_that_leaves_nothing_is_not_spoken_of(executor: RunningExecutor) -> None:
    leaving, staying = await executor.talk(), await executor.talk()
    frame = started(tool_step("noop", "{}"))
    leaving.send(frame)
    await leaving.outcome_of(frame.step_id)
    leaving.send(recorded(frame.step_id))
    await leaving.capacity(8)
    await leaving.close()
    await staying.capacity(8)
    staying.send(started(tool_step("noop", "{}"), marker := new_id()))
    await staying.outcome_of(marker)
    assert not [each for each in staying.frames if each.HasField("hello")]
