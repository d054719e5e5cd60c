"""Reading for many watchers with few queries: what is asked while one query is under way goes together into the next.

A herd that comes back at once asks for thousands of positions and pages; of one session mostly for the same page.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from prometheus_client import Counter

from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Key
from orchestrator.streaming.feed import Position

QUERIES = Counter("assent_watch_queries", "Queries for those who follow sessions, by what was asked.", ["asked"])

ASKED_AT_ONCE = 500  # who shares a batch waits for all of it
PAGES_AT_ONCE = 64  # that many share the bytes that one answer of the store may have
QUERIES_AT_ONCE = 2
GAP_SECONDS = 0.025  # between two queries: a herd does not arrive all at once; whoever comes alone waits for nothing

Ask = TypeVar("Ask")
Got = TypeVar("Got")


class Wanted(NamedTuple):
    """A session's events after a sequence, at most `limit`."""

    tenant: str
    session_id: str
    after: int
    limit: int


class Source(Protocol):
    """The store."""

    async def pages(self, wanted: Sequence[Wanted]) -> list[list[LoggedEvent]]:
        """For each what was wanted, or less where it is large, but never nothing of what there is."""

    async def positions(self, keys: Sequence[Key]) -> dict[Key, Position]: ...


class SharedReading:
    """The event log as the hub sees it (`watch.Log`), with the queries of all its watchers put together."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._positions = Together(self._look)
        self._pages = Together(self._read)

    async def positions(self, keys: Sequence[Key]) -> dict[Key, Position]:
        if len(keys) != 1:
            return await self._look(keys)
        position = await self._positions.ask(keys[0])
        return {} if position is None else {keys[0]: position}

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        wanted = Wanted(tenant, session_id, after, limit)
        page = await self._pages.ask(wanted)
        if page is None:  # the page it was to share ended before: large events
            [page] = await self._pages_of([wanted])
        return page

    async def _look(self, keys: Sequence[Key]) -> dict[Key, Position]:
        QUERIES.labels("positions").inc()
        return await self._source.positions(keys)

    async def _pages_of(self, wanted: Sequence[Wanted]) -> list[list[LoggedEvent]]:
        QUERIES.labels("pages").inc()
        return await self._source.pages(wanted)

    async def _read(self, wanted: Sequence[Wanted]) -> dict[Wanted, list[LoggedEvent]]:
        shared = _shared(wanted)
        answers = {}
        for reads in _parts(list(shared), PAGES_AT_ONCE):
            for read, page in zip(reads, await self._pages_of(reads), strict=True):
                for each in shared[read]:
                    part = _part(page, each)
                    if part or not page:
                        answers[each] = part
        return answers


def _parts(whole: Sequence[Wanted], size: int) -> Iterator[Sequence[Wanted]]:
    return (whole[start : start + size] for start in range(0, len(whole), size))


def _shared(wanted: Sequence[Wanted]) -> dict[Wanted, list[Wanted]]:
    """What is to be read, and who is served by it: one page for all who want about the same part of a log."""
    of_session: dict[Key, list[Wanted]] = defaultdict(list)
    for each in wanted:
        of_session[each.tenant, each.session_id].append(each)
    shared: dict[Wanted, list[Wanted]] = {}
    for asked in of_session.values():
        asked.sort(key=lambda each: each.after)
        reading: list[Wanted] = []
        for each in asked:
            if reading and each.after >= _end(reading[0]):
                shared[_covering(reading)] = reading
                reading = []
            reading.append(each)
        shared[_covering(reading)] = reading
    return shared


def _covering(asked: Sequence[Wanted]) -> Wanted:
    """No longer than the longest of them, so that sharing never makes a page too long."""
    first = asked[0]
    end = max(map(_end, asked))
    return first._replace(limit=min(end - first.after, max(each.limit for each in asked)))


def _end(wanted: Wanted) -> int:
    return wanted.after + wanted.limit


def _part(page: Sequence[LoggedEvent], wanted: Wanted) -> list[LoggedEvent]:
    """A log has no gaps, so a place in it is a place in its page."""
    if not page:
        return []
    start = wanted.after + 1 - page[0].sequence
    return list(page[start : start + wanted.limit])


@dataclass(eq=False)
class _Batch(Generic[Ask, Got]):
    asked: dict[Ask, None] = field(default_factory=dict)
    answers: "asyncio.Task[Mapping[Ask, Got]] | None" = None


class Together(Generic[Ask, Got]):
    """Answers many askers with few queries; a query always begins after it was asked for."""

    def __init__(self, query: Callable[[Sequence[Ask]], Awaitable[Mapping[Ask, Got]]]) -> None:
        self._query = query
        self._turns = asyncio.Semaphore(QUERIES_AT_ONCE)
        self._gathering: _Batch[Ask, Got] | None = None
        self._next_time = 0.0

    async def ask(self, what: Ask) -> Got | None:
        """None where the query has no answer to it. Raises what the query raises."""
        batch = self._gathering
        if batch is None or len(batch.asked) >= ASKED_AT_ONCE:
            batch = self._gathering = _Batch()
        batch.asked[what] = None
        if batch.answers is None:
            batch.answers = asyncio.create_task(self._answer(batch))
        answers = await asyncio.shield(batch.answers)  # who leaves does not take it from the others
        return answers.get(what)

    async def _answer(self, batch: _Batch[Ask, Got]) -> Mapping[Ask, Got]:
        async with self._turns:
            await self._keep_the_gap()
            if self._gathering is batch:
                self._gathering = None
            return await self._query(list(batch.asked))

    async def _keep_the_gap(self) -> None:
        now = asyncio.get_running_loop().time()
        at = max(now, self._next_time)
        self._next_time = at + GAP_SECONDS
        if at > now:
            await asyncio.sleep(at - now)
