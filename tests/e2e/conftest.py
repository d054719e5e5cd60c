"""The processes that the tests of this folder share; whatever a test has killed is started again for the next."""

from collections.abc import AsyncIterator

import pytest

from tests.e2e.services import Services
from tests.integration.orchestrator.client import Client
from tests.postgres import Databases


@pytest.fixture(scope="session")
async def started(
    databases: Databases, template_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Services]:
    directory = tmp_path_factory.mktemp("services")
    async with databases.database(template=template_url) as url, Services.over(url, directory) as services:
        yield services


@pytest.fixture
async def services(started: Services) -> Services:
    """An executor, an orchestrator and a gateway, all of them serving."""
    await started.start()
    return started


@pytest.fixture
async def client(services: Services) -> AsyncIterator[Client]:
    async with services.client() as client:
        yield client
