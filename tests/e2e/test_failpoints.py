"""Services that die by themselves at the places where it hurts most: runs go on, and nothing happens twice."""

import pytest

from tests.e2e.doomed import Death, carried_out
from tests.e2e.services import Services
from tests.integration.orchestrator.client import Client

DEATHS = [
    (Death("plan", "orchestrator", "commit.command.after", 3), "COMPLETED"),
    (Death("plan", "orchestrator", "commit.engine.after", 1), "COMPLETED"),
    (Death("plan", "orchestrator", "dispatch", 2), "COMPLETED"),
    (Death("plan", "orchestrator", "receive.finished.before", 5), "COMPLETED"),
    (Death("plan", "executor", "executor.effect.before", 2), "COMPLETED"),
    (Death("plan", "executor", "executor.effect.after", 5), "CANCELLED"),  # in doubt: people gave it up
    (Death("takeover", "orchestrator", "commit.claim.after", 1), "COMPLETED"),
    (Death("takeover", "executor", "executor.receive.reattach.after", 1), "COMPLETED"),
    (Death("cancel", "orchestrator", "send.cancel.before", 1), "CANCELLED"),
]


@pytest.mark.parametrize(("death", "ended"), DEATHS, ids=[str(death) for death, _ in DEATHS])
async def test_a_run_goes_on_where_a_service_has_died(
    services: Services, client: Client, death: Death, ended: str
) -> None:
    async with carried_out(services, client, death) as (story, doomed):
        assert await doomed.died()
        assert await story.assert_sound() == ended
