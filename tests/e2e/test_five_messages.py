"""The five messages of Converse, over gRPC and over HTTP: stored, streamed, safe over a crash in the middle.

In each scene a coder is at work on a subtask while the session's agent is another one: the subtask keeps its agent.
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from gen.assent.v1.approval_pb2 import Approval
from gen.assent.v1.event_pb2 import SessionEvent
from gen.assent.v1.plan_pb2 import Plan
from gen.assent.v1.session_pb2 import ClientTool
from gen.assent.v1.session_service_pb2 import ConverseRequest
from rpc.problem import Problem
from tests.e2e.scenes import a_subtask, journal, open_gate, question, settled
from tests.e2e.services import Services, answered
from tests.integration.gateway.stack import sse_events
from tests.integration.orchestrator.client import Client, Log, payload, state, words

APPROVE = "DECISION_ACTION_APPROVE"

Converse = Callable[[ConverseRequest], AsyncGenerator[SessionEvent, None]]
"""The events that follow from the request; UNAVAILABLE as a Problem when the stream breaks."""

Input = dict[str, Any]
Scene = Callable[[Services, Client, Plan], Awaitable[Input]]
"""Brings a session with a plan to the moment of the message; the message."""


def over_grpc(services: Services, client: Client) -> Converse:
    async def converse(request: ConverseRequest) -> AsyncGenerator[SessionEvent, None]:
        try:
            async for response in client.sessions.Converse(request):
                for event in response.events:
                    yield event
        except grpc.aio.AioRpcError as error:
            raise Problem.from_rpc_error(error) from None

    return converse


def over_http(services: Services, client: Client) -> Converse:
    async def converse(request: ConverseRequest) -> AsyncGenerator[SessionEvent, None]:
        body = json_format.MessageToDict(request)
        url = f"/v1/sessions/{body.pop('sessionId')}:converse"
        async with services.http.stream("POST", url, json=body) as response:
            if response.status_code == 503:
                raise Problem(grpc.StatusCode.UNAVAILABLE, "", "")
            assert response.status_code == 200, await response.aread()
            async for event in sse_events(response):
                if event.name == "stream_error":
                    raise Problem(grpc.StatusCode.UNAVAILABLE, "", str(event.data))
                said = json_format.ParseDict(event.data, SessionEvent())
                assert (payload(said)[0], event.id) == (event.name, str(said.sequence) if said.sequence else None)
                yield said

    return converse


async def the_event(events: AsyncIterator[SessionEvent], name: str, **wanted: object) -> Log:
    """What came, up to the first event of this name with these fields."""
    log = Log()
    async for event in events:
        log.append(event)
        if Log([event]).of(name, **wanted):
            return log
    raise AssertionError(f"no {name}: {log.names}")


async def the_rest(events: AsyncIterator[SessionEvent]) -> Log:
    return Log([event async for event in events])


def told(events: list[SessionEvent]) -> list[tuple[int, str, str]]:
    """The durable events, each with the hash of what it says."""
    return [(event.sequence, payload(event)[0], event.hash) for event in events if event.sequence]


def approval_of(approval: Approval) -> Input:
    return {"approval_id": approval.id, "action": APPROVE, "digest": approval.digest}


# The moment before each message, the message, the first event it is seen by, and the middle in which the crash comes


async def a_user_message(services: Services, client: Client, plan: Plan) -> Input:
    await client.decide(await client.asked(plan.session_id), "APPROVE")
    return {"user_message": {"text": "What is this?"}}  # to the session's agent, while the coder works


async def a_tool_result(services: Services, client: Client, plan: Plan) -> Input:
    await client.decide(await client.asked(plan.session_id), "APPROVE")
    await client.decide(await question(client, plan.session_id), "APPROVE")
    (call,) = (await settled(client, plan.session_id)).of("tool_call_ready")
    return {"tool_result": {"step_id": call["step_id"], "content_json": '{"tab":  7}'}}


async def an_agent_switch(services: Services, client: Client, plan: Plan) -> Input:
    await client.decide(await client.asked(plan.session_id), "APPROVE")
    return {"switch_agent": {"agent": "debug"}}


async def a_tool_decision(services: Services, client: Client, plan: Plan) -> Input:
    await client.decide(await client.asked(plan.session_id), "APPROVE")
    return {"tool_decision": approval_of(await question(client, plan.session_id))}


async def a_plan_decision(services: Services, client: Client, plan: Plan) -> Input:
    return {"plan_decision": approval_of(await client.asked(plan.session_id))}


Seen = tuple[str, dict[str, str]]
SPOKEN: Seen = ("message_delta", {})
STARTED: Seen = ("step_started", {"tool": "run_command"})
MESSAGES: dict[str, tuple[Scene, str, str, Seen]] = {
    "user message": (a_user_message, "Think.", "message_created", SPOKEN),
    "tool result": (a_tool_result, "Open.", "tool_result_recorded", SPOKEN),
    "agent switch": (an_agent_switch, "Think.", "agent_switched", SPOKEN),
    "tool decision": (a_tool_decision, "Run.", "approval_resolved", STARTED),
    "plan decision": (a_plan_decision, "Think.", "approval_resolved", SPOKEN),
}


@pytest.mark.parametrize("transport", [over_grpc, over_http], ids=["grpc", "http"])
@pytest.mark.parametrize("message", MESSAGES)
async def test_a_message_is_stored_streamed_and_survives_a_crash_in_the_middle_and_the_subtask_keeps_its_agent(
    services: Services,
    client: Client,
    message: str,
    transport: Callable[[Services, Client], Converse],
) -> None:
    scene, instructions, first, (middle, wanted) = MESSAGES[message]
    tools = [ClientTool(name="open_tab", description="Opens a tab.")]
    session = await client.new_session(agent="ask", client_tools=tools)
    plan = await client.new_plan(session.id, [a_subtask("work", instructions)])
    converse = transport(services, client)
    said = await scene(services, client, plan)
    request = ConverseRequest(session_id=session.id, request_id=str(uuid.uuid4()), **said)

    async with aclosing(converse(request)) as events:
        begun = await the_event(events, first)  # what an agent that is at work says meanwhile may come before it
        begun += await the_event(events, middle, **wanted)
        await services.orchestrator.kill()
        with pytest.raises(Problem) as broken:
            begun += await the_rest(events)
        assert broken.value.code is grpc.StatusCode.UNAVAILABLE
    assert begun.durable.names[0] == first
    await services.orchestrator.start()
    if message == "tool decision":
        open_gate(services.workspace(session.id))

    async def repeated() -> Log:
        async with aclosing(converse(request)) as events:
            return await the_rest(events)

    whole = await answered(repeated)
    assert whole.names[-1] == "settled"
    stored = await client.events(session.id)
    assert told(whole) == told(stored[begun.sequences[0] - 1 :])
    assert told(whole)[: len(begun.durable)] == told(begun)
    await _done_once(services, client, plan, message, stored)


async def _done_once(services: Services, client: Client, plan: Plan, message: str, log: Log) -> None:
    assert len(log.of("run_finished", run_id=plan.run_id, state="COMPLETED")) == 1
    steps = await client.steps(plan.run_id)
    assert {step.agent for step in steps} == {"coder"}
    assert [subtask.agent for subtask in (await client.get_plan(plan.id)).subtasks] == ["coder"]
    assert {fields["agent"] for fields in log.of("step_started", run_id=plan.run_id)} == {"coder"}
    messages = [words(m) for m in await client.messages(plan.session_id)]
    match message:
        case "user message":
            (own,) = [m for m in messages if m["role"] == "USER"]
            assert (own["text"], own["agent"]) == ("What is this?", "ask")
            assert {step.agent for step in await client.steps(own["run_id"])} == {"ask"}
            assert state(await client.get_run(own["run_id"])) == "COMPLETED"
        case "tool result":
            assert len(log.of("tool_result_recorded")) == 1
            (call,) = [step for step in steps if step.tool]
            assert (state(call), call.result.content) == ("SUCCEEDED", '{"tab":  7}')
        case "agent switch":
            (switched,) = log.of("agent_switched")
            assert (switched["from_agent"], switched["to_agent"]) == ("ask", "debug")
            assert (await client.get_session(plan.session_id)).agent == "debug"
            sent = await client.send(plan.session_id, "Hello", agent="")
            assert (sent.message.agent, sent.run.route_agent) == ("debug", "debug")
        case "tool decision":
            assert journal(services.workspace(plan.session_id)) == ["begun", "ended"]
            assert len(log.of("approval_resolved", kind="TOOL_CALL", action="APPROVE")) == 1
        case "plan decision":
            assert len(log.of("approval_resolved", kind="PLAN", action="APPROVE")) == 1


async def test_the_agent_is_switched_over_http_too(services: Services, client: Client) -> None:
    session = await client.new_session(agent="ask")
    response = await services.http.post(f"/v1/sessions/{session.id}:switchAgent", json={"agent": "debug"})
    assert (response.status_code, response.json()["agent"]) == (200, "debug")
    assert (await client.get_session(session.id)).agent == "debug"
