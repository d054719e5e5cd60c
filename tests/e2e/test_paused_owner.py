"""An orchestrator that is frozen until another has taken its sessions: going on, it changes and starts nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.e2e.scenes import a_subtask, journal, open_gate, running, settled, tool_step
from tests.e2e.services import Process, Services, until
from tests.integration.orchestrator.client import Client, connected, state


@pytest.fixture
async def second(services: Services) -> AsyncIterator[Process]:
    """Another orchestrator over the same database, with the same executor."""
    process = services.another_orchestrator()
    await process.start()
    yield process
    await process.kill()


@pytest.fixture
async def other(second: Process) -> AsyncIterator[Client]:
    """A client of that one."""
    async with connected(second.port) as client:
        yield client


async def let_go(process: Process, session_id: str, before: int = 0) -> None:
    """Wait until it has said that it has let the session go."""
    said = f'"session_id":"{session_id}"'.encode()

    def has_said() -> bool:
        lines = process.log.read_bytes().splitlines()[before:]
        return any(b"session let go" in line and said in line for line in lines)

    await until(has_said)


async def test_who_was_frozen_while_its_step_ran_finds_it_done_by_another_and_changes_nothing(
    services: Services, client: Client, other: Client
) -> None:
    session_id, run_id, workspace = await running(services, client)
    services.orchestrator.send(signal.SIGSTOP)
    try:
        open_gate(workspace)
        await settled(other, session_id)
        before = await other.events(session_id)
    finally:
        services.orchestrator.send(signal.SIGCONT)
    await let_go(services.orchestrator, session_id)
    assert await client.events(session_id) == before
    assert state(await client.get_run(run_id)) == "COMPLETED"
    step = await tool_step(client, run_id)
    assert (state(step), step.dispatch_number) == ("SUCCEEDED", 1)
    assert journal(workspace) == ["begun", "ended"]


@pytest.mark.parametrize("point", ["dispatch", "send.start.before"])
async def test_who_was_frozen_between_a_commit_and_its_start_frame_starts_nothing(
    services: Services, second: Process, other: Client, point: str
) -> None:
    first = services.orchestrator
    await first.kill()
    first.launch(ASSENT_FAILPOINT=f"{point}:2:pause")  # the first is the model's, the second the command's
    await until(lambda: services.says("/readyz", 200))
    lines = len(first.log.read_bytes().splitlines())
    async with AsyncExitStack() as resources:
        client = await resources.enter_async_context(connected(first.port))
        session = await client.new_session()
        plan = await client.new_plan(session.id, [a_subtask("command", "Run.")])
        await client.decide(await client.asked(session.id), "APPROVE")
        deciding = asyncio.create_task(client.decide(await client.asked(session.id), "APPROVE"))
        workspace = services.workspace(session.id)
        try:
            await until(lambda: first.is_frozen)
            await until(lambda: journal(workspace) == ["begun"])  # started by the other one
            first.send(signal.SIGCONT)
            await let_go(first, session.id, lines)
            await deciding
            open_gate(workspace)
            await settled(other, session.id)
            step = await tool_step(other, plan.run_id)
            assert (state(step), step.dispatch_number) == ("SUCCEEDED", 2)
            assert journal(workspace) == ["begun", "ended"]
            assert await client.events(session.id) == await other.events(session.id)
        finally:
            await first.kill()
