"""Commands in flight when the orchestrator is killed: repeated until answered, each takes effect exactly once."""

import asyncio
import random
import uuid

import grpc

from rpc.problem import Problem
from tests.e2e.scenes import settled
from tests.e2e.services import Services, answered
from tests.integration.orchestrator.client import Client, state, words

SESSIONS, MESSAGES = 4, 20


async def send_over_http(services: Services, session_id: str, text: str, request_id: str) -> str:
    """The id of the message."""
    body = {"text": text, "agent": "coder", "requestId": request_id}
    response = await services.http.post(f"/v1/sessions/{session_id}/messages", json=body)
    if response.status_code == 503:
        raise Problem(grpc.StatusCode.UNAVAILABLE, "", response.text)
    return str(response.raise_for_status().json()["message"]["id"])


async def send_over_grpc(client: Client, session_id: str, text: str, request_id: str) -> str:
    return (await client.send(session_id, text, request_id=request_id)).message.id


async def test_messages_in_flight_over_a_crash_are_each_stored_once_and_carried_out(
    services: Services, client: Client
) -> None:
    sessions = [(await client.new_session()).id for _ in range(SESSIONS)]
    request_ids = [str(uuid.uuid4()) for _ in range(MESSAGES)]
    answers: dict[str, str] = {}
    kill_after, enough = random.randrange(MESSAGES), asyncio.Event()

    async def send(number: int) -> None:
        session_id, text, request_id = sessions[number % SESSIONS], f"Message {number}", request_ids[number]
        if number < MESSAGES // 2:
            answers[text] = await answered(lambda: send_over_grpc(client, session_id, text, request_id))
        else:
            answers[text] = await answered(lambda: send_over_http(services, session_id, text, request_id))
        if len(answers) >= kill_after:
            enough.set()

    sending = asyncio.gather(*(send(number) for number in range(MESSAGES)))
    if kill_after:
        await enough.wait()
    await services.orchestrator.kill()
    await services.orchestrator.start()
    await sending
    first = dict(answers)
    await asyncio.gather(*(send(number) for number in range(MESSAGES)))
    assert answers == first
    stored = []
    for session_id in sessions:
        await settled(client, session_id)
        stored += [each for each in await client.messages(session_id) if words(each)["role"] == "USER"]
    assert {message.text: message.id for message in stored} == answers, f"killed after {kill_after}"
    assert len(stored) == MESSAGES
    runs = [await client.get_run(message.run_id) for message in stored]
    assert [state(run) for run in runs] == ["COMPLETED"] * MESSAGES
    assert len({run.id for run in runs}) == MESSAGES
