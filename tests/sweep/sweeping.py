"""Sweeping: a scenario is played once to see which failpoints it reaches, then once for every arrival at each."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rpc import failpoints
from tests.simulator.checks import violations
from tests.simulator.history import History
from tests.simulator.hosts import ExecutorHost
from tests.simulator.loop import NODE
from tests.simulator.physical import Physical
from tests.simulator.replicas import Replica
from tests.simulator.world import World
from tests.sweep.scenarios import Scenario, Scene
from tests.sweep.telling import ToldScript

BACK_SECONDS = 0.3
"""How long a process that has died stays away."""
CATCH_UP_SECONDS = 2.5
"""How long watchers have after everything has come to rest."""


class Died(asyncio.CancelledError):
    """Nothing after this place happens in the process that died here."""


@dataclass
class Findings:
    """What was played and what was wrong with it."""

    plays: int = 0
    fired: Counter[tuple[str, str]] = field(default_factory=Counter)  # scenario, failpoint
    wrong: dict[str, list[str]] = field(default_factory=dict)  # by scenario and failpoints
    traces: dict[str, list[str]] = field(default_factory=dict)

    def take(self, other: "Findings") -> None:
        self.plays += other.plays
        self.fired.update(other.fired)
        self.wrong.update(other.wrong)
        self.traces.update(other.traces)

    @property
    def never_fired(self) -> list[str]:
        """Failpoints that no scenario came to."""
        return [point for point in failpoints.POINTS if not any(point == fired for _, fired in self.fired)]


def sweep(
    physical: Physical, scenario: Scenario, *, arrivals: int = 1_000, actions: Sequence[str] = ("crash", "lose")
) -> Findings:
    """Play it for every arrival, up to that many a place, at which it could die or lose an answer."""
    findings = Findings()
    swept: set[str] = set()
    for prelude in ("", *scenario.preludes):
        reached = _play(physical, scenario, prelude, findings).reached
        places = [point for point in failpoints.POINTS if reached[point] and point not in swept]
        swept.update(places)
        for point, action in _deaths(places, actions):
            for n in range(1, arrivals + 1):
                order = f"{point}:{n}:{action}"
                if order not in _play(physical, scenario, f"{prelude},{order}", findings).fired:
                    break
    return findings


def play(physical: Physical, scenario: Scenario, orders: str) -> tuple[Findings, History]:
    """One world of the scenario with these failpoints, and what happened in it."""
    findings = Findings()
    return findings, _play(physical, scenario, orders, findings).history


def _deaths(places: Sequence[str], actions: Sequence[str]) -> Iterator[tuple[str, str]]:
    for point in places:
        for action in actions:
            if action != "lose" or point not in failpoints.NO_ANSWER:
                yield point, action


@dataclass
class _Played:
    history: History
    reached: Counter[str]
    fired: list[str]


def _play(physical: Physical, scenario: Scenario, orders: str, findings: Findings) -> _Played:
    world = World(physical, 0, replicas=scenario.replicas, slots=scenario.slots)
    world.script = ToldScript(scenario.told, world.script.on_start)
    failpoints.arm(orders, crash=lambda point: _die(world, point))
    try:
        history = world.run(lambda world: _course(world, scenario))
        fired = [f"{order.point}:{order.occurrence}:{order.action}" for order in failpoints.fired]
        played = _Played(history, failpoints.reached.copy(), fired)
    finally:
        failpoints.disarm()
    history.defects = [words for words in history.defects if "Died()" not in words]
    findings.plays += 1
    findings.fired.update((scenario.name, order.partition(":")[0]) for order in fired)
    if wrong := [*violations(history), *_ended_otherwise(history, scenario)]:
        name = f"{scenario.name} {orders.strip(',')}"
        findings.wrong[name] = wrong
        findings.traces[name] = history.trace
    return played


async def _course(world: World, scenario: Scenario) -> None:
    scene = Scene(world, scenario)
    deciding = world.loop.outside.spawn(scene.decide_for_ever())
    acting = world.loop.outside.spawn(scenario.act(scene))
    await world.rest(acting.done)
    await asyncio.sleep(CATCH_UP_SECONDS)
    others = [deciding, acting, *scene.others]
    for task in others:
        task.cancel()
    await asyncio.wait(others, timeout=10)
    if not acting.cancelled():
        acting.result()


def _die(world: World, point: str) -> None:
    """The process that is here is gone, and comes back; everything else goes on."""
    node = NODE.get()
    processes: list[Replica | ExecutorHost] = [*world.replicas, *world.hosts]
    for process in processes:
        if process.node is node:
            world.note(f"DIES at {point}")
            process.crash()
            world.loop.outside.later(BACK_SECONDS, process.start)
            raise Died
    raise RuntimeError(f"{point} was reached in {node.name}")


def _ended_otherwise(history: History, scenario: Scenario) -> Iterator[str]:
    if not history.rows.runs:
        yield "no run was made"
    for run in history.rows.runs:
        if run.state not in scenario.ends:
            yield f"run {run.id} is {run.state}, and not {' or '.join(scenario.ends)}"
