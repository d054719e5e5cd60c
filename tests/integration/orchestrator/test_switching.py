"""Switching a session's agent: for the messages to come, and for nothing that was said or runs."""

import uuid

import grpc
import pytest

from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1.session_pb2 import Session
from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.answers import Answer
from orchestrator.store.writer import Writer
from tests.integration.orchestrator.client import Client, subtask
from tests.integration.orchestrator.plays import answers
from tests.integration.orchestrator.replica import Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor


async def switch(client: Client, session_id: str, agent: str = "debug", request_id: str = "") -> Session:
    request = pb.SwitchAgentRequest(session_id=session_id, agent=agent, request_id=request_id)
    session: Session = (await client.call(client.sessions.SwitchAgent, request)).session
    return session


async def test_messages_to_come_go_to_the_new_agent(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = answers
    session = await client.new_session(agent="ask")
    switched = await switch(client, session.id)
    assert (switched.agent, switched.last_sequence) == ("debug", session.last_sequence + 1)
    log = await client.events(session.id)
    assert log.of("agent_switched") == [{"from_agent": "ask", "to_agent": "debug", "actor": "developer"}]
    sent = await client.send(session.id, agent="")
    assert (sent.message.agent, sent.run.route_agent) == ("debug", "debug")
    assert await client.settled(session.id)
    assert {act.agent for act in executor.acts} == {"debug"}


async def test_a_message_in_the_queue_keeps_whom_it_was_addressed_to(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session(agent="ask")
    await client.send(session.id, "one", agent="")
    queued = await client.send(session.id, "two", agent="")
    await switch(client, session.id)
    (await executor.next()).says("answered")
    act = await executor.next()
    assert (act.start.run_id, act.agent) == (queued.run.id, "ask")
    act.says("answered too")
    await client.settled(session.id)


async def test_a_subtask_keeps_its_agent_over_a_switch_between_its_steps(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session(agent="ask")
    plan = await client.new_plan(session.id, [subtask("first"), subtask("second", "first")])
    await client.decide(await client.asked(session.id), "APPROVE")
    act = await executor.next()
    await switch(client, session.id)
    act.says("Calling.", ("look", "{}"))
    look = await executor.next(tool="look")
    executor.play = answers
    look.returns()
    await client.settled(session.id)
    steps = await client.steps(plan.run_id)
    assert ({step.agent for step in steps}, len(steps)) == ({"coder"}, 4)
    assert [s.agent for s in (await client.get_plan(plan.id)).subtasks] == ["coder", "coder"]


async def test_converse_switches_and_follows_what_runs(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = answers
    session = await client.new_session(agent="ask")
    log = await client.converse(session.id, switch_agent={"agent": "coder"})
    assert log.names == ["agent_switched", "settled"]
    assert (await client.get_session(session.id)).agent == "coder"


async def test_what_is_no_agent_for_people_foreign_or_closed_is_refused_and_changes_nothing(
    client: Client, tables: Tables
) -> None:
    session = await client.new_session(agent="ask")
    closed = await client.new_session()
    await client.close(closed.id)
    await all_let_go()
    before = await tables.counts()
    eve = client.acting_as("eve", tenant="other")
    for ask, reason, code in (
        (switch(client, session.id, "nobody"), "AGENT_NOT_FOUND", grpc.StatusCode.INVALID_ARGUMENT),
        (switch(client, session.id, "orchestrator"), "AGENT_NOT_FOUND", grpc.StatusCode.INVALID_ARGUMENT),
        (switch(client, session.id, ""), "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        (switch(client, session.id, "x" * 65), "INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT),
        (switch(client, str(uuid.uuid4())), "SESSION_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        (switch(eve, session.id), "SESSION_NOT_FOUND", grpc.StatusCode.NOT_FOUND),
        (switch(client, closed.id), "WRONG_STATE", grpc.StatusCode.FAILED_PRECONDITION),
    ):
        problem = await client.refusal(ask)
        assert (problem.reason, problem.code) == (reason, code)
    problem = await client.refusal(client.converse(session.id, switch_agent={"agent": "nobody"}))
    assert (problem.reason, problem.fields[0].field) == ("AGENT_NOT_FOUND", "switch_agent.agent")
    assert await tables.counts() == before
    assert (await client.get_session(session.id)).agent == "ask"


async def test_a_repeat_does_not_undo_a_later_switch(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await client.new_session(agent="ask")
    request_id = str(uuid.uuid4())
    write = Writer.write

    async def write_and_lose(self: Writer, change_set: ChangeSet, **more: str) -> Answer:
        await write(self, change_set, **more)
        raise StorageUnavailable("the answer is lost")

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", write_and_lose)
        problem = await client.refusal(switch(client, session.id, "ask", request_id))  # to the one it has
    assert problem.reason == "STORAGE_UNAVAILABLE"
    await switch(client, session.id, "coder")
    assert (await switch(client, session.id, "ask", request_id)).agent == "ask"  # the first answer
    assert (await client.get_session(session.id)).agent == "coder"
    assert (await client.refusal(switch(client, session.id, "debug", request_id))).reason == "REQUEST_ID_REUSED"
    log = await client.events(session.id)
    assert [e["to_agent"] for e in log.of("agent_switched")] == ["ask", "coder"]
