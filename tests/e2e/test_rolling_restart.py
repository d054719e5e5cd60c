"""Replicas restarted one after the other under a load of commands, runs and watchers: nobody notices."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from cli.health import grpc_serves
from gen.assent.v1 import catalog_service_pb2
from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1.step_pb2 import STEP_STATE_IN_DOUBT
from rpc.addresses import Address
from rpc.channel import connect
from tests.e2e.scenes import a_subtask
from tests.e2e.services import LEASE_SECONDS, LIMIT_SECONDS, SCRIPT, Process, free_port, until
from tests.integration.orchestrator.client import Client, payload, state
from tests.postgres import Databases

SESSIONS = 6
NUMBERS = ("one", "two")


class Replicas:
    """Two orchestrators and two executors over one database, and a gateway and clients that know both."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.ports = {f"{kind} {n}": free_port() for kind in ("orchestrator", "executor") for n in NUMBERS}
        at = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        executors = ",".join(at[f"executor {n}"] for n in NUMBERS)
        self.addresses = ",".join(at[f"orchestrator {n}"] for n in NUMBERS)
        self.metrics = [f"127.0.0.1:{free_port()}" for _ in NUMBERS]
        self.executor_metrics = [f"127.0.0.1:{free_port()}" for _ in NUMBERS]
        self.orchestrators = [
            self._process(
                "orchestrator",
                n,
                directory,
                ASSENT_DATABASE_URL=database_url,
                ASSENT_GRPC_ADDR=at[f"orchestrator {n}"],
                ASSENT_EXECUTOR_ADDRS=executors,
                ASSENT_LEASE_SECONDS=str(10 * LEASE_SECONDS),  # so that nothing is claimed because it lapsed
                ASSENT_LEASE_RENEW_SECONDS=str(3 * LEASE_SECONDS),
                ASSENT_METRICS_ADDR=metrics,
            )
            for n, metrics in zip(NUMBERS, self.metrics, strict=True)
        ]
        self.executors = [
            self._process(
                "executor",
                n,
                directory,
                ASSENT_EXECUTOR_ADDR=at[f"executor {n}"],
                ASSENT_WORKSPACE_ROOTS=str(directory / "workspaces"),
                ASSENT_SCRIPT=str(SCRIPT),
                ASSENT_METRICS_ADDR=metrics,
            )
            for n, metrics in zip(NUMBERS, self.executor_metrics, strict=True)
        ]
        gateway = free_port()
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway}", trust_env=False, timeout=LIMIT_SECONDS)
        self.gateway = Process(
            "gateway",
            gateway,
            directory,
            self._gateway_serves,
            ASSENT_HTTP_ADDR=f"127.0.0.1:{gateway}",
            ASSENT_GRPC_ADDR=self.addresses,
        )

    def _process(self, name: str, number: str, directory: Path, **told: str) -> Process:
        port = self.ports[f"{name} {number}"]
        (directory / number).mkdir(exist_ok=True)
        return Process(name, port, directory / number, lambda: grpc_serves(Address("127.0.0.1", port)), **told)

    async def _gateway_serves(self) -> bool:
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        processes = [*self.executors, *self.orchestrators, self.gateway]
        try:
            await asyncio.gather(*(process.start() for process in processes))
            yield
        finally:
            await self.http.aclose()
            for process in processes:
                if process.runs:
                    await process.kill()


@pytest.fixture
async def replicas(databases: Databases, template_url: str, tmp_path: Path) -> AsyncIterator[Replicas]:
    async with databases.database(template=template_url) as url:
        replicas = Replicas(tmp_path, url)
        async with replicas.running():
            yield replicas


class User:
    """Sends one message after another, each repeated at most once, and follows the session all the while."""

    def __init__(self, client: Client, http: httpx.AsyncClient, session_id: str) -> None:
        self.client = client
        self.http = http
        self.session_id = session_id
        self.seen: list[int] = []
        self.sent: list[str] = []  # ids of runs
        self.ended: set[str] = set()
        self.connections = 0
        self.steps = 0

    async def send(self, text: str) -> None:
        over_http = len(self.sent) % 2 == 1
        request_id = str(uuid.uuid4())
        try:
            run_id = await self._send(text, request_id, over_http=over_http)
        except _Unavailable:
            run_id = await self._send(text, request_id, over_http=over_http)
        self.sent.append(run_id)

    async def _send(self, text: str, request_id: str, *, over_http: bool) -> str:
        if over_http:
            body = {"text": text, "agent": "coder", "requestId": request_id}
            answer = await self.http.post(f"/v1/sessions/{self.session_id}/messages", json=body)
            if answer.status_code == 503:
                raise _Unavailable(answer.text)
            return str(answer.raise_for_status().json()["run"]["id"])
        request = pb.SendMessageRequest(session_id=self.session_id, text=text, agent="coder", request_id=request_id)
        try:
            return str((await self.client.sessions.SendMessage(request, timeout=LIMIT_SECONDS)).run.id)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise _Unavailable(error.details()) from None
            raise

    async def watch(self) -> None:
        """Resumes wherever a stream ends."""
        while True:
            after = self.seen[-1] if self.seen else 0
            request = pb.StreamSessionRequest(session_id=self.session_id, after_sequence=after, include_deltas=True)
            self.connections += 1
            try:
                async for response in self.client.sessions.StreamSession(request):
                    self.seen += [event.sequence for event in response.events if event.sequence]
                    self.ended |= {event.run_finished.run_id for event in response.events}
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    def has_heard_of(self, run_id: str) -> bool:
        """Whether it was told that the run has ended."""
        return run_id in self.ended

    async def settled(self) -> list[Any]:
        await until(self._is_settled)
        return list((await self.client.settled(self.session_id)).durable)

    async def _is_settled(self) -> bool:
        session = await self.client.get_session(self.session_id)
        return state(session) == "COMPLETED" and bool(self.seen) and self.seen[-1] == session.last_sequence


class _Unavailable(Exception):
    """What a client repeats once."""


@asynccontextmanager
async def load(replicas: Replicas) -> AsyncIterator[list[User]]:
    """Users at work; what one of them may not see fails here."""
    async with connect(replicas.addresses) as channel:
        users = [
            User(Client(channel), replicas.http, (await Client(channel).new_session()).id) for _ in range(SESSIONS)
        ]
        enough = asyncio.Event()

        async def work(user: User, number: int) -> None:
            while not enough.is_set():
                await user.send(f"{'Think.' if number % 2 else 'Hello.'} {len(user.sent)}")
                await until(partial(user.has_heard_of, user.sent[-1]))

        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(user.watch()) for user in users]
            working = [group.create_task(work(user, number)) for number, user in enumerate(users)]
            yield users
            enough.set()
            await asyncio.wait(working)
            for user in users:
                await _nothing_was_noticed(user)
            for task in watching:
                task.cancel()


async def _nothing_was_noticed(user: User) -> None:
    log = await user.settled()
    assert user.seen == [event.sequence for event in log] == list(range(1, len(log) + 1))
    ended = {fields["run_id"]: fields["state"] for name, fields in map(payload, log) if name == "run_finished"}
    assert ended == dict.fromkeys(user.sent, "COMPLETED")
    assert len(set(user.sent)) == len(user.sent)
    for run_id in user.sent:
        for step in await user.client.steps(run_id):
            assert step.state != STEP_STATE_IN_DOUBT
            user.steps += 1


def more_than(users: list[User], count: int) -> bool:
    return sum(len(user.sent) for user in users) > count


async def restarted(process: Process) -> None:
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
    await process.start()


async def metrics_of(address: str) -> list[str]:
    """Every counter that has counted something."""
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(f"http://{address}/metrics")).text.splitlines()
    return [line for line in lines if not line.startswith("#") and not line.endswith(" 0.0")]


async def performed(replicas: Replicas) -> int:
    """How many steps the executors have performed since they were started."""
    counted = [line for each in replicas.executor_metrics for line in await metrics_of(each)]
    return round(sum(float(line.split()[-1]) for line in counted if line.startswith("assent_executor_steps_total")))


async def in_turn(replicas: Replicas, number: int, client: Client) -> None:
    """Clients have found the replica: only then may another one go, as every operator must know."""

    async def is_asked() -> bool:
        await client.call(client.catalog.ListAgents, catalog_service_pb2.ListAgentsRequest())
        (await replicas.http.get("/v1/policies")).raise_for_status()
        asked = [line for line in await metrics_of(replicas.metrics[number]) if "server_requests_total" in line]
        return all(any(method in line for line in asked) for method in ("ListAgents", "ListPolicies"))

    await until(is_asked)


async def test_orchestrators_restarted_in_turn_fail_no_command_and_repeat_nothing(replicas: Replicas) -> None:
    async with load(replicas) as users:
        for number in range(len(replicas.orchestrators)):
            await in_turn(replicas, number, users[0].client)
        for number, orchestrator in enumerate(replicas.orchestrators):
            before = sum(len(user.sent) for user in users)
            await restarted(orchestrator)
            await in_turn(replicas, number, users[0].client)
            await until(partial(more_than, users, before + SESSIONS))
    assert sum(user.connections for user in users) > SESSIONS
    assert await performed(replicas) == sum(user.steps for user in users)


async def test_executors_restarted_in_turn_finish_or_hand_over_what_they_hold(replicas: Replicas) -> None:
    async with load(replicas) as users:
        await until(lambda: all(len(user.sent) > 1 for user in users))
        for executor in replicas.executors:
            before = sum(len(user.sent) for user in users)
            await restarted(executor)
            await until(partial(more_than, users, before + SESSIONS))


async def test_a_command_that_runs_while_its_orchestrator_restarts_is_reattached_and_not_run_again(
    replicas: Replicas, tmp_path: Path
) -> None:
    async with connect(replicas.addresses) as channel:
        client = Client(channel)
        session = await client.new_session()
        plan = await client.new_plan(session.id, [a_subtask("command", "Run.")])
        for number in range(len(replicas.orchestrators)):
            await in_turn(replicas, number, client)
        await client.decide(await client.asked(session.id), "APPROVE")
        await client.decide(await client.asked(session.id), "APPROVE")
        workspace = tmp_path / "workspaces" / session.id
        journal = workspace / "journal"
        await until(lambda: journal.exists() and journal.read_text().split() == ["begun"])
        for number, orchestrator in enumerate(replicas.orchestrators):
            await restarted(orchestrator)
            await in_turn(replicas, number, client)
        (workspace / "gate").touch()

        async def completed() -> bool:
            return state(await client.get_run(plan.run_id)) == "COMPLETED"

        await until(completed)
        assert journal.read_text().split() == ["begun", "ended"]
        steps = await client.steps(plan.run_id)
        assert [step.dispatch_number for step in steps] == [1] * len(steps)
