"""A bad network between the orchestrator and what it talks to: answers lost, half-open, silent, slow, cut."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import grpc
import pytest

from cli.postgres import EmbeddedPostgres
from orchestrator.engine import link
from rpc.channel import ChannelLimits, connect
from tests.integration.orchestrator.client import Client, Log
from tests.integration.orchestrator.real_executor import serving
from tests.integration.orchestrator.replica import Replica, Replicas, tell_callers_apart
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor
from tests.postgres import embedded_server, migrate
from tests.proxy import PostgresProxy, TcpProxy, before_postgres, before_tcp

ANSWER_LIMIT = 5.0
SCRIPT = """
replies:
- when: {agent: coder, turn: 0, contains: Run it}
  tool_calls: [{tool: run_command, arguments: {command: "echo once >> count; until [ -e go ]; do sleep 0.02; done"}}]
- text: done
"""


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[EmbeddedPostgres]:
    with embedded_server() as server:
        await migrate(server.url)
        yield server


@pytest.fixture
async def storage(server: EmbeddedPostgres) -> AsyncIterator[PostgresProxy]:
    async with before_postgres(server.url) as proxy:
        yield proxy


@pytest.fixture
async def behind_storage(
    storage: PostgresProxy, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Replica]:
    """An orchestrator whose way to the database is the proxy."""
    tell_callers_apart(monkeypatch)
    replicas = Replicas(storage.url, executor.address)
    replica = await replicas.start()
    await executor.joined()
    yield replica
    storage.heal()
    await replicas.stop()


async def told_in_time(client: Client, session_id: str, request_id: str) -> None:
    """A message is sent, and refused as unavailable before a caller would give up."""
    async with asyncio.timeout(ANSWER_LIMIT):
        problem = await client.refusal(client.send(session_id, request_id=request_id))
    assert problem.code is grpc.StatusCode.UNAVAILABLE


# Between the orchestrator and PostgreSQL


async def test_a_message_whose_commit_answer_was_swallowed_is_there_once(
    storage: PostgresProxy, behind_storage: Replica, executor: ScriptedExecutor
) -> None:
    client = behind_storage.client
    session = await client.new_session()
    storage.lose_answer_to(b"these words alone")
    sent = await client.send(session.id, "these words alone")
    assert storage.lost == 1
    assert [message.id for message in await client.messages(session.id)] == [sent.message.id]
    (await executor.next()).says("done")
    assert (await client.settled(session.id)).of("run_finished", state="COMPLETED")


async def test_an_outcome_whose_commit_answer_was_swallowed_is_recorded_once(
    storage: PostgresProxy, behind_storage: Replica, executor: ScriptedExecutor
) -> None:
    client = behind_storage.client
    session = await client.new_session()
    await client.send(session.id)
    call = await executor.next()
    storage.lose_answer_to(b"words of the model")
    call.says("words of the model")
    log = await client.settled(session.id)
    assert storage.lost == 1
    assert len(log.of("step_finished")) == len(log.of("step_started")) == len(executor.acts) == 1
    assert [m.text for m in await client.messages(session.id)] == ["words of the model", "Hello"]


@pytest.mark.parametrize("silence", [PostgresProxy.swallow_answers, PostgresProxy.swallow_requests])
async def test_a_database_that_says_nothing_is_told_in_time_and_the_repeat_has_one_effect(
    storage: PostgresProxy, behind_storage: Replica, silence: Callable[[PostgresProxy], None]
) -> None:
    client, request_id = behind_storage.client, str(uuid.uuid4())
    session = await client.new_session()
    silence(storage)
    await told_in_time(client, session.id, request_id)
    storage.heal()
    sent = await client.send(session.id, request_id=request_id)
    assert [message.id for message in await client.messages(session.id)] == [sent.message.id]


async def test_a_step_that_ends_while_the_database_is_silent_is_neither_lost_nor_run_again(
    storage: PostgresProxy, behind_storage: Replica, executor: ScriptedExecutor
) -> None:
    client = behind_storage.client
    session = await client.new_session()
    await client.send(session.id)
    call = await executor.next()
    storage.stall()
    call.says("said into the silence")
    await storage.swallowed()
    storage.heal()
    log = await client.settled(session.id)
    assert log.of("run_finished", state="COMPLETED")
    assert len(executor.acts) == 1
    assert (await client.messages(session.id))[0].text == "said into the silence"


async def test_a_slow_way_to_the_database_slows_a_run_and_breaks_nothing(
    storage: PostgresProxy, behind_storage: Replica, executor: ScriptedExecutor
) -> None:
    client = behind_storage.client
    storage.delay(0.03)
    executor.play = lambda act: act.says("done")
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    log = await client.settled(session.id)
    assert [e["to_state"] for e in log.of("plan_state_changed", plan_id=plan.id)][-1] == "COMPLETED"
    assert log.sequences == list(range(1, len(log.durable) + 1))


# Between the orchestrator and an executor, the real one


@pytest.fixture
async def workspace(tmp_path: Path) -> Path:
    directory = tmp_path / "root" / "project"
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
async def wire(workspace: Path, tmp_path: Path) -> AsyncIterator[TcpProxy]:
    """The way to a real executor."""
    async with serving(tmp_path, SCRIPT) as (_, address), before_tcp(address) as proxy:
        yield proxy


@pytest.fixture
async def client(replicas: Replicas, wire: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Of an orchestrator that notices a silent executor soon."""
    watchful = ChannelLimits(keepalive_seconds=1, keepalive_timeout_seconds=1)
    monkeypatch.setattr(link, "connect", partial(connect, limits=watchful))
    return (await replicas.start(executor_addrs=wire.address)).client


async def begun(client: Client, workspace: Path) -> str:
    """A session whose one command, not to be run twice, was approved."""
    session = await client.new_session(workspace={"directory": "project"})
    await client.send(session.id, "Run it")
    await client.decide(await client.asked(session.id), "APPROVE")
    return session.id


async def command_started(client: Client, session_id: str, workspace: Path) -> None:
    async with asyncio.timeout(10):
        while not (workspace / "count").exists():  # noqa: ASYNC110  # another process makes it, which sets no event
            await asyncio.sleep(0.01)


def assert_ran_once(log: Log, workspace: Path) -> None:
    assert (workspace / "count").read_text() == "once\n"
    assert [e["trigger"] for e in log.of("step_finished", tool="run_command")][-1:] == ["succeeded"]
    assert not log.of("approval_requested", kind="IN_DOUBT")
    assert log.of("run_finished", state="COMPLETED")


@pytest.mark.parametrize("fault", ["stall", "swallow_answers", "swallow_requests"])
async def test_a_command_in_flight_when_the_executor_falls_silent_is_found_again_and_runs_once(
    client: Client, wire: TcpProxy, workspace: Path, fault: str
) -> None:
    session_id = await begun(client, workspace)
    await command_started(client, session_id, workspace)
    getattr(wire, fault)()
    (workspace / "go").touch()
    await wire.swallowed()
    wire.heal()
    assert_ran_once(await client.settled(session_id), workspace)


async def test_a_silent_executor_is_noticed_without_anybody_cutting_the_connection(
    client: Client, wire: TcpProxy, workspace: Path
) -> None:
    """Keepalive ends the half-open stream; the one after it finds the command again."""
    session_id = await begun(client, workspace)
    await command_started(client, session_id, workspace)
    wire.swallow_answers()
    (workspace / "go").touch()
    await wire.closed()
    wire.heal()
    assert_ran_once(await client.settled(session_id), workspace)


async def test_a_start_that_the_network_swallowed_is_made_again_once(
    client: Client, wire: TcpProxy, workspace: Path
) -> None:
    (workspace / "go").touch()
    session = await client.new_session(workspace={"directory": "project"})
    await client.send(session.id, "Run it")
    approval = await client.asked(session.id)
    wire.swallow_requests()
    await client.decide(approval, "APPROVE")
    await wire.swallowed()
    wire.heal()
    log = await client.settled(session.id)
    assert_ran_once(log, workspace)
    assert [e["dispatch_number"] for e in log.of("step_started", tool="run_command")] == [1, 2]


async def test_a_connection_that_is_cut_again_and_again_costs_nothing_but_time(
    client: Client, wire: TcpProxy, workspace: Path
) -> None:
    session_id = await begun(client, workspace)
    await command_started(client, session_id, workspace)
    for _ in range(5):
        wire.cut()
        await wire.opened()
    (workspace / "go").touch()
    assert_ran_once(await client.settled(session_id), workspace)


async def test_a_slow_network_to_the_executor_breaks_nothing(client: Client, wire: TcpProxy, workspace: Path) -> None:
    wire.delay(0.05)
    (workspace / "go").touch()
    session_id = await begun(client, workspace)
    assert_ran_once(await client.settled(session_id), workspace)
