"""A link to a fake executor, as a replica holds it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from gen.assent.executor.v1 import frames_pb2
from orchestrator.domain.catalog import Catalog, Tool
from orchestrator.domain.outcomes import Outcome
from orchestrator.domain.records import Session, Step
from orchestrator.domain.snapshot import Snapshot
from orchestrator.engine import link as link_module
from orchestrator.engine.executors import Executors
from orchestrator.engine.link import ExecutorLink
from tests.unit.domain.build import a_run, a_step
from tests.unit.engine.fake_executor import LIMIT_SECONDS, FakeExecutor, Stream

NOW = 1_700_000_000_000_000
MINUTE = 60_000_000


class Linked:
    """A link to a fake executor, what it was offered, and the outcomes that came of it."""

    def __init__(self, address: str, executor: FakeExecutor) -> None:
        self.executor = executor
        self.address = address
        self.joined = asyncio.Event()
        self.executors = Executors(Catalog(), on_delta=lambda *_: None, on_room=lambda _: self.joined.set())
        self.offered: list[Tool] = []
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        self.awaited: set[str] | Exception = set()
        self.asked: list[tuple[Sequence[str], str]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.link = ExecutorLink(
            address, self.executors, clock=lambda: NOW, offer=self.offered.extend, dispatched=self._dispatched
        )
        self.executors.add_line(self.link)
        self.calls: list[link_module.Call] = []
        read = self.link._read

        async def reads(call: link_module.Call, stub: link_module.Stub) -> None:
            self.calls.append(call)
            await read(call, stub)

        self.link._read = reads  # type: ignore[method-assign]  # to know when the stream has ended on this side

    async def _dispatched(self, step_ids: Sequence[str], instance_id: str) -> set[str]:
        self.asked.append((step_ids, instance_id))
        await self.may_answer.wait()
        if isinstance(self.awaited, Exception):
            raise self.awaited
        return self.awaited

    async def greeted(self, *held: frames_pb2.HeldStep, instance: str = "i1") -> Stream:
        """The next stream, once the link has taken its hello."""
        stream = await self.executor.next_stream()
        self.joined.clear()
        stream.hello(instance, *held)
        async with asyncio.timeout(LIMIT_SECONDS):
            await self.joined.wait()
        return stream

    def fly(self, step: Step) -> None:
        """A step this replica knows to be in that executor's hands."""
        self.executors.reattach(
            replace(step, executor_address=self.address, executor_instance="i1"), 7, self.outcomes.put_nowait
        )

    def launch(self, step_id: str) -> None:
        """A step that is started there."""
        step = replace(flying(step_id), executor_address=self.address, executor_instance="i1")
        snapshot = Snapshot(Session("t", "s1"), runs={"r1": a_run()})
        self.executors.start(snapshot, step, 7, self.outcomes.put_nowait)

    async def again(self, stream: Stream) -> None:
        """The executor says hello on this stream, and is taken up."""
        self.joined.clear()
        stream.hello()
        async with asyncio.timeout(LIMIT_SECONDS):
            await self.joined.wait()

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await self.outcomes.get()


@asynccontextmanager
async def linking(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Linked]:
    monkeypatch.setattr(link_module, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(link_module, "LONGEST_PAUSE_SECONDS", 0.002)
    executor = FakeExecutor()
    async with executor.serving() as address:
        made = Linked(address, executor)
        task = asyncio.create_task(made.link.run())
        try:
            yield made
            assert not task.done(), "the link gave up"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def flying(step_id: str = "x1", number: int = 1) -> Step:
    return a_step(id=step_id, state="DISPATCHED", dispatch_number=number, deadline_time=NOW + MINUTE)
