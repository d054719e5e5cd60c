"""One world, made from a seed: a database, replicas, executors, people; what it does until all rests is its history."""

import asyncio
import gc
import traceback
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from executor.models.model import ModelRequest
from executor.steps import Start
from tests.simulator.evidence import Evidence, is_batch, written_by
from tests.simulator.history import History, Started, Written
from tests.simulator.hosts import ExecutorHost
from tests.simulator.loop import BEGINNING, Life, Node, SimLoop, Stuck
from tests.simulator.network import Network
from tests.simulator.people import Person
from tests.simulator.physical import Physical
from tests.simulator.postgres import Postgres
from tests.simulator.replicas import Replica
from tests.simulator.script import Script
from tests.simulator.stand_ins import Clock, standing_in
from tests.simulator.weather import Weather

REST_SECONDS = 150.0  # in which everything must come to rest after the last fault
BURIAL_SECONDS = 120.0

Play = Callable[["World"], Awaitable[None]]
"""What happens in the world until it is judged; it begins with replicas and executors just started."""


class World:
    """Everything of one seed. `run` plays it and returns its history."""

    def __init__(self, physical: Physical, seed: int, *, replicas: int = 2, executors: int = 1, slots: int = 4) -> None:
        self._physical = physical
        self._sizes = (replicas, executors, slots)
        self.random = Random(seed)
        self.history = History(seed)
        self.loop = SimLoop(self.chance())
        self.clock = Clock(self.loop, self.chance())
        self.weather = Weather()
        self.network = Network(self.loop, self.weather, self.chance(), self._on_message)
        self.postgres = Postgres(
            self.loop, physical, self.weather, self.chance(), self.clock.true_micros, self._on_statement
        )
        self.script = Script(self.chance(), self._on_start)
        self.evidence = Evidence(physical)
        self.replicas: list[Replica] = []
        self.hosts: list[ExecutorHost] = []
        self.runs_per_tenant = self.chance().choice([0, 0, 0, 1, 2])  # 0: as many as come
        self.calm = False  # the faults are over
        self.only: frozenset[str] = frozenset()  # the kinds of faults, where the seed does not choose them
        self.on_written: list[Callable[[Node, Written], None]] = []  # told when it is done, before its writer knows
        self._over = False

    def run(self, play: Play) -> History:
        self._physical.clear()
        collects = gc.isenabled()
        gc.disable()  # what a collection finalises would depend on what ran before
        self.loop.set_exception_handler(self._on_exception)
        try:
            with standing_in(
                self.clock,
                self.chance(),
                self.postgres,
                self.network,
                lambda *asked: self.script.chunks(*asked),
                self._on_log,
            ):
                self.loop.run_until_complete(self.loop.outside.spawn(self._whole(play)))
        finally:
            self.loop.close()
            if collects:
                gc.enable()
        return self.history

    def person(self, name: str) -> Person:
        return Person(name, self.chance(), self.replicas, self.history, self.clock.new_id, self.note)

    def note(self, text: str) -> None:
        self.history.trace.append(f"{self.loop.time():10.4f}  {self.loop.current().name:12}  {text}")

    # The course of things

    async def _whole(self, play: Play) -> None:
        replicas, executors, slots = self._sizes
        addresses = [f"executor{n}:1" for n in range(1, executors + 1)]
        for address in addresses:
            self.hosts.append(ExecutorHost(self.loop, self.network, self.script, self.clock.new_id, address, slots))
        for n in range(1, replicas + 1):
            name, limit = f"replica{n}", self.runs_per_tenant
            self.replicas.append(Replica(self.loop, self.network, self.postgres, name, addresses, limit))
        try:
            await play(self)
        except Stuck as stuck:
            self.history.unrest.append(str(stuck))
        self.history.seconds = self.loop.time() - BEGINNING
        self._look_back()
        await self._bury()

    async def rest(self, is_done: Callable[[], bool]) -> None:
        """Until nothing moves any more and, says `is_done`, nobody will move it; what moves on is kept as unrest."""
        until = self.loop.time() + REST_SECONDS
        before: list[Any] = []
        while self.loop.time() < until:
            await asyncio.sleep(1.5)
            sessions = self.evidence.fetch("SELECT id, last_sequence, settled, active_run_id FROM session ORDER BY id")
            if is_done() and sessions == before and all(row["settled"] for row in sessions):
                return
            before = sessions
        self.history.unrest += [f"{dict(row)}" for row in before if not row["settled"]] or ["somebody still waits"]

    def _look_back(self) -> None:
        history = self.history
        history.open_transactions = self.postgres.open_transactions()
        history.rows = self.evidence.rows()
        if self.runs_per_tenant:
            history.miscounted += self.evidence.miscounted()
        if not history.unrest:
            for session in history.rows.sessions:
                history.not_idle += self.evidence.still_due((session.tenant, session.id), self.clock.true_micros())

    async def _bury(self) -> None:
        """End every task, the dead ones' too, with all doors closed: nothing of it counts."""
        self._over = True
        self.postgres.crash()
        for host in list(self.network.hosts):
            self.network.hosts.pop(host)
        for node in self.loop.nodes:
            node.life = Life.RUNS
        this = asyncio.current_task()
        for _ in range(20):
            tasks = [task for task in asyncio.all_tasks() if task is not this]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=BURIAL_SECONDS / 20)
        await self.loop.shutdown_asyncgens()

    # What is noticed

    def chance(self) -> Random:
        """A source of its own for each part, so that one part's draws do not move another's."""
        return Random(self.random.getrandbits(64))

    def _on_statement(self, node: Node, query: str, args: Sequence[Any], result: Any) -> None:
        if is_batch(result):
            if self.runs_per_tenant and (running := self.evidence.running()) > self.runs_per_tenant:
                self.history.miscounted.append(f"{running} runs are RUNNING; {self.runs_per_tenant} may be")
            for written in written_by(self.loop.time(), node.name, args, result):
                self.history.written.append(written)
                for tell in list(self.on_written):
                    tell(node, written)
                self.note(
                    f"{node.name} wrote {written.session_id[-4:]} at {written.expected_sequence}: {written.outcome}"
                    f" (owner {written.owner[-4:]} epoch {written.epoch} claim {written.claim_for[-4:]}"
                    f"{' release' if written.release else ''}) now {written.sequence_after}/{written.epoch_after}"
                )

    def _on_start(self, start: Start) -> None:
        work = start.work
        assert not isinstance(work, ModelRequest)
        instance, ref = start.target_instance, start.ref
        self.note(f"{work.tool} starts: step {ref.step_id[-4:]} epoch {ref.epoch} dispatch {ref.dispatch}")
        self.history.started.append(Started(self.loop.time(), instance, *ref, work.tool, work.arguments_json))

    def _on_message(self, sender: Node, receiver: Node, message: Any) -> None:
        for frame in message.frames:
            kind = frame.WhichOneof("frame")
            if kind not in ("capacity", "delta"):
                words = f"step {frame.step_id[-4:]} {frame.epoch}/{frame.dispatch_number}" if frame.step_id else ""
                self.note(f"{sender.name} → {receiver.name}: {kind} {words}")

    def _on_log(self, level: str, text: str) -> None:
        if self._over:
            return
        self.note(f"{level}: {text}")
        if level in ("error", "exception", "critical"):
            self.history.defects.append(f"{self.loop.current().name}: {text}")

    def _on_exception(self, _loop: object, context: dict[str, Any]) -> None:
        if not self._over:
            self.history.defects.append(
                f"{self.loop.current().name}: {context['message']} {_words_of(context.get('exception'))}"
            )


def _words_of(error: BaseException | None) -> str:
    """An error as a person reads it in one line: what it is, and where it came from."""
    where = (
        [f"{frame.name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)[-3:]] if error else []
    )
    return f"{error!r} {' '.join(where)}"
