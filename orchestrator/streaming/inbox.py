"""The inbox across sessions: what is pending, then changes as they happen on any replica, nothing twice.

A watcher joins first and reads the snapshot then, so nothing falls between them. It knows which approvals it has shown
as pending, and from that what of the overlap is new.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Approval
from orchestrator.streaming.about import About, about, approval_of, number_of
from orchestrator.streaming.feed import Box, Heartbeat, Position, SlowWatcher, StreamEnding
from orchestrator.streaming.news import is_about_approval
from orchestrator.streaming.shown import Shown, Shows, Tally
from orchestrator.streaming.watch import HEARTBEAT_SECONDS, Log

_log = structlog.get_logger("orchestrator.streaming")

CHECK_SECONDS = 5.0
MAX_SEEN = 4_096
MAX_EARLY = 256
_NOWHERE = Position(0, False, "")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which approvals of a tenant; an empty field is any."""

    tenant: str
    kind: str = ""
    session_id: str = ""
    run_id: str = ""
    tool: str = ""

    def takes(self, session_id: str, told: About) -> bool:
        """Whether it may be one of these: which tool an approval is about, only the event says that asks it."""
        return (
            self.session_id in ("", session_id)
            and self.kind in ("", told.kind)
            and self.run_id in ("", told.run_id)
            and (told.what != "ASKED" or self.tool in ("", told.tool))
        )


def everything(_approval: Approval) -> bool:
    """For who wants to see all that their filter takes."""
    return True


class Pending(Protocol):
    """The store's side."""

    async def page(self, wanted: Filter, token: str) -> tuple[Sequence[Approval], str]:
        """Some of what is pending, oldest first, and the token of what follows; empty: nothing does."""

    async def tally(self, wanted: Filter) -> Tally: ...


class InboxOutdated(Exception):
    """What a watcher was shown is not what is pending: a replica died before it told. It may begin again."""

    def __init__(self) -> None:
        super().__init__("what this stream has shown is no longer what is pending: call again")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A part of what is pending."""

    approvals: Sequence[Approval]
    is_complete: bool


class Inboxes:
    """One a replica: takes events about approvals, its own and other replicas', to those who watch the tenant."""

    def __init__(self, log: Log, pending: Pending, closing: asyncio.Event) -> None:
        self._log = log
        self._pending = pending
        self._closing = closing
        self._watches: dict[str, set[InboxWatch]] = defaultdict(set)  # by tenant
        self._seen: dict[tuple[str, int], None] = {}  # session and sequence, the latest
        self._told: asyncio.Queue[tuple[str, str, Sequence[int]]] = asyncio.Queue()

    @contextmanager
    def join(self, wanted: Filter, shows: Shows = everything) -> Iterator["InboxWatch"]:
        watch = InboxWatch(wanted, shows, self._pending, self._closing)
        self._watches[wanted.tenant].add(watch)
        try:
            yield watch
        finally:
            watch.box.close()
            self._watches[wanted.tenant].discard(watch)
            if not self._watches[wanted.tenant]:
                del self._watches[wanted.tenant]

    def publish(self, tenant: str, events: Sequence[LoggedEvent]) -> None:
        """What this replica wrote; never waits."""
        watches = self._watches.get(tenant)
        if not watches:
            return
        for event in events:
            if is_about_approval(event) and self._is_new(event):
                for watch in watches:
                    watch.offer(event)

    def hear(self, tenant: str, session_id: str, sequences: Sequence[int]) -> None:
        """Another replica says which events of its session are about approvals."""
        if tenant in self._watches:
            self._told.put_nowait((tenant, session_id, sequences))

    def wake(self) -> None:
        """The replica is stopping: every watch is to notice."""
        for watches in self._watches.values():
            for watch in watches:
                watch.box.move_to(_NOWHERE)

    async def run(self) -> None:
        """For as long as the replica lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_on())
            group.create_task(self._check())

    def _is_new(self, event: LoggedEvent) -> bool:
        """Not heard before: what could not be told for sure is told again."""
        key = (event.session_id, event.sequence)
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > MAX_SEEN:
            del self._seen[next(iter(self._seen))]
        return True

    async def _read_on(self) -> None:
        """Read what other replicas told of, in the order they told it."""
        while True:
            told = [await self._told.get()]
            while not self._told.empty():
                told.append(self._told.get_nowait())
            wanted = [(tenant, session_id, n) for tenant, session_id, numbers in told for n in numbers]
            try:
                reads = (self._log.events_after(tenant, session_id, n - 1, 1) for tenant, session_id, n in wanted)
                pages = await asyncio.gather(*reads)
            except StorageUnavailable as error:
                _log.warning("changes of the inbox could not be read; they will be missed", error=str(error))
                continue
            for (tenant, _, _), page in zip(wanted, pages, strict=True):
                self.publish(tenant, page)

    async def _check(self) -> None:
        """A replica that died may have written what it never told. What is merely on its way comes between two checks:
        an inbox that twice in a row lacks the same begins again."""
        suspects: dict[InboxWatch, Tally] = {}
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            found: dict[InboxWatch, Tally] = {}
            for wanted, watches in self._by_filter().items():
                try:
                    tally = await self._pending.tally(wanted)
                except StorageUnavailable:
                    break
                found |= {watch: tally.less(watch.tally) for watch in watches if watch.tally != tally}
            for watch in found.keys() & suspects.keys():
                if found[watch] == suspects[watch]:
                    watch.give_up()
            suspects = found

    def _by_filter(self) -> dict[Filter, list["InboxWatch"]]:
        by_filter: dict[Filter, list[InboxWatch]] = defaultdict(list)
        for watches in self._watches.values():
            for watch in watches:
                if watch.is_caught_up and watch.box.is_empty:
                    by_filter[watch.wanted].append(watch)
        return by_filter


class InboxWatch:
    """One watcher. Besides its box it costs a number for each pending approval that its filter takes."""

    def __init__(self, wanted: Filter, shows: Shows, pending: Pending, closing: asyncio.Event) -> None:
        self.wanted = wanted
        self.box = Box(wants_deltas=False)
        self._pending = pending
        self._closing = closing
        self._shown = Shown(shows)
        self._early: dict[int, LoggedEvent] = {}  # resolved, as one replica says, before another says they were asked
        self._is_outdated = False
        self.is_caught_up = False  # the snapshot is complete

    @property
    def tally(self) -> Tally:
        return self._shown.tally

    def offer(self, event: LoggedEvent) -> None:
        told = about(event.payload_json)
        if told is not None and self.wanted.takes(event.session_id, told):
            self.box.put(event)

    def give_up(self) -> None:
        self._is_outdated = True
        self.box.move_to(_NOWHERE)

    async def parts(self) -> AsyncIterator[Snapshot | list[LoggedEvent] | Heartbeat]:
        """The snapshot, then changes for ever. Raises SlowWatcher, StreamEnding, InboxOutdated, StorageUnavailable."""
        page = ""
        while not self.is_caught_up:
            approvals, page = await self._pending.page(self.wanted, page)
            self._require_going_on()
            seen = [approval for approval in approvals if self._shown.add(approval)]
            self.is_caught_up = not page
            if seen or self.is_caught_up:
                yield Snapshot(seen, is_complete=self.is_caught_up)
        while True:
            self._require_going_on()
            heard = [event for event in self.box.take() if isinstance(event, LoggedEvent)]
            if fresh := [shown for event in heard for shown in self._following(event)]:
                yield fresh
            elif heard:
                continue
            elif not await self.box.wait(HEARTBEAT_SECONDS):
                yield Heartbeat(0)

    def _require_going_on(self) -> None:
        if self.box.overflowed:
            raise SlowWatcher(None)
        if self._closing.is_set():
            raise StreamEnding(None)
        if self._is_outdated:
            raise InboxOutdated

    def _following(self, event: LoggedEvent) -> list[LoggedEvent]:
        """What is to be shown now that this was heard."""
        told = about(event.payload_json)
        if told is None:
            return []
        number = number_of(told.id)
        if told.what == "RESOLVED":
            return self._after_resolved(number, event)
        if told.what != "ASKED":
            return [event] if self._shown.count(number, told) else []
        approval = approval_of(event.payload_json)
        if (resolved := self._early.pop(number, None)) is not None:
            return [event, resolved] if self._shown.wants(approval) else []
        return [event] if self._shown.add(approval) else []

    def _after_resolved(self, number: int, event: LoggedEvent) -> list[LoggedEvent]:
        if number in self._shown:
            return [event] if self._shown.remove(number) else []
        self._early[number] = event
        if len(self._early) > MAX_EARLY:
            del self._early[next(iter(self._early))]
        return []
