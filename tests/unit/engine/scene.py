"""Sessions in memory, their executor, and a worker that drives one: all around it is a test's to bend."""

import asyncio
from functools import partial
from typing import Any

from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.v1 import failure_pb2, tool_call_pb2
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.commands import receive_message, submit_plan
from orchestrator.domain.control import cancel
from orchestrator.domain.deciding import decide
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.records import Decision as Answer
from orchestrator.domain.records import Session, Step
from orchestrator.domain.states import StepState
from orchestrator.engine.decision import Decision
from orchestrator.engine.gathering import Gatherer
from orchestrator.engine.worker import Worker
from orchestrator.operations.context import Reservation
from tests.unit.domain.build import catalog
from tests.unit.engine.memory_store import MemoryStore, Ticks
from tests.unit.engine.test_executors import Ground
from tests.unit.engine.virtual_time import settle

OWNER = "replica-1"
TOOLS = ("write_file", "send_mail", "index_files", "read_file")


class Stage:
    """What people and executors do, to any session of the store."""

    def __init__(self, *, slots: int = 4) -> None:
        self.catalog: Catalog = catalog()
        self.ticks = Ticks()
        self.store = MemoryStore(self.ticks)
        self.store.alive.add(OWNER)
        self.ground = Ground(clock=lambda: self.ticks.now() / 1e6)
        self.slots = slots
        if slots:
            self.ground.join(slots=slots, tools=TOOLS)

    # People, at another replica: without a word to this one

    def say(self, session: str = "s1", *, agent: str = "coder") -> None:
        text = "how are you?"
        self.store.command(session, lambda c: receive_message(c, text, agent, "anna", self.catalog))

    def submit(self, plan: PlanDraft) -> None:
        self.store.command("s1", lambda c: submit_plan(c, plan, "the goal", "anna", self.catalog))

    def approve(self, session: str = "s1") -> None:
        """Whatever is asked."""
        for asked in [a for a in self.store.sessions[session].approvals.values() if a.state == "PENDING"]:
            decision = Answer("APPROVE", "boris", self.ticks.now(), asked.digest)
            self.store.command(session, partial(decide, approval=asked, decision=decision, catalog=self.catalog))

    def cancel(self, session: str = "s1") -> None:
        self.store.command(session, lambda c: cancel(c, c.session.active_run_id, "anna", "enough"))

    # Executors

    async def reply(self, *calls: str, session: str = "s1", step: Step | None = None) -> None:
        """The model answers, with calls of these tools."""
        proposed = [
            tool_call_pb2.ToolCall(call_id=f"c{n}", tool=tool, arguments_json='{"path": "a"}')
            for n, tool in enumerate(calls)
        ]
        result = step_pb2.ModelResult(text="words", tool_calls=proposed, finish_reason="stop", priced=True)
        await self.tell(step, session=session, finished=step_pb2.Finished(model=result))

    async def fail(self, *, session: str = "s1", seconds: int = 0) -> None:
        """A fault that may pass in so many seconds."""
        failed = step_pb2.Failed(reason="MODEL_FAILED", disposition=failure_pb2.DISPOSITION_RETRYABLE)
        failed.retry_after.seconds = seconds
        await self.tell(session=session, failed=failed)

    async def tell(self, step: Step | None = None, *, session: str = "s1", **content: Any) -> None:
        step = step or self.flying(session)[0]
        frame = frames_pb2.ExecutorFrame(step_id=step.id, epoch=1, dispatch_number=step.dispatch_number, **content)
        self.ground.executors.receive(frame)
        await settle()

    # What the rows say

    def session(self, session: str = "s1") -> Session:
        return self.store.sessions[session].session

    def steps(self, session: str = "s1") -> list[Step]:
        return list(self.store.sessions[session].steps.values())

    def flying(self, session: str = "s1") -> list[Step]:
        return [s for s in self.steps(session) if s.state == StepState.DISPATCHED]


class Scene(Stage):
    """One session, and a worker for it."""

    def __init__(self, *, slots: int = 4) -> None:
        super().__init__(slots=slots)
        self.store.create()
        self.waits_for_room: list[Reservation] = []
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        return Worker(
            ("t", "s1"),
            owner=OWNER,
            store=self.store,
            executors=self.ground.executors,
            gatherer=Gatherer(self.ground.executors.files, self.store),
            catalog=self.catalog,
            ticks=self.ticks,
            looked=self._looked,
        )

    def _looked(self, decision: Decision) -> None:
        if decision.change.blocked:
            self.waits_for_room.append(decision.reservation)

    async def begin(self, worker: Worker | None = None) -> None:
        self.task = asyncio.create_task((worker or self.worker).run())
        await settle()

    async def began(self) -> Step:
        """A message came, and its first step is in flight."""
        self.say()
        await self.begin()
        return self.flying()[0]

    @property
    def sent(self) -> list[tuple[str, int, str | None]]:
        return self.ground.line.kinds

    @property
    def is_released(self) -> bool:
        return self.task.done() and self.session().owner == ""

    def check_slots(self) -> None:
        """What the rows say is in flight has a slot each, and nothing else has."""
        assert self.ground.free() == self.slots - len(self.flying())
