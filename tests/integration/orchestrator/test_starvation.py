"""Nobody starves: commands on a busy engine and on one another's session are carried out within a few tries.

How long they take is measured by bench/contention.py; here only that all progress, and in how many tries.
"""

import asyncio

import pytest

from orchestrator.store.timing import WRITE_TRIES
from tests.integration.orchestrator.client import Client
from tests.integration.orchestrator.plays import answers
from tests.integration.orchestrator.replica import Replicas
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

MOST_TRIES = 5


class Tries:
    """What the metric that operators read says of the writes since it was made."""

    def __init__(self) -> None:
        self._before = self._counts()

    @staticmethod
    def _counts() -> dict[tuple[str, str], float]:
        samples = [sample for metric in WRITE_TRIES.collect() for sample in metric.samples]
        return {(s.labels["operation"], s.labels["le"]): s.value for s in samples if s.name.endswith("_bucket")}

    def of(self, operation: str) -> tuple[float, float]:
        """How many were written, and how many of them in more than MOST_TRIES."""
        now = self._counts()

        def count(limit: str) -> float:
            return now.get((operation, limit), 0) - self._before.get((operation, limit), 0)

        return count("+Inf"), count("+Inf") - count(f"{MOST_TRIES}.0")


@pytest.fixture
async def three(replicas: Replicas, executor: ScriptedExecutor) -> list[Client]:
    """Clients of three replicas over one database."""
    executor.play = answers
    started = [await replicas.start() for _ in range(3)]
    await executor.joined(3)
    return [replica.client for replica in started]


async def test_six_commands_hammering_one_session_over_three_replicas_all_progress(three: list[Client]) -> None:
    tries = Tries()
    session = await three[0].new_session()

    async def hammer(client: Client, name: str) -> None:
        for n in range(5):
            await client.send(session.id, f"{name} {n}")

    await asyncio.gather(*(hammer(client, name) for client in three for name in ("one", "two")))
    log = await three[0].settled(session.id)
    assert log.sequences == list(range(1, log.sequences[-1] + 1))
    assert len(log.of("run_finished", state="COMPLETED")) == 30
    assert tries.of("SendMessage") == (30, 0)
    written, starved = tries.of("engine")
    assert written > 0
    assert starved == 0


async def test_commands_against_a_saturated_engine_all_progress(
    three: list[Client], executor: ScriptedExecutor
) -> None:
    executor.slots = 4
    executor.die()  # the instance that follows offers so few
    tries = Tries()
    sessions = [await three[n % 3].new_session() for n in range(40)]
    await asyncio.gather(*(three[n % 3].send(session.id, "begin") for n, session in enumerate(sessions)))

    async def command(n: int) -> None:
        client, session = three[n % 3], sessions[n % len(sessions)]
        sent = await client.send(session.id, "and more")
        assert sent.run.id

    await asyncio.gather(*(command(n) for n in range(80)))
    logs = await asyncio.gather(*(three[0].settled(session.id) for session in sessions))
    assert [len(log.of("run_finished", state="COMPLETED")) for log in logs] == [3] * len(sessions)
    assert tries.of("SendMessage") == (120, 0)
    assert tries.of("engine")[1] == 0
