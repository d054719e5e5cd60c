"""Trying again: attempts that follow by themselves, timers that nobody holds, and steps that executors die under."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from gen.assent.v1 import plan_pb2
from gen.assent.v1.retry_policy_pb2 import RetryPolicy
from orchestrator import bootstrap
from orchestrator.clock import now_micros
from tests.integration.orchestrator.client import Client, Log, state, subtask, words
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor, hold

TRIES = 5  # of one step: the first, and one after each of four transient faults
DEATHS = 3
HOUR_SECONDS = 3600

PassTime = Callable[[float], Awaitable[None]]


@pytest.fixture
async def client(replicas: Replicas, executor: ScriptedExecutor, hasty_catalog: Path) -> Client:
    replica = await replicas.start(catalog_dir=hasty_catalog)
    await executor.joined()
    return replica.client


@pytest.fixture
def pass_time(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> PassTime:
    """So many seconds pass, for the database and for the replicas that start from now on."""

    async def pass_(seconds: float) -> None:
        monkeypatch.setattr(bootstrap, "now_micros", lambda: now_micros() + round(seconds * 1e6))
        await tables.pass_time(seconds)

    return pass_


async def fail_one_attempt(executor: ScriptedExecutor) -> None:
    for _ in range(TRIES):
        (await executor.next()).fails("overloaded", retry_after=0.001)


async def started(client: Client, *drafts: plan_pb2.SubtaskDraft, **more: int) -> str:
    """A session whose plan of these subtasks has just been approved."""
    session = await client.new_session()
    await client.new_plan(session.id, drafts, **more)
    await client.decide(await client.asked(session.id), "APPROVE")
    return session.id


def times(log: Log, name: str) -> list[int]:
    return [event.event_time.ToMicroseconds() for event in log if event.WhichOneof("payload") == name]


async def test_a_provider_that_says_when_to_come_back_is_not_asked_before(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    (await executor.next()).fails("slow down", retry_after=0.7)
    (await executor.next()).says("answered")
    log = await client.settled(session.id)
    first, second = times(log, "step_started")
    assert second - first >= 700_000


async def test_a_failed_attempt_is_followed_by_one_that_goes_on_from_it_and_a_watcher_is_told(
    client: Client, executor: ScriptedExecutor
) -> None:
    session_id = await started(client, subtask("only"))
    (await executor.next()).says("I look first.", ("look", "{}"))
    (await executor.next(tool="look")).returns("three files")
    await fail_one_attempt(executor)
    again = await executor.next()
    read = [m.text for m in again.start.model.messages]
    assert "I look first." in read
    assert "three files" in read
    assert "The try before failed: overloaded" in read[-1]
    again.says("done")

    log = await client.settled(session_id)
    assert len(executor.starts_of(tool="look")) == 1
    (superseded,) = log.of("attempt_superseded")
    attempts = list(dict.fromkeys(e["attempt_id"] for e in log.of("step_started")))
    assert [superseded["attempt_id"]] == attempts[:1]
    assert [e["trigger"] for e in log.of("subtask_state_changed")] == [
        *("started", "retry_scheduled", "started", "succeeded")
    ]
    (finished,) = log.of("run_finished")
    run = await client.get_run(finished["run_id"])
    assert (finished["retries"], finished["faults"], finished.get("losses", 0)) == (1, TRIES - 1, 0)
    assert (run.retries, run.faults, run.losses) == (1, TRIES - 1, 0)


async def test_a_plan_may_say_how_its_subtasks_are_tried_again_and_a_person_approves_that(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    once = subtask("once", retry_policy=RetryPolicy(max_attempts=1))
    plan = await client.new_plan(session.id, [once, subtask("usual", "once")])
    approval = await client.asked(session.id)
    assert "Retries: not tried again by itself." in approval.preview.text
    said, unsaid = plan.subtasks
    assert said.retry_policy.max_attempts == 1
    assert said.retry_policy.first_backoff.seconds == 5, "what is not said is filled in before it is approved"
    assert not unsaid.HasField("retry_policy")
    await client.decide(approval, "APPROVE")
    await fail_one_attempt(executor)
    asked = await client.asked(session.id)
    assert words(asked)["kind"] == "FAILURE"


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        (RetryPolicy(max_attempts=101), "max_attempts"),
        (RetryPolicy(factor=0.5), "factor"),
        (RetryPolicy(factor=float("nan")), "factor"),
        (RetryPolicy(non_retryable_reasons=["any thing"]), "non_retryable_reasons"),
        (RetryPolicy(first_backoff=Duration(seconds=60), longest_backoff=Duration(seconds=1)), "longest_backoff"),
    ],
    ids=["many", "shrinking", "nan", "reason", "crossed"],
)
async def test_a_policy_that_makes_no_sense_is_refused_by_its_field(
    client: Client, policy: RetryPolicy, field: str
) -> None:
    session = await client.new_session()
    problem = await client.refusal(client.new_plan(session.id, [subtask("a", retry_policy=policy)]))
    assert any(f"retry_policy.{field}" in violation.field for violation in problem.fields)


# Crashes


@pytest.mark.parametrize("tool", ["", "look"])
async def test_a_step_that_executors_keep_dying_under_is_quarantined_and_a_persons_retry_goes_on(
    client: Client, executor: ScriptedExecutor, tool: str
) -> None:
    executor.play = calls("look") if tool else hold
    session = await client.new_session()
    sent = await client.send(session.id)
    for _ in range(DEATHS):
        await executor.next(tool=tool)
        executor.die()
    approval = await client.asked(session.id)
    assert "EXECUTOR_LOST" in approval.preview.title
    assert "quarantined" in approval.preview.text
    run = await client.get_run(sent.run.id)
    assert (run.retries, run.faults, run.losses) == (0, 0, DEATHS)
    (step,) = [s for s in await client.steps(sent.run.id) if s.losses]
    assert (state(step), step.losses, step.faults) == ("FAILED", DEATHS, 0)
    executor.play = answers
    await client.decide(approval, "RETRY")
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_an_outage_of_the_executor_burns_nothing(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    sent = await client.send(session.id)
    for reason in ("NO_SLOT", "DRAINING", "OTHER_INSTANCE"):
        (await executor.next()).refuses(reason)
    act = await executor.next()
    await executor.stop()
    act.says("answered while nobody listened")  # the instance lives on, and has it when the streams are back
    await executor.start()
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    run = await client.get_run(sent.run.id)
    assert (run.retries, run.faults, run.losses) == (0, 0, 0)


# Timers


async def test_a_run_that_waits_for_a_time_is_held_by_nobody_and_any_replica_goes_on_when_it_has_come(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables, pass_time: PassTime
) -> None:
    replica = await replicas.start()
    await executor.joined()
    session = await replica.client.new_session()
    sent = await replica.client.send(session.id)
    (await executor.next()).fails("slow down", retry_after=HOUR_SECONDS - 60)
    await all_let_go()
    row = await tables.session(session.id)
    assert (row["owner"], row["runnable"], row["due_time"] > now_micros()) == ("", False, True)
    assert state(await replica.client.get_run(sent.run.id)) == "RUNNING"
    assert not (await replica.client.get_session(session.id)).settled
    await replica.stop()

    await pass_time(HOUR_SECONDS)
    replica = await replicas.start()
    (await executor.next()).says("answered")
    log = await replica.client.settled(session.id)
    assert [e["trigger"] for e in log.of("step_finished")] == ["transient", "succeeded"]


@pytest.mark.parametrize("planned", [True, False], ids=["a subtask", "an answer"])
async def test_an_attempt_that_is_to_follow_follows_at_its_time_whoever_lives_then(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables, pass_time: PassTime, planned: bool
) -> None:
    replica = await replicas.start()
    await executor.joined()
    if planned:
        session_id = await started(replica.client, subtask("only"))
    else:
        session_id = (await replica.client.new_session()).id
        await replica.client.send(session_id)
    await fail_one_attempt(executor)
    await all_let_go()
    row = await tables.session(session_id)
    assert (row["owner"], row["runnable"]) == ("", False)
    log = await replica.client.events(session_id)
    (superseded,) = log.of("attempt_superseded")
    assert row["due_time"] == superseded["not_before_time"].ToMicroseconds()
    if planned:
        plan = await replica.client.get_plan(log.of("plan_drafted")[0]["plan"].id)
        assert [(state(s), s.attempts) for s in plan.subtasks] == [("PENDING", 1)]
    await replica.crash()

    await pass_time(60)
    replica = await replicas.start()
    (await executor.next()).says("done")
    (finished,) = (await replica.client.settled(session_id)).of("run_finished")
    assert (finished["state"], finished["retries"]) == ("COMPLETED", 1)


async def test_several_timers_of_a_session_that_are_due_are_handled_by_one_claim(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables, pass_time: PassTime
) -> None:
    replica = await replicas.start()
    await executor.joined()
    session_id = await started(replica.client, subtask("a"), subtask("b"), subtask("c"), parallel_limit=3)
    for act in [await executor.next() for _ in range(3)]:
        act.fails("slow down", retry_after=HOUR_SECONDS - 60)
    await all_let_go()
    before = await tables.session(session_id)
    await replica.stop()
    executor.acts.clear()

    await pass_time(HOUR_SECONDS)
    replica = await replicas.start()
    for _ in range(3):
        await executor.next()
    after = await tables.session(session_id)
    assert after["epoch"] == before["epoch"] + 1
    log = await replica.client.events(session_id)
    late = [e for e in log if e.sequence > before["last_sequence"]]
    assert [e.WhichOneof("payload") for e in late] == ["step_started"] * 3
    for act in executor.acts:
        act.says("done")
    assert (await replica.client.settled(session_id)).session_states[-1] == "COMPLETED"
