"""Sessions whose messages interrupt: the newest wish runs, what ran before it is ended, nothing queues."""

import asyncio
from typing import Any

from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replicas, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

INTERRUPT: dict[str, Any] = {"settings": {"when_busy": 3}}


async def test_a_message_ends_what_runs_and_its_own_run_begins(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session(**INTERRUPT)
    first = (await client.send(session.id, "one")).run
    act = await executor.next()
    sent = await client.acting_as("alice").send(session.id, "no, this")
    assert state(sent.run) == "RUNNING"
    await executor.heard("cancel", act.step_id)
    again = await executor.next()
    assert (again.start.run_id, again.last_text) == (sent.run.id, "no, this")
    again.says("done")

    log = await client.settled(session.id, after=sent.last_sequence)
    wanted = ["message_created", "step_finished", "run_finished", "session_state_changed", "run_started"]
    assert log.names[:5] == wanted
    cancelled = await client.get_run(first.id)
    assert (state(cancelled), cancelled.cancel_reason) == ("CANCELLED", "interrupted by a message of alice")
    assert state(await client.get_run(sent.run.id)) == "COMPLETED"


async def test_a_message_ends_a_run_that_waits_and_closes_its_questions(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session(**INTERRUPT)
    await client.send(session.id, "one")
    approval = await client.asked(session.id)
    executor.play = answers
    await client.send(session.id, "two")
    assert (await client.refusal(client.decide(approval, "APPROVE"))).metadata["state"] == "CANCELLED"
    await client.settled(session.id)
    assert state(await client.get_session(session.id)) == "COMPLETED"
    assert not executor.starts_of(tool="send_mail")


async def test_a_clients_plan_interrupts_too(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session(**INTERRUPT)
    first = (await client.send(session.id, "one")).run
    act = await executor.next()
    plan = await client.new_plan(session.id)
    await executor.heard("cancel", act.step_id)
    assert (await client.asked(session.id)).plan_id == plan.id
    cancelled = await client.get_run(first.id)
    assert (state(cancelled), cancelled.cancel_reason) == ("CANCELLED", "interrupted by a plan of developer")


async def test_of_many_interrupting_messages_at_once_exactly_one_run_is_left(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    clients = [(await replicas.start(lease_renew_seconds=0.1)).client for _ in range(2)]
    session = await clients[0].new_session(**INTERRUPT)
    for _ in range(4):
        sent = await asyncio.gather(*(clients[n % 2].send(session.id, f"message {n}") for n in range(6)))
        log = await clients[0].settled(session.id)
        runs = {each.run.id: state(await clients[0].get_run(each.run.id)) for each in sent}
        assert set(runs.values()) <= {"COMPLETED", "CANCELLED"}
        assert log.sequences == list(range(1, len(log.sequences) + 1))
        last = max(sent, key=lambda each: each.message.sequence)
        assert runs[last.run.id] == "COMPLETED"
        assert len(log.of("run_finished")) == len(log.of("run_started"))


async def test_a_message_and_a_decision_at_once_leave_one_of_two_orders(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    """The decision came first and what it allowed was cut short, or the message did and the decision was too late."""
    executor.play = calls("send_mail")
    one, other = [(await replicas.start(lease_renew_seconds=0.1)).client for _ in range(2)]
    for _ in range(6):
        session = await one.new_session(**INTERRUPT)
        run = (await one.send(session.id, "mail it")).run
        approval = await one.asked(session.id)
        decided, sent = await asyncio.gather(
            other.decide(approval, "APPROVE"), one.send(session.id, "no", agent="ask"), return_exceptions=True
        )
        assert not isinstance(sent, BaseException)
        log = await one.settled(session.id)
        started = log.of("step_started", tool="send_mail")
        if isinstance(decided, Problem):
            assert (decided.reason, decided.metadata["state"]) == ("APPROVAL_ALREADY_RESOLVED", "CANCELLED")
            assert started == []
        else:
            assert not isinstance(decided, BaseException)
            assert state(decided) == "RESOLVED"
        assert [e["state"] for e in log.of("step_finished", tool="send_mail")] == ["CANCELLED"]
        assert state(await one.get_run(run.id)) == "CANCELLED"
        assert state(await one.get_run(sent.run.id)) == "COMPLETED"
    await all_let_go()


async def test_a_message_and_the_runs_own_end_at_once_lose_neither(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    one, other = [(await replicas.start(lease_renew_seconds=0.1)).client for _ in range(2)]
    for _ in range(6):
        session = await one.new_session(**INTERRUPT)
        first = (await one.send(session.id, "one")).run
        act = await executor.next()
        sending = asyncio.create_task(other.send(session.id, "two"))
        act.says("answered")
        second = (await sending).run
        (await executor.next()).says("answered")
        log = await one.settled(session.id)
        ended = {e["run_id"]: e["state"] for e in log.of("run_finished")}
        assert ended[first.id] in ("COMPLETED", "CANCELLED")
        assert ended[second.id] == "COMPLETED"
        said = [m.text for m in await one.messages(session.id)]
        assert said.count("answered") == list(ended.values()).count("COMPLETED")
