"""A store on the test's own database, and a session in it."""

from collections.abc import AsyncIterator

import pytest

from orchestrator.domain.records import Session
from orchestrator.store.database import Database
from orchestrator.store.writer import Writer
from tests.integration.store.making import Followed, new_session, now_micros


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.open(database_url)
    yield database
    await database.close()


@pytest.fixture
def followed() -> Followed:
    return Followed()


@pytest.fixture
async def writer(database: Database, followed: Followed) -> AsyncIterator[Writer]:
    writer = Writer(database.connect_writer, clock=now_micros, on_written=followed)
    await writer.start()
    yield writer
    await writer.close()


@pytest.fixture
async def session(writer: Writer) -> Session:
    return await new_session(writer)
