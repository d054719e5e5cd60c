"""Fixtures that every kind of test may use: databases, and an environment free of the developer's."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from cli.postgres import EmbeddedPostgres
from tests.postgres import Databases, embedded_server, migrate


@pytest.fixture(scope="session", autouse=True)
def developers_settings() -> Iterator[dict[str, str]]:
    """What the developer has set for their own services; taken away, so that it decides nothing in a test."""
    settings = {name: value for name, value in os.environ.items() if name.startswith(("ASSENT_", "OTEL_"))}
    with pytest.MonkeyPatch.context() as environment:
        for name in settings:
            environment.delenv(name)
        yield settings


@pytest.fixture(scope="session")
def postgres_url(developers_settings: dict[str, str]) -> Iterator[str]:
    """The server of this test process, or ASSENT_DATABASE_URL's; tests want `database_url` instead."""
    if given := developers_settings.get("ASSENT_DATABASE_URL"):
        yield given
        return
    with embedded_server() as server:
        yield server.url


@pytest.fixture(scope="session")
async def databases(postgres_url: str) -> AsyncIterator[Databases]:
    async with Databases.on(postgres_url) as databases:
        yield databases


@pytest.fixture(scope="session")
async def template_url(databases: Databases) -> AsyncIterator[str]:
    """A database with every migration applied, to be cloned and never connected to."""
    async with databases.database() as url:
        await migrate(url)
        yield url


@pytest.fixture
async def database_url(databases: Databases, template_url: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    async with databases.database(template=template_url) as url:
        yield url


@pytest.fixture
async def empty_database_url(databases: Databases) -> AsyncIterator[str]:
    """A database of the test's own, before any migration."""
    async with databases.database() as url:
        yield url


@pytest.fixture
async def own_postgres() -> AsyncIterator[EmbeddedPostgres]:
    """A server of the test's own with the migrations applied, to be killed and started again at will."""
    with embedded_server() as server:
        await migrate(server.url)
        yield server
