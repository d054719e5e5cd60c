"""One orchestrator ends, well or badly, and another goes on from the very step; a stale one changes nothing."""

import asyncio
from typing import NamedTuple

import pytest

from tests.integration.orchestrator.client import Client, Log, state, words
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replica, Replicas, Tables, all_let_go, driving, one_let_go
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}
SLEEPY = {"lease_seconds": 60.0, "lease_renew_seconds": 3600.0}  # never renews: paused, as far as others can see


class Called(NamedTuple):
    """A session whose mail is being sent, and what a watcher saw until then."""

    session_id: str
    run_id: str
    act: Act
    seen: Log


async def sending(client: Client, executor: ScriptedExecutor) -> Called:
    executor.play = calls("send_mail")
    session = await client.new_session()
    sent = await client.send(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    act = await executor.next(tool="send_mail")
    async with client.watch(session.id) as watch:
        await watch.until("step_started", tool="send_mail")
    return Called(session.id, sent.run.id, act, watch.log)


async def expect_once(client: Client, executor: ScriptedExecutor, called: Called) -> None:
    """The run ended well, the mail was sent once, and a watcher that resumes sees each event once."""
    rest = await client.settled(called.session_id, after=called.seen.sequences[-1])
    whole = [*called.seen.sequences, *rest.sequences]
    assert whole == list(range(1, len(whole) + 1))
    assert (await client.events(called.session_id)).sequences == whole
    assert [e["trigger"] for e in rest.of("step_finished", tool="send_mail")] == ["succeeded"]
    assert [e["state"] for e in rest.of("run_finished")] == ["COMPLETED"]
    assert len(executor.starts_of(tool="send_mail")) == 1


async def leave(replica: Replica, how: str) -> None:
    await (replica.stop() if how == "stop" else replica.crash())


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_a_run_goes_on_from_its_step_with_the_next_orchestrator(
    replicas: Replicas, executor: ScriptedExecutor, how: str
) -> None:
    first = await replicas.start(**QUICK)
    called = await sending(first.client, executor)
    await leave(first, how)
    second = await replicas.start(**QUICK)
    asked = await executor.heard("reattach", called.act.step_id)
    assert asked.dispatch_number == called.act.number
    assert asked.epoch > called.act.first_epoch
    called.act.returns("sent")
    await expect_once(second.client, executor, called)


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_an_outcome_that_nobody_was_there_to_hear_is_not_lost(
    replicas: Replicas, executor: ScriptedExecutor, how: str
) -> None:
    first = await replicas.start(**QUICK)
    called = await sending(first.client, executor)
    await leave(first, how)
    called.act.returns("sent")
    second = await replicas.start(**QUICK)
    await expect_once(second.client, executor, called)
    await executor.heard("recorded", called.act.step_id)


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_a_model_call_in_flight_is_not_paid_for_twice(
    replicas: Replicas, executor: ScriptedExecutor, how: str
) -> None:
    first = await replicas.start(**QUICK)
    session = await first.client.new_session()
    await first.client.send(session.id)
    act = await executor.next()
    await leave(first, how)
    client = (await replicas.start(**QUICK)).client
    await executor.heard("reattach", act.step_id)
    act.says("answered")
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.acts) == 1


async def test_when_the_executor_died_meanwhile_the_call_is_in_doubt_and_not_started_again(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first = await replicas.start(**QUICK)
    called = await sending(first.client, executor)
    await first.crash()
    executor.die()
    client = (await replicas.start(**QUICK)).client
    approval = await client.asked(called.session_id)
    assert words(approval)["kind"] == "IN_DOUBT"
    assert len(executor.starts_of(tool="send_mail")) == 1


async def test_a_plan_that_waited_through_a_crash_is_approved_and_runs(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    first = await replicas.start(**QUICK)
    session = await first.client.new_session()
    plan = await first.client.new_plan(session.id)
    approval = await first.client.asked(session.id)
    await first.crash()

    client = (await replicas.start(**QUICK)).client
    assert state(await client.get_plan(plan.id)) == "DRAFT"
    assert await client.pending(session.id) == [approval]
    assert not executor.acts
    await client.decide(approval, "APPROVE")
    log = await client.settled(session.id)
    assert log.session_states == ["PLAN_REVIEW", "PLAN_EXECUTION", "COMPLETED"]
    assert len(log.of("approval_resolved")) == 1


async def test_a_request_repeated_after_a_crash_gets_its_first_answer(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables
) -> None:
    first = await replicas.start(**QUICK)
    session = await first.client.new_session()
    request_id = "0192f0c1-2345-7000-8000-000000000001"
    sent = await first.client.send(session.id, request_id=request_id)
    await first.crash()
    client = (await replicas.start(**QUICK)).client
    assert await client.send(session.id, request_id=request_id) == sent
    assert (await tables.counts())["message"] == 1


async def test_runs_that_queued_before_a_crash_are_run_in_their_order_after_it(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first = await replicas.start(**QUICK)
    session = await first.client.new_session()
    sent = [await first.client.send(session.id, f"message {n}") for n in range(3)]
    act = await executor.next()
    await first.crash()
    client = (await replicas.start(**QUICK)).client
    executor.play = answers
    await executor.heard("reattach", act.step_id)
    act.says("answered")
    log = await client.settled(session.id)
    assert [e["run_id"] for e in log.of("run_finished", state="COMPLETED")] == [each.run.id for each in sent]


async def test_a_second_orchestrator_takes_over_when_the_first_ones_lease_lapses(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables
) -> None:
    first = await replicas.start(**SLEEPY)
    called = await sending(first.client, executor)
    held = await tables.session(called.session_id)
    await tables.pass_time(61)
    second = await replicas.start(lease_seconds=60, lease_renew_seconds=0.2)
    asked = await executor.heard("reattach", called.act.step_id)
    taken = await tables.session(called.session_id)
    assert (taken["epoch"], asked.epoch) == (held["epoch"] + 1, held["epoch"] + 1)
    assert taken["owner"] != held["owner"]
    called.act.returns("sent")
    await expect_once(second.client, executor, called)


async def test_an_orchestrator_whose_session_was_taken_writes_nothing_and_starts_nothing_more(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables
) -> None:
    first = await replicas.start(**SLEEPY)
    called = await sending(first.client, executor)
    await tables.pass_time(61)
    second = await replicas.start(lease_seconds=60, lease_renew_seconds=0.2)
    await executor.heard("reattach", called.act.step_id)
    workers = driving()
    assert len(workers) == 2  # the stale one does not know it yet
    before = await tables.counts()

    stale, current = called.act.listeners
    late = called.act.frame(finished={"tool": {"content": "sent, says a stale frame"}})
    late.epoch = called.act.first_epoch
    stale.put_nowait(late)
    await one_let_go(workers)
    assert await tables.counts() == before
    assert [act.tool for act in executor.acts if act.outcome is None] == ["send_mail"]

    called.act.returns("sent")
    await expect_once(second.client, executor, called)
    assert current is called.act.listeners[-1]
    models = [act for act in executor.acts if act.purpose]
    assert len({act.step_id for act in models}) == len(models)


async def test_a_decision_made_at_one_replica_is_carried_out_by_the_one_that_owns_the_session(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    owner = await replicas.start(lease_renew_seconds=0.1)
    other = await replicas.start(lease_renew_seconds=0.1)
    session = await owner.client.new_session()
    await owner.client.send(session.id)
    (await executor.next()).says("Two.", ("look", "{}"), ("send_mail", "{}"))
    looking = await executor.next(tool="look")
    async with owner.client.watch(session.id) as watch:
        await watch.until("approval_requested")
    (approval,) = await other.client.pending(session.id)
    await other.client.decide(approval, "APPROVE")
    sending_mail = await executor.next(tool="send_mail")
    assert sending_mail.epoch == looking.epoch
    assert sending_mail.listeners == looking.listeners


async def test_a_cancel_at_one_replica_reaches_the_step_that_another_started(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    owner = await replicas.start(lease_renew_seconds=0.1)
    other = await replicas.start(lease_renew_seconds=0.1)
    called = await sending(owner.client, executor)
    await other.client.cancel(called.run_id)
    await executor.heard("cancel", called.act.step_id)
    await all_let_go()
    assert state(await owner.client.get_run(called.run_id)) == "CANCELLED"


async def test_a_watcher_at_one_replica_sees_what_another_writes_once_and_in_order(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    writer, reader = await replicas.start(), await replicas.start()
    session = await writer.client.new_session()
    async with reader.client.watch(session.id) as watch:
        await watch.until("session_created")
        for n in range(2):
            await writer.client.send(session.id, f"message {n}")
            await watch.until("run_finished")
    written = await writer.client.events(session.id)
    assert watch.log.sequences == written.sequences[: len(watch.log.sequences)]


async def test_many_sessions_are_all_taken_over_after_a_crash(replicas: Replicas, executor: ScriptedExecutor) -> None:
    first = await replicas.start(**QUICK)
    sessions = [await first.client.new_session() for _ in range(20)]
    await asyncio.gather(*(first.client.send(session.id) for session in sessions))
    acts = [await executor.next() for _ in sessions]
    await first.crash()
    client = (await replicas.start(**QUICK)).client
    for act in acts:
        await executor.heard("reattach", act.step_id)
        act.says("answered")
    for session in sessions:
        log = await client.settled(session.id)
        assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.acts) == len(sessions)
