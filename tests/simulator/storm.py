"""The faults of a seed: what breaks, when, for how long; drawn before the world begins, gone before it is judged."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING

from tests.simulator.history import Written
from tests.simulator.loop import Node
from tests.simulator.replicas import Replica

if TYPE_CHECKING:
    from tests.simulator.world import World

WATCH_SECONDS = 12.0

Fault = Callable[["World", Random], Coroutine[None, None, None]]


async def crash_replica(world: "World", random: Random) -> None:
    replica = random.choice(world.replicas)
    if replica.is_up:
        replica.crash()
        await asyncio.sleep(random.choice([0.05, 0.5, 3.0, 8.0]))
        replica.start()


async def restart_replica(world: "World", random: Random) -> None:
    replica = random.choice(world.replicas)
    if replica.is_up and replica.server is not None:
        await replica.stop()
        await asyncio.sleep(random.uniform(0.05, 2.0))
        if not replica.is_up:
            replica.start()


async def pause_replica(world: "World", random: Random) -> None:
    """Stopped by a signal, often for longer than its lease."""
    replica = random.choice(world.replicas)
    replica.stand_still()
    await asyncio.sleep(random.choice([0.3, 2.0, 6.0, 10.0]))
    replica.go_on()


async def pause_until_robbed(world: "World", random: Random) -> None:
    """Stopped until another replica has claimed one of its sessions, and not much longer."""
    replica = random.choice(world.replicas)
    replica.stand_still()
    await _claim(world, but_not=replica)
    await asyncio.sleep(random.choice([0.0, 0.0, 0.002, 0.01, 0.1]))
    replica.go_on()


async def pause_at_commit(world: "World", random: Random) -> None:
    """Stopped when something of it is written and it has yet to hear so, until another replica has claimed."""
    replica = random.choice(world.replicas)
    is_due = asyncio.Event()

    def stop(node: Node, written: Written) -> None:
        if node is replica.node and written.outcome == "written" and (written.owner or written.claim_for):
            replica.stand_still()
            is_due.set()

    world.on_written.append(stop)
    with suppress(TimeoutError):
        await asyncio.wait_for(is_due.wait(), WATCH_SECONDS)
    world.on_written.remove(stop)
    if is_due.is_set():
        await _claim(world, but_not=replica)
        await asyncio.sleep(random.choice([0.0, 0.002, 0.004, 0.01]))
        replica.go_on()


async def _claim(world: "World", *, but_not: Replica) -> None:
    """Until somebody else claims a session."""
    is_made = asyncio.Event()

    def look(node: Node, written: Written) -> None:
        if node is not but_not.node and written.claim_for and written.outcome == "written":
            is_made.set()

    world.on_written.append(look)
    with suppress(TimeoutError):
        await asyncio.wait_for(is_made.wait(), WATCH_SECONDS)
    world.on_written.remove(look)


async def crash_executor(world: "World", random: Random) -> None:
    host = random.choice(world.hosts)
    if host.node.runs:
        host.crash()
        await asyncio.sleep(random.choice([0.05, 1.0, 5.0, 20.0]))
        host.start()


async def crash_at_work(world: "World", random: Random) -> None:
    """Whoever has to do with a tool dies just as it runs: its executor, a replica, or both."""
    seen, until = len(world.history.started), world.loop.time() + 12
    while len(world.history.started) == seen:
        if world.loop.time() > until:
            return
        await asyncio.sleep(0.01)
    await asyncio.sleep(random.choice([0.0, 0.05, 0.3]))
    victims = random.choice([[crash_executor], [crash_executor], [crash_replica], [crash_executor, crash_replica]])
    await asyncio.gather(*(crash(world, random) for crash in victims))


async def pause_executor(world: "World", random: Random) -> None:
    host = random.choice(world.hosts)
    host.stop_for_a_while()
    await asyncio.sleep(random.choice([0.2, 1.0, 7.0]))
    host.go_on()


async def cut_streams(world: "World", random: Random) -> None:
    world.network.cut(node=random.choice([None, random.choice(world.replicas).node]))


async def restart_database(world: "World", random: Random) -> None:
    if world.postgres.is_up:
        world.postgres.crash()
        await asyncio.sleep(random.choice([0.02, 0.5, 3.0, 6.0]))
        world.postgres.come_up()


async def slow_database(world: "World", random: Random) -> None:
    world.weather.statement_delay = random.choice([0.05, 0.3, 1.5])
    await asyncio.sleep(random.uniform(0.5, 4.0))
    world.weather.statement_delay = 0.002


async def slow_network(world: "World", random: Random) -> None:
    world.weather.message_delay = random.choice([0.05, 0.5, 3.0])
    await asyncio.sleep(random.uniform(0.5, 5.0))
    world.weather.message_delay = 0.002


async def lose_things(world: "World", random: Random) -> None:
    weather = world.weather
    weather.lose_statement, weather.lose_answer = random.choice([(0.05, 0.0), (0.0, 0.08), (0.1, 0.1), (0.0, 0.3)])
    await asyncio.sleep(random.uniform(0.5, 6.0))
    weather.lose_statement = weather.lose_answer = 0.0


async def let_statements_stray(world: "World", random: Random) -> None:
    world.weather.stray = random.choice([0.02, 0.1])
    await asyncio.sleep(random.uniform(1.0, 6.0))
    world.weather.stray = 0.0


async def say_things_twice(world: "World", random: Random) -> None:
    world.weather.duplicate, world.weather.duplicate_delay = random.choice([0.1, 0.5]), random.choice([0.01, 1.0, 5.0])
    await asyncio.sleep(random.uniform(1.0, 8.0))
    world.weather.duplicate = 0.0


async def disturb_clock(world: "World", random: Random) -> None:
    random.choice(world.replicas).node.skew = random.choice([-3.0, -0.5, 0.5, 3.0])


FAULTS: tuple[tuple[Fault, int], ...] = (
    (crash_replica, 5),
    (restart_replica, 2),
    (pause_replica, 3),
    (pause_until_robbed, 3),
    (pause_at_commit, 4),
    (crash_executor, 4),
    (crash_at_work, 4),
    (pause_executor, 2),
    (cut_streams, 3),
    (restart_database, 2),
    (slow_database, 2),
    (slow_network, 1),
    (lose_things, 4),
    (let_statements_stray, 2),
    (say_things_twice, 2),
    (disturb_clock, 1),
)


async def rage(world: "World", random: Random, seconds: float) -> None:
    """Faults of a few kinds, one after the other and over one another, for so long."""
    some = {fault.__name__ for fault in random.sample([fault for fault, _ in FAULTS], k=random.randint(1, 5))}
    chosen = [(fault, weight) for fault, weight in FAULTS if fault.__name__ in (world.only or some)]
    kinds, weights = [fault for fault, _ in chosen], [weight for _, weight in chosen]
    mean = random.choice([0.5, 1.5, 4.0])
    until = world.loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        while (pause := random.expovariate(1 / mean)) < until - world.loop.time():
            await asyncio.sleep(pause)
            [fault] = random.choices(kinds, weights)
            world.note(f"FAULT {fault.__name__}")
            world.history.faults[fault.__name__] += 1
            group.create_task(fault(world, random))


def calm(world: "World") -> None:
    """Everything that was broken works again."""
    world.weather.clear_up()
    world.postgres.come_up()
    world.script.trouble = 0.0
    for replica in world.replicas:
        replica.go_on()
        replica.node.skew = 0.0
        if not replica.is_up:
            replica.start()
    for host in world.hosts:
        host.go_on()
        if not host.node.runs:
            host.start()
