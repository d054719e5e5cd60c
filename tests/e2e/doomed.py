"""A service that dies by itself at a failpoint while people go on with their run, and what must be true after it.

No test is here. People repeat what was not answered, with the same request id, and decide what they are asked.
"""

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gen.assent.v1.approval_pb2 import Approval
from tests.e2e.scenes import a_subtask, journal, settled, thinking
from tests.e2e.services import Process, Services, answered, until
from tests.integration.orchestrator.client import Client, Log, payload, state, words

DEATH_SECONDS = 20.0
"""How long a service may live once its run is over, before its failpoint counts as one that is never reached."""

PATIENCE_SECONDS = 60.0
"""How long people wait for something to settle, a slow start of a service included."""

DECISIONS = {"PLAN": "APPROVE", "TOOL_CALL": "APPROVE"}
"""What people answer; to anything else ABORT."""


@dataclass(frozen=True)
class Death:
    """Which service dies at which arrival at which place, and in which scene."""

    scene: str
    service: str
    point: str
    occurrence: int = 1

    def __str__(self) -> str:
        return f"{self.scene}: {self.service} at {self.point}:{self.occurrence}"


@dataclass
class Doomed:
    """A service with a failpoint, which is started again without one as soon as that has killed it."""

    process: Process
    death: Death
    seconds_down: float = 0.0
    _keeping: "asyncio.Task[None] | None" = None

    def start(self) -> None:
        self._lines_before = len(self._log())
        self.process.launch(ASSENT_FAILPOINT=f"{self.death.point}:{self.death.occurrence}:crash")
        self._keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        code = await self.process.ended(limit=120.0)
        died = time.monotonic()
        assert code == -9, f"{self.process.name} ended with {code}"
        await self.process.start()
        self.seconds_down = time.monotonic() - died

    async def died(self) -> bool:
        """Whether it died where it should, and runs again."""
        assert self._keeping is not None
        done, _ = await asyncio.wait({self._keeping}, timeout=DEATH_SECONDS)
        if not done:
            self._keeping.cancel()
            return False
        self._keeping.result()
        fired = [json.loads(line) for line in self._log()[self._lines_before :] if b'"event":"failpoint"' in line]
        assert [(line["failpoint"], line["occurrence"], line["action"]) for line in fired] == [
            (self.death.point, self.death.occurrence, "crash")
        ]
        return True

    async def leave(self) -> None:
        """Whatever became of it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    def _log(self) -> list[bytes]:
        return self.process.log.read_bytes().splitlines() if self.process.log.exists() else []


@dataclass
class Story:
    """A session and its run, as people have followed them over every break of the stream."""

    services: Services
    client: Client
    session_id: str = ""
    run_id: str = ""
    log: Log = field(default_factory=Log)

    async def plan(self) -> None:
        """Two subtasks, each with a call that asks: one that may be repeated, then one that may not."""
        session_request, plan_request = str(uuid.uuid4()), str(uuid.uuid4())
        subtasks = [a_subtask("write", "Write."), a_subtask("count", "Count.", "write")]
        session = await answered(lambda: self.client.new_session(request_id=session_request))
        self.session_id = session.id
        plan = await answered(lambda: self.client.new_plan(session.id, subtasks, request_id=plan_request))
        self.run_id = plan.run_id

    async def think(self, how: str) -> None:
        self.session_id, self.run_id = await thinking(self.client, f"Think {how}.")

    async def run_for_ever(self) -> None:
        """A command that ends only when it is cancelled."""
        session_request, message_request = str(uuid.uuid4()), str(uuid.uuid4())
        session = await answered(lambda: self.client.new_session(request_id=session_request))
        self.session_id = session.id
        sent = await answered(lambda: self.client.send(session.id, "Run.", request_id=message_request))
        self.run_id = sent.run.id
        await self.decide_until(lambda: self._begun())

    async def cancel(self) -> None:
        request = str(uuid.uuid4())
        await answered(lambda: self.client.cancel(self.run_id, request_id=request))

    async def decide_until(self, met: Callable[[], Awaitable[bool]]) -> None:
        """Follow, and decide what is asked, until this is so."""
        while not await met():
            self.log += (await settled_after(self.client, self.session_id, self.log)).durable
            for approval in await answered(lambda: self.client.pending(self.session_id)):
                await self._decide(approval)

    async def _begun(self) -> bool:
        pending = await answered(lambda: self.client.pending(self.session_id))
        if not pending and await self._asked():
            await until(lambda: bool(journal(self.services.workspace(self.session_id))))
        return bool(journal(self.services.workspace(self.session_id)))

    async def _asked(self) -> bool:
        return bool((await answered(lambda: self.client.events(self.session_id))).of("approval_requested"))

    async def to_the_end(self) -> None:
        await self.decide_until(self._has_ended)
        self.log += (await settled_after(self.client, self.session_id, self.log)).durable

    async def _has_ended(self) -> bool:
        run = await answered(lambda: self.client.get_run(self.run_id))
        return state(run) in ("COMPLETED", "FAILED", "CANCELLED")

    async def _decide(self, approval: Approval) -> None:
        action, request = DECISIONS.get(words(approval)["kind"], "ABORT"), str(uuid.uuid4())
        await answered(lambda: self.client.decide(approval, action, request_id=request))

    async def assert_sound(self) -> str:
        """The promises, as far as they are seen from outside; how the run ended."""
        events = await self.client.events(self.session_id)
        assert self.log.sequences == events.sequences == list(range(1, len(events) + 1))
        assert [payload(event) for event in self.log] == [payload(event) for event in events]
        asked = [fields["approval"].id for fields in events.of("approval_requested")]
        resolved = Counter(fields["approval_id"] for fields in events.of("approval_resolved"))
        assert resolved == Counter(asked)
        starts = Counter(journal(self.services.workspace(self.session_id)))
        assert starts["begun"] <= 1, "a call that must not happen twice did"
        steps = await self.client.steps(self.run_id)
        assert all(state(step) in ("SUCCEEDED", "FAILED", "CANCELLED") for step in steps)
        ended = state(await self.client.get_run(self.run_id))
        if ended == "COMPLETED":
            assert starts["begun"] == sum(step.tool == "run_command" for step in steps)
        return ended


async def settled_after(client: Client, session_id: str, seen: Log) -> Log:
    """What came after what was seen, once nothing moves."""
    return await settled(client, session_id, after=seen.sequences[-1] if seen else 0, limit=PATIENCE_SECONDS)


@asynccontextmanager
async def carried_out(services: Services, client: Client, death: Death) -> AsyncIterator[tuple[Story, Doomed]]:
    """The death's scene, from its beginning to the end of its run."""
    await services.start()
    doomed = Doomed(getattr(services, death.service), death)
    story = Story(services, client)
    try:
        if death.scene == "takeover":
            await _taken_over(story, doomed)
        else:
            await doomed.process.kill()
            doomed.start()
            await (story.plan() if death.scene == "plan" else story.run_for_ever())
        if death.scene == "cancel":
            await story.cancel()
        await story.to_the_end()
        yield story, doomed
    finally:
        await doomed.leave()


async def _taken_over(story: Story, doomed: Doomed) -> None:
    """The orchestrator is killed while a model speaks; whoever is doomed is there for what follows."""
    services = story.services
    if doomed.process is services.executor:
        await services.executor.kill()
        doomed.start()
        await until(lambda: services.says("/readyz", 200))
    await story.think("for ages" if "running" in doomed.death.point else "long")  # it must outlast the restart
    await services.orchestrator.kill()
    if doomed.process is services.orchestrator:
        doomed.start()
    else:
        await services.orchestrator.start()
