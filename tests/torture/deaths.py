"""Real processes that die by themselves at failpoints, one after the other, while people go on with their runs."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from cli.postgres import EmbeddedPostgres
from tests.e2e.doomed import Death, carried_out
from tests.e2e.services import Services
from tests.postgres import migrate

DEATH_SECONDS = 120.0

_PLACES = {
    ("plan", "orchestrator"): (
        "commit.command commit.engine commit.release dispatch send.start send.recorded "
        "receive.hello receive.accepted receive.finished"
    ),
    ("plan", "executor"): (
        "executor.receive.start executor.receive.recorded executor.effect executor.send.accepted executor.send.finished"
    ),
    ("takeover", "orchestrator"): "commit.claim send.reattach receive.running",
    ("takeover", "executor"): "executor.receive.reattach executor.send.running",
    ("cancel", "orchestrator"): "send.cancel",
    ("cancel", "executor"): "executor.receive.cancel",
}

EVERY_DEATH = [
    Death(scene, service, point)
    for (scene, service), places in _PLACES.items()
    for place in places.split()
    for point in ([place] if place == "dispatch" else [f"{place}.before", f"{place}.after"])
]
EVERY_DEATH += [Death("plan", "orchestrator", f"lease.renew.{moment}", 2) for moment in ("before", "after")]


async def die_often(deaths: Sequence[Death], directory: Path, say: Callable[[str], None]) -> list[str]:
    """What was wrong, a line each. Needs no PostgreSQL but its own."""
    wrong = []
    server = EmbeddedPostgres(directory / "postgres", fsync=False)
    server.start()
    try:
        await migrate(server.url)
        async with Services.over(server.url, directory) as services:
            for number, death in enumerate(deaths, 1):
                fault = await _die(services, death)
                say(f"death {number} of {len(deaths)}: {death}{f': {fault}' if fault else ''}")
                if fault:
                    wrong.append(f"{death}: {fault}")
    finally:
        server.stop()
    return wrong


async def _die(services: Services, death: Death) -> str:
    """What was wrong with it, if anything."""
    try:
        async with (
            asyncio.timeout(DEATH_SECONDS),
            services.client() as client,
            carried_out(services, client, death) as (story, doomed),
        ):
            if not await doomed.died():
                return "it never came to that place"
            await story.assert_sound()
    except TimeoutError:
        return "it does not come to rest"
    except AssertionError as error:
        return str(error) or repr(error)
    return ""
