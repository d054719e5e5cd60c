"""The ordinary course of a seed: people at work while a storm rages; then it clears up, and all has to come to rest."""

import asyncio
import json
from random import Random

from gen.assent.v1 import approval_pb2, run_pb2
from tests.simulator import storm
from tests.simulator.people import Person, Watcher
from tests.simulator.world import World

_WITH_CALLS = (run_pb2.RUN_STATE_WAITING, run_pb2.RUN_STATE_RUNNING)


async def ordinary(world: World) -> None:
    """People at work while a storm rages; then it clears up, and everything has to come to rest."""
    random = world.chance()
    anna, boris = world.person("anna"), world.person("boris")
    sessions = [await _created(anna) for _ in range(random.choice([1, 2, 2, 3]))]
    watchers = [world.loop.outside.spawn(Watcher(world.person("eve"), id).follow()) for id in sessions]
    deciders = [world.loop.outside.spawn(_decides(world, person, random)) for person in (anna, boris)]
    deciders += [world.loop.outside.spawn(_meddles(world.person("mallory"), random))]
    deciders += [world.loop.outside.spawn(_client(world.person(name), random)) for name in ("ide", "web")]
    authors = [world.loop.outside.spawn(_author(world, id, random)) for id in sessions]
    if random.random() < 0.9:
        await storm.rage(world, random, random.uniform(5, 25))
    else:
        await asyncio.sleep(10)
    storm.calm(world)
    world.calm = True
    world.note("CALM")
    leaves = random.random() < 0.3  # the people go home: what awaits them waits
    if leaves:
        for task in deciders:
            task.cancel()
    await world.rest(
        lambda: all(task.done() for task in authors) and (leaves or _nothing_pending(world)) and _nothing_timed(world)
    )
    await asyncio.sleep(2.5)  # the watchers catch up
    for task in (*watchers, *deciders):
        task.cancel()
    await asyncio.wait([*watchers, *deciders], timeout=10)


def _nothing_pending(world: World) -> bool:
    awaited = "SELECT FROM approval WHERE state = 'PENDING'"
    return not world.evidence.fetch(f"{awaited} UNION ALL SELECT FROM run WHERE state = 'PAUSED' LIMIT 1")


def _nothing_timed(world: World) -> bool:
    """A client's call is over in time, whoever is there."""
    ready = "SELECT FROM step JOIN run ON run.id = step.run_id WHERE step.state = 'READY' AND run.state <> 'PAUSED'"
    expiring = "SELECT FROM approval WHERE state = 'PENDING' AND (body::json->>'expire_time')::bigint > 0"
    return not world.evidence.fetch(f"{ready} UNION ALL {expiring} LIMIT 1")


async def _created(person: Person) -> str:
    while True:
        if session_id := await person.create_session():
            return session_id
        await asyncio.sleep(1)


async def _decides(world: World, person: Person, random: Random) -> None:
    while True:
        await asyncio.sleep(random.uniform(0.3, 3.0))
        for approval in await person.pending():
            has_voted = any(vote.voter == person.name for vote in approval.votes)
            if approval.kind == approval_pb2.APPROVAL_KIND_PLAN and not world.calm and random.random() < 0.2:
                title = f"{person.name}'s {approval.plan_id[-6:]} {random.getrandbits(32):x}"
                await person.revise(approval.plan_id, "", title)
            elif random.random() < (0.1 if has_voted else 0.7):
                await person.decide(approval, kindly=world.calm)
        if world.calm:
            for run in await person.runs():
                if run.state == run_pb2.RUN_STATE_PAUSED:
                    await person.resume(run.id)


async def _meddles(person: Person, random: Random) -> None:
    """Somebody without a role, who answers all the same."""
    while True:
        await asyncio.sleep(random.uniform(2.0, 8.0))
        for approval in await person.pending():
            if approval.terms.roles:
                await person.decide(approval, kindly=True)


async def _client(person: Person, random: Random) -> None:
    while True:
        await asyncio.sleep(random.uniform(0.3, 3.0))
        for run in await person.runs():
            if run.state in _WITH_CALLS:
                await person.serve_calls(run.id)


async def _author(world: World, session_id: str, random: Random) -> None:
    person = world.person(f"author-{session_id[-4:]}")
    revisions = 0
    for n in range(random.randint(1, 4)):
        await asyncio.sleep(random.choice([0.0, 0.1, 2.0, 5.0]))
        text = f"do {json.dumps([session_id[-4:], n])}"
        what = random.random()
        if what < 0.55:
            await person.say(session_id, text)
        else:
            await person.submit(session_id, text)
        while random.random() < 0.3:
            await asyncio.sleep(random.uniform(0.0, 6.0))
            match random.choice(["steer", "steer", "revise", "revise", "revoke", "switch"]):
                case "steer":
                    await person.steer_something(session_id)
                case "revise":
                    revisions += 1
                    await person.revise_something(session_id, f"another {session_id[-4:]} {revisions}")
                case "revoke":
                    await person.revoke_something(session_id)
                case _:
                    await person.switch(session_id)
