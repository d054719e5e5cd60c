"""A closed session: all that was open is ended, nothing more is taken, and whoever watches is told."""

from collections.abc import Awaitable

import pytest

from tests.integration.orchestrator.client import Client, payload, state, words
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}


async def test_closing_ends_what_runs_and_what_is_queued_and_tells_the_executor(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    runs = [(await client.send(session.id, text)).run for text in ("one", "two")]
    plan = await client.new_plan(session.id)
    act = await executor.next()
    closed = await client.acting_as("alice").close(session.id, reason="all done")
    assert (state(closed), closed.active_run_id, closed.settled) == ("CLOSED", "", True)
    await executor.heard("cancel", act.step_id)
    await executor.heard("recorded", act.step_id)
    act.says("too late")
    await all_let_go()

    log = await client.settled(session.id)
    assert log.sequences[-1] == closed.last_sequence
    finished = [(e["run_id"], e["state"]) for e in log.of("run_finished")]
    assert finished == [(run_id, "CANCELLED") for run_id in (runs[0].id, runs[1].id, plan.run_id)]
    assert log.session_states[-1] == "CLOSED"
    assert log.of("session_closed") == [{"actor": "alice", "reason": "all done"}]
    assert state(await client.get_plan(plan.id)) == "CANCELLED"
    assert len(executor.acts) == 1


async def test_a_session_at_rest_is_closed(client: Client) -> None:
    session = await client.new_session()
    assert state(await client.close(session.id)) == "CLOSED"
    log = await client.events(session.id)
    assert log.names == ["session_created", "session_state_changed", "session_closed"]


async def test_a_closed_session_takes_nothing_more(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    run = (await client.send(session.id)).run
    approval = await client.asked(session.id)
    await client.close(session.id)
    asks: list[Awaitable[object]] = [
        client.send(session.id),
        client.new_plan(session.id),
        client.converse(session.id, user_message={"text": "Hello"}),
        client.close(session.id),
    ]
    for ask in asks:
        problem = await client.refusal(ask)
        assert (problem.reason, problem.metadata["machine"], problem.metadata["state"]) == (
            "WRONG_STATE",
            "session",
            "CLOSED",
        )
    for steer in (client.pause, client.resume, client.cancel):
        problem = await client.refusal(steer(run.id))
        assert (problem.reason, problem.metadata["state"]) == ("WRONG_STATE", "CANCELLED")
    problem = await client.refusal(client.decide(approval, "APPROVE"))
    assert (problem.reason, problem.metadata["state"]) == ("APPROVAL_ALREADY_RESOLVED", "CANCELLED")
    assert not executor.starts_of(tool="send_mail")


async def test_watchers_are_told_and_those_until_settled_end(
    client: Client, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.streaming.watch.HEARTBEAT_SECONDS", 0.05)
    session = await client.new_session()
    await client.send(session.id)
    await executor.next()
    async with client.watch(session.id) as forever, client.watch(session.id, until=2) as until_settled:
        await forever.until("step_started")
        await until_settled.until("step_started")
        closed = await client.close(session.id)
        log = await until_settled.end()
        assert payload(log[-1]) == (
            "settled",
            {"reason": "CLOSED", "state": "CLOSED", "last_sequence": closed.last_sequence},
        )
        await forever.until("session_closed")
        beat = await forever.until("heartbeat")
        assert beat["last_sequence"] == closed.last_sequence
    assert words(await client.get_session(session.id))["settled"] is True


async def test_what_the_dead_owner_of_a_session_had_started_is_ended_by_the_replica_that_closes_it(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first = await replicas.start(lease_seconds=60.0, lease_renew_seconds=30.0)
    other = await replicas.start(**QUICK)
    await executor.joined(2)
    session = await first.client.new_session()
    await first.client.send(session.id)
    act = await executor.next()
    await first.crash()  # its lease lives on: nobody takes the session over
    assert state(await other.client.close(session.id)) == "CLOSED"
    await executor.heard("cancel", act.step_id)
    await executor.heard("recorded", act.step_id)
    assert (await other.client.settled(session.id)).names[-1] == "settled"
