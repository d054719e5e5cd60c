"""The stack that most tests of this folder use."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from gateway.api import Limits
from gateway.streaming import Pace
from tests.integration.gateway.stack import Stack, stack
from tests.unit.gateway.notes import note_service


def _notes() -> AbstractAsyncContextManager[Stack]:
    """Small limits, and no waiting for what is quiet."""
    limits = Limits(body_bytes=10_000, unary_seconds=5)
    return stack([note_service()], limits=limits, pace=Pace(first_seconds=0.05, keep_alive_seconds=0.05))


@pytest.fixture(scope="session")
async def shared_notes() -> AsyncIterator[Stack]:
    async with _notes() as running:
        yield running


@pytest.fixture
def notes(shared_notes: Stack) -> Stack:
    """A gateway in front of the note service, which has forgotten everything."""
    shared_notes.fake.forget()
    return shared_notes


@pytest.fixture
async def own_notes() -> AsyncIterator[Stack]:
    """The same, to be stopped by the test."""
    async with _notes() as running:
        yield running
