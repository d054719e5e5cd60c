"""A deleted session is gone for everybody at once, and everything of it soon after."""

import asyncio

import grpc
import pytest

from gen.assent.v1 import session_service_pb2
from tests.integration.orchestrator.client import Client
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replica, Replicas, Tables
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

REQUEST = "0192f0c1-2345-7000-8000-00000000000d"
OTHER = "0192f0c1-2345-7000-8000-00000000000e"


async def delete(client: Client, session_id: str, request_id: str = "") -> session_service_pb2.DeleteSessionResponse:
    request = session_service_pb2.DeleteSessionRequest(session_id=session_id, request_id=request_id)
    response: session_service_pb2.DeleteSessionResponse = await client.call(client.sessions.DeleteSession, request)
    return response


async def closed(client: Client) -> str:
    session = await client.new_session()
    sent = await client.send(session.id)
    await client.settled(session.id)
    await client.close(session.id)
    assert sent.run.id
    return session.id


async def until_erased(tables: Tables) -> None:
    async with asyncio.timeout(10):
        while any(count for name, count in (await tables.counts()).items() if name not in ("request", "audit")):
            pass


async def test_a_closed_session_is_erased_with_everything_in_it(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    executor.play = answers
    session_id = await closed(client)
    assert await delete(client, session_id) == session_service_pb2.DeleteSessionResponse()
    for call in (client.get_session(session_id), client.send(session_id), client.events(session_id)):
        assert (await client.refusal(call)).reason == "SESSION_NOT_FOUND"
    await until_erased(tables)


@pytest.mark.usefixtures("replica")
async def test_an_open_session_is_refused_and_told_what_would_do(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("put")
    session = await client.new_session()
    for _ in range(2):
        problem = await client.refusal(delete(client, session.id))
        assert (problem.code, problem.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
        assert problem.metadata["accepting"] == "CLOSED"
        await client.send(session.id)
    assert (await client.get_session(session.id)).id == session.id


async def test_what_is_not_there_or_anothers_is_not_found(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = answers
    session_id = await closed(client)
    foreign = client.acting_as("eve", tenant="another")
    for asking, asked in ((foreign, session_id), (client, OTHER)):
        problem = await client.refusal(delete(asking, asked))
        assert (problem.code, problem.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")
    assert (await client.get_session(session_id)).id == session_id


async def test_a_repeat_answers_the_same_and_a_second_request_finds_nothing(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    session_id = await closed(client)
    first = await asyncio.gather(*(delete(client, session_id, REQUEST) for _ in range(4)))
    assert first == [session_service_pb2.DeleteSessionResponse()] * 4
    assert await delete(client, session_id, REQUEST) == first[0]
    assert (await client.refusal(delete(client, session_id, OTHER))).reason == "SESSION_NOT_FOUND"
    assert (await client.refusal(delete(client, OTHER, REQUEST))).reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["at the same orchestrator", "at another one"])
async def test_watchers_end_with_not_found(
    replicas: Replicas, replica: Replica, executor: ScriptedExecutor, elsewhere: bool
) -> None:
    executor.play = answers
    client = replica.client
    watching = (await replicas.start()).client if elsewhere else client
    session_id = await closed(client)
    async with watching.watch(session_id) as watch:
        await watch.until("session_closed")
        await delete(client, session_id)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.end()
    assert ended.value.code() == grpc.StatusCode.NOT_FOUND


async def test_what_a_dead_orchestrator_left_half_erased_another_finishes(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor.play = answers
    monkeypatch.setattr("orchestrator.store.retention.LOOK_SECONDS", 0.1)
    first = await replicas.start()
    await executor.joined()
    session_id = await closed(first.client)
    monkeypatch.setattr("orchestrator.store.retention.Sweeper.nudge", lambda self: None)
    await delete(first.client, session_id)
    await first.crash()
    second = await replicas.start()
    assert (await second.client.refusal(second.client.get_session(session_id))).reason == "SESSION_NOT_FOUND"
    await until_erased(tables)
