"""Committers: each writes one batch at a time over a connection of its own, and says what became of each item.

Group commit without waiting: what queues while a batch is being committed is the next batch. Here is decided
what an error means: data that cannot be written is isolated by halving, everything else is tried again until
the callers have given up. What an item's answer means to its caller is not decided here.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import asyncpg

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Session
from orchestrator.store.answers import Answer, Outcome, PoisonedChangeSet
from orchestrator.store.batch import statement_of
from orchestrator.store.connection import OwnConnection
from orchestrator.store.counting import Counters
from orchestrator.store.failures import DRIVER_ERRORS, is_about_data, is_repeated_request
from orchestrator.store.queue import Item, Queue
from orchestrator.store.timing import observe_transaction
from rpc import failpoints

RETRY_SECONDS = 0.05
BUSY_SECONDS = 0.003

OnWritten = Callable[[Session, list[LoggedEvent]], None]
Settle = Callable[[Item, asyncpg.Record | BaseException], None]

_log = logging.getLogger(__name__)


class Committer:
    """Takes batches from `queue` for ever; every item taken is settled or put back."""

    def __init__(self, queue: Queue, connection: OwnConnection, counters: Counters, settle: Settle) -> None:
        self._queue = queue
        self._connection = connection
        self._counters = counters
        self._settle = settle
        self.idle = True

    async def run(self) -> None:
        while True:
            batch = await self._queue.take()
            self.idle = False
            try:
                await self._commit(batch)
            except Exception as error:
                # A defect of ours, not of the database: these items fail, the next batch is written.
                self._connection.drop()
                for item in batch:
                    self._settle(item, error)
            finally:
                self._queue.done()
            self.idle = True

    async def _commit(self, batch: Sequence[Item]) -> None:
        while batch := self._still_wanted(batch):
            try:
                batch = await self._write(batch)
                continue
            except DRIVER_ERRORS as error:
                if not is_about_data(error):
                    self._connection.drop()
                    await asyncio.sleep(RETRY_SECONDS)
                elif len(batch) > 1:
                    middle = len(batch) // 2
                    await self._commit(batch[:middle])
                    await self._commit(batch[middle:])
                    return
                elif not is_repeated_request(error):  # otherwise the stored request is visible now: ask again
                    self._settle(batch[0], poisoned(error))
                    return

    def _still_wanted(self, batch: Sequence[Item]) -> Sequence[Item]:
        """Without those whose caller has given up: nothing is written for nobody."""
        gone = [item for item in batch if item.answer.done()]
        for item in gone:
            self._settle(item, asyncio.CancelledError())
        return [item for item in batch if not item.answer.done()] if gone else batch

    async def _write(self, batch: Sequence[Item]) -> Sequence[Item]:
        """Those that are over in this company, but perhaps not by themselves."""
        text, parameters = statement_of([item.prepared for item in batch])
        connection = await self._connection.get()
        await self._counters.begin(
            connection, (i.prepared.change_set.session.tenant for i in batch if i.prepared.running)
        )
        began = time.perf_counter()
        if failpoints.on:
            await failpoints.reach(*failpoints.each("commit", [item.prepared.kind for item in batch], "before"))
        replies = await connection.fetch(text, *parameters)
        if failpoints.on:
            await failpoints.reach(*failpoints.each("commit", [item.prepared.kind for item in batch], "after"))
        seconds = time.perf_counter() - began
        for operation in {item.operation for item in batch}:
            observe_transaction(operation, seconds)
        over = [batch[reply["n"] - 1] for reply in replies if reply["outcome"] == Outcome.OVER]
        again = over if len(over) < len(batch) else []  # among themselves the first of each tenant really is over
        for reply in replies:
            item = batch[reply["n"] - 1]
            if item in again:
                continue
            if must_ask_again(reply):
                asyncio.get_running_loop().call_later(BUSY_SECONDS, self._queue.put, item)
            else:
                self._settle(item, reply)
        return again


def must_ask_again(reply: asyncpg.Record) -> bool:
    """Busy, or a duplicate of a request whose row could not be seen yet."""
    return reply["outcome"] == Outcome.BUSY or (reply["outcome"] == Outcome.DUPLICATE and not reply["repeated"])


def poisoned(error: BaseException) -> PoisonedChangeSet:
    """The error of the change set that was found to be the cause."""
    refusal = PoisonedChangeSet(f"the database refuses it: {type(error).__name__}: {error}")
    refusal.__cause__ = error
    return refusal


def announce(answer: Answer, on_written: OnWritten) -> None:
    """Tell the log's followers; the change set is written, whatever they make of it."""
    if answer.session is None or answer.outcome is not Outcome.WRITTEN:
        return
    try:
        on_written(answer.session, list(answer.events))
    except Exception:
        _log.exception("a follower of the log failed", extra={"session_id": answer.session.id})
