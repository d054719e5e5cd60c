"""Messages that come at the same moment: all stored, in one order, their runs one after the other."""

import asyncio

from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor


async def test_two_messages_at_once_are_both_stored_and_the_second_run_says_what_it_waits_behind(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    sent = await asyncio.gather(client.send(session.id, "one"), client.send(session.id, "two"))
    first, second = sorted(sent, key=lambda each: each.message.sequence)
    assert (first.run.queued_behind_run_id, state(first.run)) == ("", "RUNNING")
    assert (second.run.queued_behind_run_id, state(second.run)) == (first.run.id, "CREATED")
    assert {m.text for m in await client.messages(session.id)} == {"one", "two"}

    act = await executor.next()
    assert act.start.run_id == first.run.id
    assert len(executor.acts) == 1
    act.says("answered")
    act = await executor.next()
    assert act.start.run_id == second.run.id
    act.says("answered too")

    log = await client.settled(session.id)
    (queued,) = log.of("run_queued")
    assert (queued["run_id"], queued["behind_run_id"]) == (second.run.id, first.run.id)
    ended = [fields["run_id"] for fields in log.of("run_finished", state="COMPLETED")]
    assert ended == [first.run.id, second.run.id]
    order = [name for name in log.names if name in ("run_started", "run_finished")]
    assert order == ["run_started", "run_finished"] * 2


async def test_twenty_messages_at_once_are_stored_without_a_gap_and_run_in_their_order(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    session = await client.new_session()
    sent = await asyncio.gather(*(client.send(session.id, f"message {n}") for n in range(20)))
    in_order = [each.run.id for each in sorted(sent, key=lambda each: each.message.sequence)]

    log = await client.settled(session.id)
    assert log.sequences == list(range(1, log.sequences[-1] + 1))
    assert [fields["run_id"] for fields in log.of("run_started")] == in_order
    assert [fields["run_id"] for fields in log.of("run_finished", state="COMPLETED")] == in_order
    messages = await client.messages(session.id)
    assert len([m for m in messages if m.author]) == len([m for m in messages if not m.author]) == 20


async def test_each_answer_says_the_sequence_after_which_its_events_come(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    session = await client.new_session()
    sent = await asyncio.gather(*(client.send(session.id, f"message {n}") for n in range(5)))
    for each in sent:
        log = await client.settled(session.id, after=each.last_sequence)
        assert log[0].sequence == each.last_sequence + 1 == each.message.sequence
        assert log[0].message_created.message.text == each.message.text


async def test_a_session_that_rejects_while_busy_takes_no_second_message(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session(settings={"when_busy": 1})
    sent = await client.send(session.id, "one")
    problem = await client.refusal(client.send(session.id, "two"))
    assert (problem.reason, problem.metadata["run"]) == ("SESSION_BUSY", sent.run.id)

    (await executor.next()).says("answered")
    await client.settled(session.id)
    assert state((await client.send(session.id, "three")).run) == "RUNNING"


async def test_a_queue_that_is_full_refuses_the_message_and_keeps_what_it_has(client: Client) -> None:
    session = await client.new_session()
    for n in range(33):
        await client.send(session.id, f"message {n}")
    problem = await client.refusal(client.send(session.id, "one too many"))
    assert (problem.reason, problem.metadata["maximum"]) == ("LIMIT_EXCEEDED", "32")
    assert len(await client.messages(session.id)) == 33


async def test_a_clients_plan_waits_for_its_turn_before_anybody_is_asked(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    plan = await client.new_plan(session.id)
    act = await executor.next()
    assert await client.pending(session.id) == []
    act.says("answered")
    assert (await client.asked(session.id)).plan_id == plan.id
