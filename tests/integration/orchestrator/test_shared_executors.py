"""Several orchestrators and several executors: slots are shared, files stay under their root, nothing starts twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from executor.bootstrap import Parts
from executor.steps import Listener, Outcome, Ref, Start
from orchestrator.engine.executors import Executors
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.real_executor import serving
from tests.integration.orchestrator.replica import Replica, Replicas, Tables, all_let_go

SCRIPT = """
replies:
- when: {agent: coder, turn: 0, contains: looks}
  tool_calls: [{tool: noop, arguments: {}}, {tool: list_files, arguments: {}}]
- when: {agent: coder, turn: 0, contains: marks}
  tool_calls: [{tool: run_command, arguments: {command: "echo mark >> marks"}}]
- when: {agent: coder, turn: 0, contains: writes}
  tool_calls: [{tool: write_file, arguments: {path: made.txt, content: made}}]
- text: done
"""
SLEEPY = {"lease_seconds": 60.0, "lease_renew_seconds": 3600.0}  # never renews: frozen, as far as others can see

T = TypeVar("T")
Serve = Callable[..., Any]


class Running:
    """An executor, and how often it began each step."""

    def __init__(self, parts: Parts, address: str, root: Path) -> None:
        self.address = address
        self.root = root
        self.begun: Counter[str] = Counter()
        performer = parts.executor.performer
        instantly = performer.instantly

        def counted(start: Start) -> Outcome | None:
            self.begun[start.ref.step_id] += 1
            return instantly(start)

        performer.instantly = counted  # type: ignore[method-assign]  # every step begins there
        self.came: asyncio.Queue[Ref] = asyncio.Queue()
        start = parts.ledger.start

        def comes(step: Start, listener: Listener, *, is_announced: bool = True) -> None:
            start(step, listener, is_announced=is_announced)
            self.came.put_nowait(step.ref)

        parts.ledger.start = comes  # type: ignore[method-assign, assignment]  # every start frame comes there


@asynccontextmanager
async def running(directory: Path, *, slots: int, **more: Any) -> AsyncIterator[Running]:
    async with serving(directory, SCRIPT, executor_slots=slots, **more) as (parts, address):
        yield Running(parts, address, directory / "root")


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts executors, each with a root of its own."""
    async with AsyncExitStack() as resources:

        async def start(name: str, slots: int = 4, **more: Any) -> Running:
            return await resources.enter_async_context(running(tmp_path / name, slots=slots, **more))

        yield start


async def run_of(client: Client, text: str, **session: Any) -> tuple[str, str]:
    made = await client.new_session(**session)
    return made.id, (await client.send(made.id, text)).run.id


async def finished(client: Client, session_id: str, run_id: str) -> None:
    await client.settled(session_id)
    assert state(await client.get_run(run_id)) == "COMPLETED"


async def test_two_orchestrators_share_the_slots_of_one_executor(replicas: Replicas, serve: Serve) -> None:
    executor = await serve("one", slots=4)
    clients = [(await replicas.start(executor_addrs=executor.address)).client for _ in range(2)]
    runs = await asyncio.gather(*(run_of(clients[n % 2], "looks around") for n in range(50)))
    async with asyncio.timeout(60):
        await asyncio.gather(*(finished(clients[n % 2], *run) for n, run in enumerate(runs)))
    steps = [step for n, (_, run_id) in enumerate(runs) for step in await clients[n % 2].steps(run_id)]
    assert len(steps) == 200
    assert {state(step) for step in steps} == {"SUCCEEDED"}
    assert set(executor.begun) == {step.id for step in steps}
    assert set(executor.begun.values()) == {1}
    assert all(step.dispatch_number == step.refusals + 1 for step in steps)
    assert {(step.faults, step.losses) for step in steps} == {(0, 0)}
    assert sum(step.refusals for step in steps) < len(steps)


async def test_what_touches_files_waits_in_sight_for_the_executor_of_its_root_while_models_go_anywhere(
    replicas: Replicas, serve: Serve, tmp_path: Path
) -> None:
    second = await serve("second")
    async with running(tmp_path / "first", slots=4) as first:
        client = (await replicas.start(executor_addrs=f"{first.address},{second.address}")).client
        root_id = (first.root / ".assent-root").read_text().strip()
        session = await in_the_end(lambda: client.new_session(workspace={"root_id": root_id, "directory": "project"}))
    run = (await client.send(session.id, "writes")).run
    approval = await client.asked(session.id)  # its model was asked at the second executor
    async with client.watch(session.id) as watch:
        await client.decide(approval, "APPROVE")
        await watch.until("step_waiting")
    (step,) = [step for step in await client.steps(run.id) if step.tool]
    assert root_id in step.waiting_for.needs
    assert (state(step), step.dispatch_number) == ("APPROVED", 0)
    assert len(second.begun) == 1
    async with running(tmp_path / "first", slots=4, executor_addr=first.address) as first:
        await finished(client, session.id, run.id)
        assert (first.root / "project/made.txt").read_text() == "made"
    (step,) = [step for step in await client.steps(run.id) if step.tool]
    assert (step.dispatch_number, step.faults, step.losses, step.refusals) == (1, 0, 0, 0)


async def in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    """The answer, once executors have joined."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await call()
            except Problem:
                await asyncio.sleep(0.01)


def hold_back(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, list[Callable[[], None]]]:
    """From now on this replica's starts are not made; they can be made late."""
    executors: Executors = replica._orchestrator._executors
    start, held, came = executors.start, list[Callable[[], None]](), asyncio.Event()

    def late(*args: Any) -> None:
        held.append(lambda: start(*args))
        came.set()

    monkeypatch.setattr(executors, "start", late)
    return came, held


async def test_an_owner_that_slept_between_its_commit_and_its_start_frame_starts_nothing(
    replicas: Replicas, serve: Serve, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = await serve("one")
    first = await replicas.start(executor_addrs=executor.address, **SLEEPY)
    session_id, run_id = await run_of(first.client, "marks", workspace={"directory": "project"})
    approval = await first.client.asked(session_id)
    committed, held = hold_back(first, monkeypatch)
    await first.client.decide(approval, "APPROVE")
    await asyncio.wait_for(committed.wait(), 10)
    (step,) = [step for step in await first.client.steps(run_id) if step.tool]
    assert (state(step), step.dispatch_number) == ("DISPATCHED", 1)

    await tables.pass_time(61)
    second = await replicas.start(executor_addrs=executor.address, lease_seconds=60, lease_renew_seconds=0.2)
    await finished(second.client, session_id, run_id)
    before = await tables.counts()
    for start in held:
        start()
    async with asyncio.timeout(10):
        while (ref := await executor.came.get()).step_id != step.id or ref.dispatch != 1:
            pass  # what was started in time
    await all_let_go()
    assert executor.begun[step.id] == 1
    assert await tables.counts() == before
    assert (executor.root / "project" / "marks").read_text() == "mark\n"
    (step,) = [step for step in await second.client.steps(run_id) if step.tool]
    assert (state(step), step.dispatch_number) == ("SUCCEEDED", 2)
