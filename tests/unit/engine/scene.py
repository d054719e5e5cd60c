"""One session, its rows, its executor, and a worker that drives it: all around the worker is a test's to bend."""

import asyncio

from gen.assent.executor.v1 import frames_pb2, step_pb2
from gen.assent.v1 import tool_call_pb2
from orchestrator.domain.change import Change
from orchestrator.domain.commands import cancel, receive_message, submit_plan
from orchestrator.domain.drafts import PlanDraft
from orchestrator.domain.records import Session, Step
from orchestrator.domain.states import StepState
from orchestrator.engine.worker import Worker
from orchestrator.operations.context import Reservation
from tests.unit.domain.build import catalog
from tests.unit.engine.memory_store import MemoryStore, Ticks
from tests.unit.engine.test_executors import Ground
from tests.unit.engine.virtual_time import settle

OWNER = "replica-1"
TOOLS = ("write_file", "send_mail", "index_files", "read_file")


class Scene:
    def __init__(self, *, slots: int = 4) -> None:
        self.catalog = catalog()
        self.ticks = Ticks()
        self.store = MemoryStore(self.ticks)
        self.store.alive.add(OWNER)
        self.store.create()
        self.ground = Ground()
        self.slots = slots
        if slots:
            self.ground.join(slots=slots, tools=TOOLS)
        self.waits_for_room: list[Reservation] = []
        self.worker = self.new_worker()

    def new_worker(self) -> Worker:
        return Worker(
            ("t", "s1"),
            owner=OWNER,
            store=self.store,
            executors=self.ground.executors,
            catalog=self.catalog,
            ticks=self.ticks,
            wait_for_room=self.waits_for_room.append,
        )

    # What happens

    def say(self, text: str = "how are you?", agent: str = "coder") -> None:
        self.store.command("s1", lambda c: receive_message(c, text, agent, "anna", self.catalog))

    def submit(self, plan: PlanDraft) -> None:
        self.store.command("s1", lambda c: submit_plan(c, plan, "the goal", "anna", self.catalog))

    def cancel(self) -> None:
        """As another replica's command does it: without a word to this one."""
        self.store.command("s1", lambda c: cancel(c, c.session.active_run_id, "anna", "enough"))

    def touch(self) -> None:
        """Somebody writes something that changes nothing the worker does."""

        def rename(change: Change) -> None:
            receive_message(change, "and then?", "coder", "anna", self.catalog)

        self.store.command("s1", rename)

    async def begin(self, worker: Worker | None = None) -> "asyncio.Task[None]":
        self.task = asyncio.create_task((worker or self.worker).run())
        await settle()
        return self.task

    async def began(self, agent: str = "coder") -> Step:
        """A message came, and its first step is in flight."""
        self.say(agent=agent)
        await self.begin()
        return self.flying[0]

    async def reply(self, text: str = "", *calls: str, step: Step | None = None) -> None:
        """The model answers, with calls of these tools."""
        proposed = [
            tool_call_pb2.ToolCall(call_id=f"c{n}", tool=t, arguments_json='{"path": "a"}') for n, t in enumerate(calls)
        ]
        result = step_pb2.ModelResult(text=text, tool_calls=proposed, finish_reason="stop", priced=True)
        await self.tell(step, finished=step_pb2.Finished(model=result))

    async def tell(self, step: Step | None = None, **content: object) -> None:
        step = step or self.flying[0]
        frame = frames_pb2.ExecutorFrame(step_id=step.id, epoch=1, dispatch_number=step.dispatch_number, **content)  # type: ignore[arg-type]  # fields by name
        self.ground.executors.receive(frame)
        await settle()

    # What is

    @property
    def session(self) -> Session:
        return self.store.sessions["s1"].session

    @property
    def steps(self) -> list[Step]:
        return list(self.store.sessions["s1"].steps.values())

    @property
    def flying(self) -> list[Step]:
        return [s for s in self.steps if s.state == StepState.DISPATCHED]

    @property
    def sent(self) -> list[tuple[str, int, str | None]]:
        return self.ground.line.kinds

    @property
    def is_released(self) -> bool:
        return self.task.done() and self.session.owner == ""

    def check_slots(self) -> None:
        """What the rows say is in flight has a slot each, and nothing else has."""
        assert self.ground.free() == self.slots - len(self.flying)
