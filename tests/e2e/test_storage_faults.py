"""PostgreSQL frozen, killed and shut down under commands and runs: told in time, nothing half-written, all goes on."""

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from cli.postgres import EmbeddedPostgres
from gen.assent.v1.approval_pb2 import Approval
from rpc.problem import Problem
from tests.e2e.scenes import a_subtask, journal, open_gate, running, settled, thinking
from tests.e2e.services import ROOT, Services, answered, until
from tests.integration.orchestrator.client import Client, state, words
from tests.postgres import embedded_server, migrate

ANSWER_SECONDS = 5.0


@dataclass
class Storage:
    """A PostgreSQL server to be broken and repaired."""

    server: EmbeddedPostgres
    frozen: list[int] = field(default_factory=list)

    async def freeze(self) -> None:
        """Nothing is answered and nothing is refused: the worst of the three."""
        connection = await asyncpg.connect(self.server.url)
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await connection.close()
        self.frozen = [self.server.pid, *(row["pid"] for row in rows)]
        for pid in self.frozen:
            os.kill(pid, signal.SIGSTOP)

    async def crash(self) -> None:
        os.kill(self.server.pid, signal.SIGKILL)
        await until(lambda: not self.server.running)

    async def shut_down_at_once(self) -> None:
        """PostgreSQL's immediate mode."""
        os.kill(self.server.pid, signal.SIGQUIT)
        await until(lambda: not self.server.running)

    def repair(self) -> None:
        for pid in self.frozen:
            os.kill(pid, signal.SIGCONT)
        self.frozen = []
        self.server.start()


@pytest.fixture(scope="module")
async def storage() -> AsyncIterator[Storage]:
    with embedded_server() as server:
        await migrate(server.url)
        storage = Storage(server)
        yield storage
        storage.repair()


@pytest.fixture(autouse=True)
async def repaired(storage: Storage) -> AsyncIterator[None]:
    """Whatever a test leaves behind, the next one finds a server that works."""
    yield
    storage.repair()


@pytest.fixture(scope="module")
async def services(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with Services.over(storage.server.url, tmp_path_factory.mktemp("storage")) as services:
        await services.start()
        yield services


@dataclass
class Command:
    """A request that is repeated, word for word, and how it was answered the first time."""

    send: Callable[[], Awaitable[object]]
    request_id: str = ""
    problem: Problem | None = None
    seconds: float = 0.0

    async def ask(self) -> None:
        began = time.monotonic()
        try:
            await self.send()
        except Problem as problem:
            self.problem = problem
        self.seconds = time.monotonic() - began


def message_over_grpc(client: Client, session_id: str) -> Command:
    request_id = str(uuid.uuid4())

    async def send() -> str:
        return (await client.send(session_id, "Over gRPC", request_id=request_id)).message.id

    return Command(send, request_id)


def message_over_http(services: Services, session_id: str) -> Command:
    request_id = str(uuid.uuid4())

    async def send() -> str:
        body = {"text": "Over HTTP", "agent": "coder", "requestId": request_id}
        return str((await post(services, f"/v1/sessions/{session_id}/messages", body))["message"]["id"])

    return Command(send, request_id)


def creation(services: Services) -> Command:
    """Without a request id of its own: it is repeated with the one it is told."""

    async def send() -> str:
        return str((await post(services, "/v1/sessions", {"requestId": command.request_id}))["id"])

    command = Command(send)
    return command


async def post(services: Services, path: str, body: dict[str, str]) -> dict[str, Any]:
    response = await services.http.post(path, json=body)
    answer: dict[str, Any] = response.json()
    if response.status_code != 200:
        assert response.status_code == 503, answer
        raise Problem.from_status(json_format.ParseDict(answer, Status()))
    return answer


async def stream(services: Services, session_id: str) -> None:
    """A watcher that comes now; its stream may have begun when the error is known."""
    response = await services.http.get(f"/v1/sessions/{session_id}:stream?until=STREAM_UNTIL_SETTLED")
    error = response.text.partition("event: stream_error\ndata: ")[2] or response.text
    raise Problem.from_status(json_format.Parse(error, Status()))


def decision(client: Client, approval: Approval) -> Command:
    request_id = str(uuid.uuid4())

    async def send() -> str:
        return (await client.decide(approval, "APPROVE", request_id=request_id)).id

    return Command(send, request_id)


async def verify(services: Services, client: Client, session_id: str) -> None:
    """What the published script says of the session's log."""
    script, address = ROOT / "docs" / "verify_chain.py", services.http.base_url.netloc.decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, session_id, address, stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    assert said.startswith(f"OK: {(await client.get_session(session_id)).last_sequence} events")


@pytest.mark.parametrize("fault", [Storage.freeze, Storage.crash, Storage.shut_down_at_once])
async def test_a_storage_fault_is_told_in_time_and_commands_and_runs_go_on_after_it(
    storage: Storage, services: Services, client: Client, fault: Callable[[Storage], Awaitable[None]]
) -> None:
    thinking_session, thinking_run = await thinking(client, "Think long.")
    command_session, command_run, workspace = await running(services, client)
    planned = await client.new_session()
    plan = await client.new_plan(planned.id, [a_subtask("only", "Answer.")])
    asked = await client.asked(planned.id)
    quiet = await client.new_session()
    commands = [
        message_over_grpc(client, quiet.id),
        message_over_http(services, quiet.id),
        creation(services),
        decision(client, asked),
    ]
    readings = [Command(lambda: client.get_session(quiet.id)), Command(lambda: stream(services, quiet.id))]

    await fault(storage)
    open_gate(workspace)  # its outcome comes while nobody can write it down
    await asyncio.gather(
        *(command.ask() for command in (*commands, *readings)),
        until(lambda: services.says("/readyz", 503)),
    )
    assert await services.says("/healthz", 200)
    for command in (*commands, *readings):
        assert command.seconds < ANSWER_SECONDS
        assert command.problem is not None
        assert (command.problem.code, command.problem.reason) == (StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
        assert command.problem.retry_after
        told = command.problem.metadata.get("request_id", "")
        assert told == command.request_id or not command.request_id
        command.request_id = told
    assert all(command.request_id for command in commands)

    storage.repair()
    await until(lambda: services.says("/readyz", 200))
    for command in commands:
        first = await answered(command.send)
        assert await command.send() == first
    sessions = (thinking_session, command_session, planned.id, quiet.id)
    for session_id in sessions:
        await settled(client, session_id)
    messages = [each for each in await client.messages(quiet.id) if words(each)["role"] == "USER"]
    assert sorted(each.text for each in messages) == ["Over HTTP", "Over gRPC"]
    for run_id in (thinking_run, command_run, plan.run_id, *(each.run_id for each in messages)):
        assert state(await client.get_run(run_id)) == "COMPLETED"
        assert {(state(step), step.faults) for step in await client.steps(run_id)} == {("SUCCEEDED", 0)}
    assert journal(workspace) == ["begun", "ended"]
    await asyncio.gather(*(verify(services, client, session_id) for session_id in sessions))


async def test_an_orchestrator_whose_database_is_frozen_stops_when_asked_and_the_next_one_goes_on(
    storage: Storage, services: Services, client: Client
) -> None:
    session_id, run_id = await thinking(client)
    await storage.freeze()
    assert await services.orchestrator.terminated(limit=20) == 0
    storage.repair()
    await services.orchestrator.start()
    await settled(client, session_id)
    assert state(await client.get_run(run_id)) == "COMPLETED"
