"""What becomes of a run when an executor refuses, fails, dies, loses its stream, or is not there at all."""

import asyncio
import shutil
import time
from itertools import pairwise
from pathlib import Path

import pytest

from gen.assent.v1 import approval_pb2, plan_pb2, step_pb2
from orchestrator import bootstrap
from orchestrator.domain.catalog import SECOND
from orchestrator.settings import SHIPPED_CATALOG
from tests.integration.orchestrator.client import Client, Log, state, subtask, words
from tests.integration.orchestrator.plays import ROUTE_TO_ARCHITECT, answers, calls
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

TRIES = 5  # the first, and one after each of four transient faults
ATTEMPTS = 3


@pytest.fixture
async def client(replicas: Replicas, executor: ScriptedExecutor, hasty_catalog: Path) -> Client:
    replica = await replicas.start(catalog_dir=hasty_catalog)
    await executor.joined()
    return replica.client


async def calling(client: Client, executor: ScriptedExecutor, tool: str) -> tuple[str, Act]:
    """A session whose agent's call of the tool has just been started, after the approval it needs."""
    executor.play = calls(tool)
    session = await client.new_session()
    await client.send(session.id)
    if tool != "look":
        await client.decide(await client.asked(session.id), "APPROVE")
    return session.id, await executor.next(tool=tool)


async def fail_until_asked(client: Client, executor: ScriptedExecutor, session_id: str) -> approval_pb2.Approval:
    """Every try of the model call in flight fails, in every attempt, until a person is asked."""
    for _ in range(ATTEMPTS * TRIES):
        (await executor.next()).fails("overloaded", retry_after=0.001)
    approval = await client.asked(session_id)
    assert words(approval)["kind"] == "FAILURE"
    return approval


# Refusals


async def test_a_refused_step_is_tried_again_a_little_later_each_time(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    for number in (1, 2, 3):
        act = await executor.next()
        assert act.number == number
        act.refuses("NO_SLOT")
    (await executor.next()).says("answered")

    log = await client.settled(session.id)
    assert [e["trigger"] for e in log.of("step_finished")] == ["refused"] * 3 + ["succeeded"]
    times = [e.event_time.ToMicroseconds() for e in log if e.WhichOneof("payload") == "step_started"]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(wait >= due for wait, due in zip(waits, (50_000, 100_000, 200_000), strict=True))
    (step,) = await client.steps(log.of("run_started")[0]["run_id"])
    assert (step.dispatch_number, step.usage.model_calls) == (4, 1)


async def test_a_refused_call_goes_again_under_the_approval_it_has(client: Client, executor: ScriptedExecutor) -> None:
    session_id, act = await calling(client, executor, "send_mail")
    act.refuses("NO_SLOT")
    again = await executor.next(tool="send_mail")
    assert (again.step_id, again.number) == (act.step_id, 2)
    assert again.start.tool.approval_preimage == act.start.tool.approval_preimage
    again.returns("sent")
    log = await client.settled(session_id)
    assert len(log.of("approval_requested")) == 1


async def test_a_call_refused_for_its_digest_fails_and_the_model_reads_why(
    client: Client, executor: ScriptedExecutor
) -> None:
    session_id, act = await calling(client, executor, "send_mail")
    act.refuses("WRONG_DIGEST")
    log = await client.settled(session_id)
    (ended,) = log.of("step_finished", tool="send_mail")
    assert (ended["state"], ended["failure"].reason) == ("FAILED", "DIGEST_MISMATCH")
    assert len(executor.starts_of(tool="send_mail")) == 1
    read = executor.acts[-1].start.model.messages[-1]
    assert (read.is_error, "WRONG_DIGEST" in read.text) == (True, True)


# Failures


async def test_a_transient_failure_of_the_model_is_retried_after_a_pause(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    (await executor.next()).fails("overloaded")
    again = await executor.next()
    assert again.number == 2
    again.says("answered")
    log = await client.settled(session.id)
    assert [e["trigger"] for e in log.of("step_finished")] == ["transient", "succeeded"]
    starts = [e.event_time.ToMicroseconds() for e in log if e.WhichOneof("payload") == "step_started"]
    assert starts[1] - starts[0] >= 250_000
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_a_run_that_waits_to_try_again_holds_no_executor_slot(replicas: Replicas) -> None:
    executor = ScriptedExecutor(slots=1)
    await executor.start()
    try:
        client = (await replicas.start(executor_addrs=executor.address)).client
        one, other = await client.new_session(), await client.new_session()
        await client.send(one.id)
        (await executor.next()).fails("overloaded", retry_after=60)
        await client.send(other.id)
        (await executor.next()).says("answered")
        log = await client.settled(other.id)
        assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    finally:
        await executor.stop()


@pytest.mark.parametrize("action", ["RETRY", "ABORT"])
async def test_a_subtask_out_of_tries_asks_a_person(client: Client, executor: ScriptedExecutor, action: str) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    approval = await fail_until_asked(client, executor, session.id)
    assert state(await client.get_session(session.id)) == "ERROR_HANDLING"
    assert list(approval.allowed_actions) == [
        approval_pb2.DECISION_ACTION_RETRY,
        approval_pb2.DECISION_ACTION_REPLAN,
        approval_pb2.DECISION_ACTION_SKIP,
        approval_pb2.DECISION_ACTION_ABORT,
    ]
    plan = await client.get_plan(plan.id)
    assert [state(s) for s in plan.subtasks] == ["FAILED", "PENDING"]

    executor.play = answers
    await client.decide(approval, action)
    log = await client.settled(session.id)
    plan = await client.get_plan(plan.id)
    if action == "RETRY":
        assert [(state(s), s.attempts) for s in plan.subtasks] == [("SUCCEEDED", ATTEMPTS + 1), ("SUCCEEDED", 1)]
        assert log.session_states[1:] == ["PLAN_EXECUTION", "ERROR_HANDLING", "PLAN_EXECUTION", "COMPLETED"]
        retry = next(act for act in executor.acts if act.start.model.messages and "overloaded" in act.last_text)
        assert "The try before failed" in retry.last_text
    else:
        assert [state(s) for s in plan.subtasks] == ["CANCELLED", "CANCELLED"]
        assert log.session_states[1:] == ["PLAN_EXECUTION", "ERROR_HANDLING", "IDLE"]


@pytest.mark.parametrize("action", ["RETRY", "ABORT"])
async def test_an_answer_out_of_tries_asks_a_person(client: Client, executor: ScriptedExecutor, action: str) -> None:
    session = await client.new_session()
    await client.send(session.id)
    approval = await fail_until_asked(client, executor, session.id)
    executor.play = answers
    await client.decide(approval, action)
    log = await client.settled(session.id)
    ending = ["EXECUTION", "COMPLETED"] if action == "RETRY" else ["IDLE"]
    assert log.session_states == ["EXECUTION", "ERROR_HANDLING", *ending]


@pytest.mark.parametrize("action", ["RETRY", "ABORT"])
async def test_a_planning_out_of_tries_asks_a_person(client: Client, executor: ScriptedExecutor, action: str) -> None:
    session = await client.new_session()
    await client.send(session.id, agent="auto")
    (await executor.next(purpose="ROUTING")).says_json(ROUTE_TO_ARCHITECT)
    approval = await fail_until_asked(client, executor, session.id)
    executor.play = answers
    await client.decide(approval, action)
    log = await client.settled(session.id)
    ending = ["ARCHITECT_PLANNING", "PLAN_REVIEW"] if action == "RETRY" else ["IDLE"]
    assert log.session_states == ["CLASSIFY", "PLAN_REQUIRED", "ARCHITECT_PLANNING", "ERROR_HANDLING", *ending]


async def test_a_routing_out_of_tries_costs_nothing_for_words_decide(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id, "What is this?", agent="auto")
    (await executor.next(purpose="ROUTING")).fails("no such model", retryable=False)
    (await executor.next(agent="ask")).says("a test")
    log = await client.settled(session.id)
    assert log.session_states == ["CLASSIFY", "EXECUTION", "COMPLETED"]


async def test_a_failure_that_trying_again_cannot_mend_asks_at_once(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    await client.send(session.id)
    (await executor.next()).fails("no key", retryable=False)
    approval = await client.asked(session.id)
    assert words(approval)["kind"] == "FAILURE"
    assert "no key" in approval.preview.text
    assert len(executor.acts) == 1


async def test_a_failed_subtask_lets_another_that_runs_beside_it_go_on(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id, [subtask("one"), subtask("two", agent="debug")], parallel_limit=2)
    await client.decide(await client.asked(session.id), "APPROVE")
    (await executor.next(agent="coder")).fails("no key", retryable=False)
    (await executor.next(agent="debug")).says("found it")
    approval = await client.asked(session.id)
    assert [state(s) for s in (await client.get_plan(plan.id)).subtasks] == ["FAILED", "SUCCEEDED"]
    executor.play = answers
    await client.decide(approval, "RETRY")
    log = await client.settled(session.id)
    assert log.session_states[-1] == "COMPLETED"


# Death


@pytest.mark.parametrize("tool", ["look", "put"])
async def test_a_call_that_may_be_repeated_is_dispatched_again_when_its_executor_died(
    client: Client, executor: ScriptedExecutor, tool: str
) -> None:
    session_id, act = await calling(client, executor, tool)
    executor.die()
    again = await executor.next(tool=tool)
    assert (again.step_id, again.number) == (act.step_id, 2)
    assert again.start.tool.idempotency_key == act.start.tool.idempotency_key == act.step_id
    assert again.start.target_instance_id == executor.instance_id
    again.returns("done")
    log = await client.settled(session_id)
    assert [e["trigger"] for e in log.of("step_finished", tool=tool)] == ["lost", "succeeded"]
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_a_model_call_is_dispatched_again_when_its_executor_died(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    act = await executor.next()
    executor.die()
    again = await executor.next()
    assert (again.step_id, again.number) == (act.step_id, 2)


async def in_doubt(client: Client, executor: ScriptedExecutor) -> tuple[plan_pb2.Plan, Act, approval_pb2.Approval]:
    """A subtask whose mail may or may not have been sent when the executor died."""
    executor.play = calls("send_mail")
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.decide(await client.asked(session.id), "APPROVE")
    act = await executor.next(tool="send_mail")
    executor.die()
    async with client.watch(session.id) as watch:
        await watch.until("step_finished", trigger="doubted")
    return plan, act, await client.asked(session.id)


async def test_a_call_that_must_not_be_repeated_is_never_started_twice_and_a_person_is_asked(
    client: Client, executor: ScriptedExecutor
) -> None:
    plan, act, approval = await in_doubt(client, executor)
    assert (words(approval)["kind"], approval.step_id) == ("IN_DOUBT", act.step_id)
    assert executor.address in approval.preview.reason
    log = await client.events(plan.session_id)
    assert [e["trigger"] for e in log.of("step_finished", step_id=act.step_id)] == ["doubted"]
    assert state((await client.get_plan(plan.id)).subtasks[0]) == "RUNNING"
    assert state(await client.get_run(plan.run_id)) == "WAITING"
    assert len(executor.starts_of(tool="send_mail")) == 1


async def test_giving_the_call_up_tells_the_model_of_the_doubt_and_repeats_nothing(
    client: Client, executor: ScriptedExecutor
) -> None:
    plan, _, approval = await in_doubt(client, executor)
    executor.play = lambda act: None
    await client.decide(approval, "REJECT", feedback="Leave it.")
    act = await executor.next(purpose="SUBTASK")
    assert "not known whether" in " ".join(m.text for m in act.start.model.messages)
    executor.play = answers
    act.says("I leave it at that.")
    log = await client.settled(plan.session_id)
    assert len(executor.starts_of(tool="send_mail")) == 1
    assert log.session_states[-1] == "COMPLETED"


# Broken streams


@pytest.mark.parametrize("tool", ["look", "put", "send_mail"])
async def test_a_broken_stream_costs_nothing_when_the_same_executor_is_back(
    client: Client, executor: ScriptedExecutor, tool: str
) -> None:
    session_id, act = await calling(client, executor, tool)
    executor.break_streams()
    asked = await executor.heard("reattach", act.step_id)
    assert (asked.dispatch_number, asked.reattach.target_instance_id) == (act.number, executor.instance_id)
    act.returns("done")
    log = await client.settled(session_id)
    assert [e["trigger"] for e in log.of("step_finished", tool=tool)] == ["succeeded"]
    assert len(executor.starts_of(tool=tool)) == 1


async def test_an_outcome_said_into_a_broken_stream_is_asked_for_again(
    client: Client, executor: ScriptedExecutor
) -> None:
    session_id, act = await calling(client, executor, "send_mail")
    executor.break_streams()
    act.returns("sent")  # behind the stream's end: nobody hears it
    log = await client.settled(session_id)
    assert len(executor.starts_of(tool="send_mail")) == 1
    assert [e["output_preview"] for e in log.of("step_finished", tool="send_mail")] == ["sent"]
    await executor.heard("recorded", act.step_id)


async def test_a_start_that_never_arrived_is_sent_again_once_the_executor_has_said_so(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    await client.send(session.id)
    approval = await client.asked(session.id)
    executor.is_deaf = True
    await client.decide(approval, "APPROVE")
    await executor.heard("start", approval.step_id)
    executor.is_deaf = False
    executor.break_streams()
    await executor.heard("reattach", approval.step_id)
    act = await executor.next(tool="send_mail")
    assert (act.step_id, act.number) == (approval.step_id, 2)
    act.returns("sent")
    log = await client.settled(session.id)
    assert [e["trigger"] for e in log.of("step_finished", tool="send_mail")] == ["unknown", "succeeded"]
    assert len(log.of("approval_requested")) == 1


async def test_a_late_frame_of_an_older_dispatch_changes_nothing(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    await client.send(session.id)
    old = await executor.next()
    old.refuses("NO_SLOT")
    new = await executor.next()
    old.says("from the past")
    old.streams("from the past")
    new.says("from the present")
    log = await client.settled(session.id)
    assert [e["output_preview"] for e in log.of("step_finished", trigger="succeeded")] == ["from the present"]
    assert (await client.messages(session.id))[0].text == "from the present"


async def test_an_outcome_said_twice_is_recorded_once(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    await client.send(session.id)
    act = await executor.next()
    act.says("answered")
    act.says("answered again")
    log = await client.settled(session.id)
    assert [e["output_preview"] for e in log.of("step_finished")] == ["answered"]


# Nobody there


@pytest.fixture
def no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step without room is not looked at again by itself: only room makes it go on."""
    monkeypatch.setattr("orchestrator.domain.room.SAID_AFTER", 3600 * SECOND)


@pytest.mark.usefixtures("no_second_look")
async def test_without_an_executor_a_run_waits_in_sight_burns_nothing_and_goes_on_when_one_joins(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    await executor.stop()
    client = (await replicas.start()).client
    session = await client.new_session()
    sent = await client.send(session.id)
    (step,) = await client.steps(sent.run.id)
    assert (state(step), step.dispatch_number) == ("PENDING", 0)
    assert state(await client.get_run(sent.run.id)) == "RUNNING"
    assert not (await client.get_session(session.id)).settled

    executor.play = answers
    await executor.start()
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert [act.number for act in executor.acts] == [1]


async def test_a_run_that_waits_for_an_executor_says_so_once_and_what_it_needs(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables
) -> None:
    await executor.stop()
    first = await replicas.start(lease_renew_seconds=0.2)
    session = await first.client.new_session()
    sent = await first.client.send(session.id)
    async with first.client.watch(session.id) as watch:
        await watch.until("step_waiting")
    (step,) = await first.client.steps(sent.run.id)
    assert (state(step), step.waiting_for.reason) == ("PENDING", step_pb2.WAITING_REASON_NO_EXECUTOR)
    (said,) = (await first.client.events(session.id)).of("step_waiting")
    assert "model" in str(said["waiting_for"])
    await first.stop()
    row = await tables.session(session.id)
    assert (row["owner"], row["runnable"]) == ("", False)

    executor.play = answers
    await executor.start()
    second = await replicas.start(lease_renew_seconds=0.2)
    log = await second.client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    (step, *_) = await second.client.steps(sent.run.id)
    assert not step.HasField("waiting_for")
    assert (step.dispatch_number, step.faults, step.losses) == (1, 0, 0)


@pytest.mark.usefixtures("no_second_look")
async def test_steps_wait_for_a_free_slot_and_take_it_when_there_is_one(replicas: Replicas) -> None:
    executor = ScriptedExecutor(slots=2)
    await executor.start()
    try:
        client = (await replicas.start(executor_addrs=executor.address)).client
        await executor.joined()
        sessions = [await client.new_session() for _ in range(5)]
        for session in sessions:
            await client.send(session.id)
        for _ in sessions:
            act = await executor.next()
            in_flight = [a for a in executor.acts if a.outcome is None]
            assert len(in_flight) <= executor.slots
            act.says("answered")
        logs: list[Log] = [await client.settled(session.id) for session in sessions]
        assert [log.of("run_finished")[0]["state"] for log in logs] == ["COMPLETED"] * 5
        assert {act.number for act in executor.acts} == {1}
    finally:
        await executor.stop()


@pytest.mark.usefixtures("no_second_look")
@pytest.mark.parametrize("runs", [1, 4])
async def test_runs_of_several_steps_share_one_slot(replicas: Replicas, runs: int) -> None:
    executor = ScriptedExecutor(calls_look_twice, slots=1)
    await executor.start()
    try:
        client = (await replicas.start(executor_addrs=executor.address)).client
        await executor.joined()
        sessions = [await client.new_session() for _ in range(runs)]
        await asyncio.gather(*(client.send(session.id) for session in sessions))
        for session in sessions:
            log = await client.settled(session.id)
            assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
        assert {act.number for act in executor.acts} == {1}
    finally:
        await executor.stop()


def calls_look_twice(act: Act) -> None:
    """Two calls in one reply, so that a session wants two slots at once."""
    if act.purpose and act.start.model.turn == 0:
        act.says("Looking.", ("look", '{"n": 1}'), ("look", '{"n": 2}'))
    else:
        answers(act)


async def test_a_start_says_until_when_in_the_executors_own_clock(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    await client.send(session.id)
    act = await executor.next()
    left_seconds = (act.start.deadline_nanos - time.monotonic_ns()) / 1e9
    assert 0 < left_seconds <= 300


async def test_a_step_silent_past_its_deadline_is_given_up(
    replicas: Replicas, executor: ScriptedExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    with (tmp_path / "catalog/agents/coder.yaml").open("a") as agent:
        agent.write("limits: {tool_timeout_seconds: 0.05}\n")
    monkeypatch.setattr(bootstrap, "OVERDUE_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(bootstrap, "OVERDUE_GRACE", 0)
    client = (await replicas.start(catalog_dir=tmp_path / "catalog")).client
    await executor.joined()
    session_id, act = await calling(client, executor, "send_mail")
    executor.is_deaf = True  # who says that the step is still running is not given up
    approval = await client.asked(session_id)
    assert words(approval)["kind"] == "IN_DOUBT"
    act.returns("sent after all")  # too late to change what a person has been asked
    assert [a.id for a in await client.pending(session_id)] == [approval.id]
    assert len(executor.starts_of(tool="send_mail")) == 1
