"""The waiting path: one short transaction that waits for its session's row, loads, decides and writes.

Batches never wait for session rows, so this one, which holds a single one, cannot be in a deadlock with them.
"""

import asyncio
import time
from collections.abc import Callable

import asyncpg

from orchestrator.domain.change import ChangeSet
from orchestrator.domain.snapshot import Snapshot
from orchestrator.store import snapshots
from orchestrator.store.answers import Answer, Outcome, answer_of
from orchestrator.store.batch import Prepared, statement_of
from orchestrator.store.committer import RETRY_SECONDS, must_ask_again, poisoned
from orchestrator.store.connection import Connect, OwnConnection
from orchestrator.store.counting import Counters
from orchestrator.store.failures import DRIVER_ERRORS, is_about_data, is_repeated_request
from orchestrator.store.timing import observe_transaction
from rpc import failpoints

CONNECTIONS = 4

Decide = Callable[[Snapshot], ChangeSet | None]

_LOCK = "SELECT true FROM session WHERE tenant = $1 AND id = $2 FOR NO KEY UPDATE"


class WaitingPath:
    """A few connections of its own, so that one contended session does not hold up the others."""

    def __init__(self, connect: Connect, counters: Counters) -> None:
        self._counters = counters
        self._idle: asyncio.LifoQueue[OwnConnection] = asyncio.LifoQueue()
        self._all = [OwnConnection(connect) for _ in range(CONNECTIONS)]
        for connection in self._all:
            self._idle.put_nowait(connection)

    def close(self) -> None:
        for connection in self._all:
            connection.drop()

    async def write(
        self,
        tenant: str,
        session_id: str,
        decide: Decide,
        sealed: Callable[[ChangeSet], Prepared],
        operation: str,
    ) -> Answer:
        """Until there is an answer; the caller bounds the time by cancelling."""
        connection = await self._idle.get()
        try:
            while True:
                try:
                    held = await connection.get()
                    await self._counters.begin(held, [tenant])
                    answer = await _decided(held, tenant, session_id, decide, sealed, operation)
                    if answer is not None:
                        return answer
                except DRIVER_ERRORS as error:
                    if not is_about_data(error):
                        connection.drop()
                        await asyncio.sleep(RETRY_SECONDS)
                    elif not is_repeated_request(error):
                        raise poisoned(error) from error
        finally:
            connection.drop_unfinished()
            self._idle.put_nowait(connection)


async def _decided(
    connection: asyncpg.Connection,
    tenant: str,
    session_id: str,
    decide: Decide,
    sealed: Callable[[ChangeSet], Prepared],
    operation: str,
) -> Answer | None:
    """One transaction; None when its request's first answer could not be seen yet."""
    began = time.perf_counter()
    async with connection.transaction():
        if not await connection.fetchval(_LOCK, tenant, session_id):
            return Answer(Outcome.ABSENT)
        snapshot = await snapshots.load(connection, tenant, session_id)
        if snapshot is None:
            return Answer(Outcome.ABSENT)
        change_set = decide(snapshot)
        if change_set is None:
            held = snapshot.session
            return Answer(Outcome.UNCHANGED, held, (), held.last_sequence, held.epoch, held.owner)
        prepared = sealed(change_set)
        doer = "command" if prepared.has_request else "engine"
        text, parameters = statement_of([prepared])
        [reply] = await connection.fetch(text, *parameters)
        if failpoints.on:
            await failpoints.reach(f"waiting.{doer}.before")
    if failpoints.on:
        await failpoints.reach(f"waiting.{doer}.after")
    observe_transaction(operation, time.perf_counter() - began)
    return None if must_ask_again(reply) else answer_of(change_set, prepared.sealed, reply)
