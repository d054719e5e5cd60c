"""The relay: what happens at this replica is told to the others a few times a second, and what they tell is passed on.

While nobody else is there, or nothing happens, nothing is sent.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.domain.records import Key, Session
from orchestrator.streaming.feed import Delta
from orchestrator.streaming.hub import Hub
from orchestrator.streaming.inbox import Inboxes
from orchestrator.streaming.news import Bulletin, Draft, moved_by, read, text_of

_log = structlog.get_logger("orchestrator.streaming")

GAP_SECONDS = 0.1  # between two sendings; what comes after a silence is sent at once
REMIND_SECONDS = 5.0
FORGET_SECONDS = 15.0


class Post(Protocol):
    """The way to all replicas."""

    async def send(self, texts: Sequence[str]) -> None:
        """Raises StorageUnavailable."""

    async def listen(self, hear: Callable[[str], None], hearing: Callable[[bool], None]) -> None:
        """For as long as it runs; `hearing` is told when listening begins and when it ends."""


class Listener(Protocol):
    """Who drives sessions here."""

    def hear(self, tenant: str, session_id: str, last_sequence: int) -> None:
        """Another replica wrote in the session."""

    def look(self) -> None:
        """There may be sessions to claim."""


class Relay:
    """One a replica. `sender` is its own for every start. Telling never waits."""

    def __init__(self, sender: str, post: Post, hub: Hub, inboxes: Inboxes, listener: Listener) -> None:
        self._sender = sender
        self._post = post
        self._hub = hub
        self._inboxes = inboxes
        self._listener = listener
        self._draft = Draft(sender)
        self._due = asyncio.Event()
        self._hears = asyncio.Event()
        self._others: dict[str, float] = {}  # by sender, until when they are taken to be there
        self._watched: dict[Key, float] = {}  # by others, until when
        self._sending = asyncio.Lock()
        hub.on_watched = self._watch

    # What happens here

    def written(self, session: Session, events: Sequence[LoggedEvent]) -> None:
        """For the writer, after each commit."""
        self._hub.publish(session, events)
        self._inboxes.publish(session.tenant, events)
        if self._others:
            self._draft.moved(moved_by(session, events))
            self._due.set()

    def said(self, tenant: str, session_id: str, delta: Delta) -> None:
        """For the engine: a piece of a model's reply."""
        self._hub.publish_delta(tenant, session_id, delta)
        if (tenant, session_id) in self._watched:
            self._draft.say((tenant, session_id), delta)
            self._due.set()

    async def gave_up(self) -> None:
        """Sessions of this replica were let go: others may claim them now. Sent before it returns, if it can be."""
        if self._others:
            self._draft.flag("gave_up")
            await self._send()

    def _watch(self, key: Key) -> None:
        if self._others:
            self._draft.watch([key])
            self._due.set()

    # What others say

    def hear(self, text: str) -> None:
        bulletin = read(text, but_from=self._sender)
        if bulletin is None:
            return
        until = asyncio.get_running_loop().time() + FORGET_SECONDS
        is_stranger = bulletin.sender not in self._others
        self._others[bulletin.sender] = until
        if is_stranger or bulletin.is_new:
            self._introduce()
        self._watched.update(dict.fromkeys(bulletin.watched, until))
        self._pass_on(bulletin)

    def _pass_on(self, bulletin: Bulletin) -> None:
        for moved in bulletin.moved:
            self._hub.hear(moved.tenant, moved.session_id, moved.position)
            self._inboxes.hear(moved.tenant, moved.session_id, moved.asked)
            self._listener.hear(moved.tenant, moved.session_id, moved.last_sequence)
        for said in bulletin.said:
            self._hub.publish_delta(said.tenant, said.session_id, said.delta)
        if bulletin.gave_up or any(moved.wants_engine for moved in bulletin.moved):
            self._listener.look()

    def _introduce(self) -> None:
        """Who listens anew knows neither that we are there nor what is watched here."""
        self._draft.flag("here")
        self._draft.watch(self._hub.wanting_deltas())
        self._due.set()

    def _hearing(self, hears: bool) -> None:
        self._hub.set_hearing(hears)
        if hears:
            self._hears.set()
            self._draft.flag("is_new")
            self._due.set()
        else:
            self._hears.clear()

    # For as long as the replica lives

    async def run(self) -> None:
        """Listen, send and remind, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._post.listen(self.hear, self._hearing))
            group.create_task(self._send_when_due())
            group.create_task(self._remind())

    async def _send_when_due(self) -> None:
        while True:
            await self._due.wait()
            await self._hears.wait()
            await self._send()
            await asyncio.sleep(GAP_SECONDS)

    async def _send(self) -> None:
        self._due.clear()
        async with self._sending:
            bulletins = self._draft.take()
            try:
                await self._post.send([text_of(bulletin) for bulletin in bulletins])
            except StorageUnavailable as error:
                _log.warning("other replicas could not be told", error=str(error))
                self._draft.not_sent(bulletins)
                self._due.set()

    async def _remind(self) -> None:
        """Others forget who is silent, and what it watches; so do we."""
        while True:
            await asyncio.sleep(REMIND_SECONDS)
            now = asyncio.get_running_loop().time()
            self._others = {sender: until for sender, until in self._others.items() if until > now}
            self._watched = {key: until for key, until in self._watched.items() if until > now}
            if self._others:
                self._introduce()
