"""Replicas tell one another what happens: nothing here renews, claims or looks by itself within a test's time."""

import pytest

from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers
from tests.integration.orchestrator.replica import Replica, Replicas, Tables, all_let_go, until
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

DEAF = {"lease_seconds": 7200.0, "lease_renew_seconds": 3600.0}


@pytest.fixture(autouse=True)
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.engine.engine.CLAIM_SECONDS", 3600)
    monkeypatch.setattr("orchestrator.streaming.hub.LOOK_SECONDS", 3600)
    monkeypatch.setattr("orchestrator.streaming.hub.RARE_LOOK_SECONDS", 3600)


@pytest.fixture
async def two(replicas: Replicas, executor: ScriptedExecutor) -> tuple[Replica, Replica]:
    """Both know that the other is there."""
    first, second = await replicas.start(**DEAF), await replicas.start(**DEAF)
    await executor.joined(2)
    await until(lambda: first.knows_others and second.knows_others)
    return first, second


async def test_a_decision_at_one_replica_reaches_the_owner_at_once(
    two: tuple[Replica, Replica], executor: ScriptedExecutor
) -> None:
    owner, other = (replica.client for replica in two)
    session = await owner.new_session()
    await owner.send(session.id)
    (await executor.next()).says("Two.", ("look", "{}"), ("send_mail", "{}"))
    await executor.next(tool="look")
    async with owner.watch(session.id) as watch:
        await watch.until("approval_requested")
    (approval,) = await other.pending(session.id)
    await other.decide(approval, "APPROVE")
    await executor.next(tool="send_mail")


async def test_a_cancel_at_one_replica_reaches_the_step_of_another_at_once(
    two: tuple[Replica, Replica], executor: ScriptedExecutor
) -> None:
    owner, other = (replica.client for replica in two)
    session = await owner.new_session()
    run = (await owner.send(session.id)).run
    act = await executor.next()
    await other.cancel(run.id)
    await executor.heard("cancel", act.step_id)
    await all_let_go()
    assert state(await owner.get_run(run.id)) == "CANCELLED"


async def test_a_watcher_sees_the_words_and_events_of_a_run_that_another_replica_owns(
    two: tuple[Replica, Replica], executor: ScriptedExecutor
) -> None:
    owner, other = (replica.client for replica in two)
    session = await owner.new_session()
    async with other.watch(session.id, include_deltas=True) as watch:
        await watch.until("session_created")
        await until(lambda: two[0].relays(session.id))
        await owner.send(session.id)
        act = await executor.next()
        await watch.until("step_started", step_id=act.step_id)
        for text in ("Hel", "lo"):
            act.streams(text)
        heard = ""
        while heard != "Hello":
            delta = await watch.until("message_delta")
            assert (delta["step_id"], delta["dispatch_number"]) == (act.step_id, 1)
            heard += delta["text"]
        act.says("Hello")
        await watch.until("run_finished", state="COMPLETED")
    assert watch.log.sequences == (await owner.events(session.id)).sequences[: len(watch.log.sequences)]


async def test_a_session_that_an_orderly_stop_let_go_is_claimed_at_once(
    two: tuple[Replica, Replica], executor: ScriptedExecutor
) -> None:
    first, second = two
    session = await first.client.new_session()
    await first.client.send(session.id)
    act = await executor.next()
    await first.stop()
    await executor.heard("reattach", act.step_id)
    act.says("answered")
    log = await second.client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.acts) == 1


async def test_a_replica_whose_listening_broke_off_listens_again_and_looks_for_what_it_missed(
    two: tuple[Replica, Replica], executor: ScriptedExecutor, tables: Tables
) -> None:
    executor.play = answers
    writer, reader = (replica.client for replica in two)
    session = await writer.new_session()
    async with reader.watch(session.id) as watch:
        await watch.until("session_created")
        for _ in range(2):
            await tables.end_listening(2)
            await writer.send(session.id)
            await watch.until("run_finished")
    log = await writer.events(session.id)
    assert watch.log.sequences == log.sequences[: len(watch.log.sequences)]


async def test_one_replica_alone_sends_nothing(
    replicas: Replicas, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.play = answers
    client: Client = (await replicas.start(**DEAF)).client
    await executor.joined()
    session = await client.new_session()
    sent: list[object] = []
    monkeypatch.setattr("orchestrator.store.notify.Notices.send", lambda _, texts: sent.append(texts))
    await client.send(session.id)
    await client.settled(session.id)
    assert sent == []
