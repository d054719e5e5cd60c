"""Following a session: every durable event once and in order from any point, and a log that anyone can verify."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from gen.assent.v1 import event_pb2, run_service_pb2, session_service_pb2
from orchestrator.domain.events import LoggedEvent
from orchestrator.streaming.feed import MAX_BOX_BYTES, Delta, Position, SlowWatcher
from orchestrator.streaming.hub import Hub
from rpc.problem import Problem
from tests.integration.orchestrator.client import LIMIT_SECONDS, Client, payload, words
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replica
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

FIRST_HASH = "0" * 64


async def finished_session(client: Client, executor: ScriptedExecutor) -> str:
    executor.play = answers
    session = await client.new_session()
    await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.settled(session.id)
    return session.id


# From any point


async def test_a_watcher_that_resumes_at_any_sequence_sees_the_rest_once_and_in_order(
    client: Client, executor: ScriptedExecutor
) -> None:
    session_id = await finished_session(client, executor)
    whole = (await client.events(session_id)).sequences
    assert whole == list(range(1, len(whole) + 1))
    for after in range(len(whole) + 1):
        assert (await client.settled(session_id, after)).sequences == whole[after:]


async def test_watchers_that_come_while_events_are_written_all_see_the_same(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    watching = [asyncio.create_task(client.settled(session.id))]

    def play_with_an_audience(act: Act) -> None:
        watching.append(asyncio.create_task(client.settled(session.id, after=len(watching) % 7)))
        answers(act)

    executor.play = play_with_an_audience
    await asyncio.gather(*(client.send(session.id, f"message {n}") for n in range(10)))
    written = (await client.settled(session.id)).sequences
    for log in await asyncio.gather(*watching):
        sequences = log.sequences
        assert sequences == written[sequences[0] - 1 : sequences[-1]] if sequences else True
    assert len(watching) == 11


async def test_a_stream_shows_what_the_list_shows(client: Client, executor: ScriptedExecutor) -> None:
    session_id = await finished_session(client, executor)
    listed = await client.events(session_id)
    until = session_service_pb2.STREAM_UNTIL_SETTLED
    async with client.watch(session_id, until=until, include_payload_json=True) as watch:
        assert (await watch.end()).durable == listed
    assert not any(event.payload_json for event in await client.settled(session_id))


# Until settled


async def test_a_stream_until_settled_ends_when_somebody_must_act(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    log = await client.settled(session.id)
    assert payload(log[-1])[1]["reason"] == "IDLE"
    await client.send(session.id)
    log = await client.settled(session.id)
    name, settled = payload(log[-1])
    assert (name, settled["reason"], settled["state"]) == ("settled", "WAITING_FOR_DECISION", "EXECUTION")
    [approval] = await client.pending(session.id)
    assert (settled["run_id"], settled["approval_ids"]) == (approval.run_id, [approval.id])
    assert (log[-1].sequence, settled["last_sequence"]) == (0, log.sequences[-1])


async def test_a_stream_until_settled_says_that_the_run_is_paused(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    run = (await client.send(session.id)).run
    act = await executor.next()
    await client.call(client.runs.PauseRun, run_service_pb2.PauseRunRequest(run_id=run.id))
    act.says("answered")
    settled = payload((await client.settled(session.id))[-1])[1]
    assert (settled["reason"], settled["run_id"]) == ("PAUSED", run.id)


async def test_a_stream_for_ever_goes_on_when_the_session_has_settled(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    session = await client.new_session()
    async with client.watch(session.id) as watch:
        for _ in range(3):
            await client.send(session.id)
            await watch.until("run_finished", state="COMPLETED")
    assert "settled" not in watch.log.names


async def test_a_quiet_stream_says_that_it_lives(
    client: Client, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.streaming.watch.HEARTBEAT_SECONDS", 0.02)
    session = await client.new_session()
    async with client.watch(session.id) as watch:
        assert (await watch.until("heartbeat"))["last_sequence"] == 1
    assert watch.log[-1].sequence == 0


async def test_converse_shows_what_the_message_began_and_ends_when_it_settles(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    session = await client.new_session()
    log = await client.converse(session.id, user_message={"text": "Hello", "agent": "ask"})
    assert (log.names[0], log.names[-1]) == ("message_created", "settled")
    assert log.session_states == ["EXECUTION", "COMPLETED"]
    assert log.sequences == list(range(2, log.sequences[-1] + 1))


# Deltas


async def test_deltas_are_shown_live_to_those_who_want_them_and_are_not_durable(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    sent = await client.send(session.id)
    act = await executor.next()
    async with (
        client.watch(session.id, include_deltas=True) as watch,
        client.watch(session.id) as without,
    ):
        await watch.until("step_started")
        await without.until("step_started")
        act.streams("Hel")
        delta = await watch.until("message_delta")
        assert watch.log[-1].sequence == 0
        assert (delta["text"], delta["run_id"], delta["step_id"]) == ("Hel", sent.run.id, act.step_id)
        assert (delta["dispatch_number"], bool(delta["attempt_id"])) == (act.number, True)
        act.says("Hello")
        await watch.until("run_finished")
        await without.until("run_finished")
    assert "message_delta" not in without.log.names
    assert "message_delta" not in (await client.events(session.id)).names


async def test_deltas_of_a_new_try_carry_its_dispatch_number(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    await client.send(session.id)
    old = await executor.next()
    async with client.watch(session.id, include_deltas=True) as watch:
        await watch.until("step_started")
        old.streams("first try")
        await watch.until("message_delta", dispatch_number=1)
        old.fails("cut off", retry_after=0.001)
        new = await executor.next()
        await watch.until("step_started", dispatch_number=2)
        old.streams("a ghost")
        new.streams("second try")
        assert (await watch.until("message_delta"))["text"] == "second try"


# Those who go away, and those who are slow


async def test_a_client_that_goes_away_does_not_stop_the_run(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    asked = session_service_pb2.ConverseRequest(
        session_id=session.id, user_message=session_service_pb2.UserMessage(text="Hello", agent="coder")
    )
    stream: Any = client.sessions.Converse(asked, metadata=client.metadata)
    assert (await stream.read()).events
    act = await executor.next()
    stream.cancel()
    act.says("answered")
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_a_slow_watcher_is_cut_with_the_sequence_to_resume_from_and_misses_nothing(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    act = await executor.next()
    async with client.watch(session.id, include_deltas=True) as slow, client.watch(session.id) as quick:
        await slow.until("step_started")
        # It does not read while 32 MiB are said: more than its box and what the network holds.
        for _ in range(512):
            act.streams("x" * 65_536)
        act.says("answered")
        await quick.until("run_finished")
        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await slow.end()
    problem = Problem.from_rpc_error(cut.value)
    assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "WATCHER_TOO_SLOW")
    resume_after = int(problem.metadata["resume_after_sequence"])
    assert resume_after == slow.log.sequences[-1]
    rest = await client.settled(session.id, resume_after)
    assert [*slow.log.sequences, *rest.sequences] == (await client.events(session.id)).sequences


class _Log:
    """The log of a session that has one event."""

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        event = LoggedEvent(tenant, session_id, 1, 0, "", '{"session_created":{}}', FIRST_HASH, FIRST_HASH)
        return [event] if after < 1 else []

    async def positions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        return {key: Position(1, False, "IDLE") for key in keys}


async def test_a_watchers_box_holds_no_more_than_its_limit_and_nothing_of_it_stays() -> None:
    hub = Hub(_Log())
    key = ("default", "s")
    with hub.join(*key, deltas=True) as watch:
        batches = watch.batches(after=0, until_settled=False)
        assert [item.sequence for item in await anext(batches) if isinstance(item, LoggedEvent)] == [1]
        for _ in range(MAX_BOX_BYTES // 1024 + 1):
            hub.publish_delta(*key, Delta("r", "", "a", "s", 1, "TEXT", "x" * 1024))
        with pytest.raises(SlowWatcher) as cut:
            await anext(batches)
        assert cut.value.resume_after == 1
    assert not hub.watched(*key)


async def test_nothing_is_kept_of_watchers_whose_streams_have_ended(
    client: Client, replica: Replica, executor: ScriptedExecutor
) -> None:
    session_id = await finished_session(client, executor)
    assert not replica.watches(session_id)


# The log, verified


def expected_hash(event: event_pb2.SessionEvent) -> str:
    text = f"{event.previous_hash}\n{event.sequence}\n{event.event_time.ToMicroseconds()}\n{event.payload_json}"
    return hashlib.sha256(text.encode()).hexdigest()


async def test_the_log_verifies_from_its_first_event_to_its_last_page_by_page(
    client: Client, executor: ScriptedExecutor
) -> None:
    session_id = await finished_session(client, executor)
    previous, sequence, when, token = FIRST_HASH, 0, 0, ""
    while True:
        request = session_service_pb2.ListEventsRequest(session_id=session_id, page_size=7, page_token=token)
        page = await client.call(client.sessions.ListEvents, request)
        for event in page.events:
            assert (event.previous_hash, event.hash) == (previous, expected_hash(event))
            assert (event.sequence, event.event_time.ToMicroseconds() >= when) == (sequence + 1, True)
            previous, sequence, when = event.hash, event.sequence, event.event_time.ToMicroseconds()
        if not (token := page.next_page_token):
            break
    session = await client.get_session(session_id)
    assert (session.last_sequence, sequence > 20) == (sequence, True)


async def test_what_an_event_says_is_what_was_hashed(client: Client, executor: ScriptedExecutor) -> None:
    session_id = await finished_session(client, executor)
    for event in await client.events(session_id):
        ((name, hashed),) = json.loads(event.payload_json).items()
        assert name == event.WhichOneof("payload")
        for key, value in words(getattr(event, name)).items():
            if isinstance(value, str | bool):
                assert hashed[key] == value


async def test_writing_from_many_sides_at_once_leaves_one_chain(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = answers
    session = await client.new_session()
    async with asyncio.timeout(LIMIT_SECONDS):
        await asyncio.gather(*(client.send(session.id, f"message {n}") for n in range(12)))
    await client.settled(session.id)
    previous = FIRST_HASH
    for event in await client.events(session.id):
        assert (event.previous_hash, event.hash) == (previous, expected_hash(event))
        previous = event.hash
