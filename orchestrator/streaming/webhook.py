"""Telling a webhook what concerns people: signed, again and again until it is taken, and each time by the same id.

What is to be told is in the database (store/deliveries.py); replicas share the work. What a body says is not decided
here. Neither the secret nor the address, which may hold one, is ever logged.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import httpx
import structlog
from prometheus_client import Counter

from orchestrator.domain.catalog import SECOND
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import LoggedEvent
from orchestrator.store import deliveries
from orchestrator.store.batch import TOLD_OF
from orchestrator.store.database import Database
from orchestrator.store.deliveries import Delivery

AT_ONCE = 8
LOOK_SECONDS = 2.0
SEND_SECONDS = 10.0
HOLD_SECONDS = 30.0  # nobody else sends meanwhile; more than sending and noting take together
STOP_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 900.0
GIVE_UP_SECONDS = 3 * 24 * 3600.0
GONE = 410

_log = structlog.get_logger("orchestrator.webhook")

SENDS = Counter("assent_webhook_sends", "What became of each sending to the webhook.", ["outcome"])

BodyOf = Callable[[LoggedEvent], bytes]
_BEGINNINGS = tuple(f'{{"{name}"' for name in sorted(TOLD_OF))


class Webhook:
    """One a replica; `run` sends for as long as the replica lives."""

    def __init__(self, database: Database, url: str, secret: bytes, body_of: BodyOf) -> None:
        self._database = database
        self._url = url
        self._secret = secret
        self._body_of = body_of
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    def written(self, events: Sequence[LoggedEvent]) -> None:
        """For the writer, after each commit: there may be something to send."""
        if any(event.payload_json.startswith(_BEGINNINGS) for event in events):
            self._wake.set()

    async def run(self) -> None:
        # No proxy, no .netrc and no redirect: what is sent goes where it was configured to go, and nowhere else.
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=SEND_SECONDS) as client:
            try:
                while True:
                    await self._take(client)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._wake.wait()
                    self._wake.clear()
            finally:
                await self._end()

    async def _end(self) -> None:
        """Hear what becomes of what is being sent, for a moment: what is not heard is sent again by another."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=STOP_SECONDS)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _take(self, client: httpx.AsyncClient) -> None:
        """Begin to send as much as there is and as fits."""
        free = AT_ONCE - len(self._sending)
        if not free:
            return
        try:
            taken = await deliveries.take(self._database, free, round(HOLD_SECONDS * SECOND))
        except StorageUnavailable as error:
            _log.warning("what the webhook is to be told cannot be read; it is told later", error=str(error))
            return
        for delivery in taken:
            task = asyncio.create_task(self._deliver(client, delivery))
            self._sending.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._wake.set()

    async def _deliver(self, client: httpx.AsyncClient, delivery: Delivery) -> None:
        try:
            status, why = await self._send(client, delivery), ""
        except (httpx.HTTPError, TimeoutError, OSError) as error:
            status, why = 0, type(error).__name__
        try:
            await self._note(delivery, status, why or f"status {status}")
        except StorageUnavailable:
            _log.warning("what became of a delivery could not be written; it is sent again", delivery_id=delivery.id)

    async def _send(self, client: httpx.AsyncClient, delivery: Delivery) -> int:
        """The status that the receiver answers with; whatever else it says is not read."""
        body = self._body_of(delivery.event)
        sent_at = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "assent",
            "Assent-Webhook-Id": delivery.id,
            "Assent-Webhook-Timestamp": sent_at,
            "Assent-Webhook-Signature": signature(self._secret, sent_at, body),
        }
        async with asyncio.timeout(SEND_SECONDS):
            async with client.stream("POST", self._url, content=body, headers=headers) as response:
                return response.status_code

    async def _note(self, delivery: Delivery, status: int, why: str) -> None:
        if 200 <= status < 300:
            SENDS.labels("taken").inc()
            await deliveries.done(self._database, delivery)
        elif status == GONE or delivery.age > GIVE_UP_SECONDS * SECOND:
            SENDS.labels("given_up").inc()
            _log.error("the webhook was not told", delivery_id=delivery.id, tries=delivery.tries, why=why)
            await deliveries.done(self._database, delivery)
        else:
            SENDS.labels("failed").inc()
            pause = pause_after(delivery)
            _log.warning("the webhook did not take it", delivery_id=delivery.id, tries=delivery.tries, why=why)
            await deliveries.later(self._database, delivery, round(pause * SECOND))


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What the receiver compares with what it makes of the same."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def pause_after(delivery: Delivery) -> float:
    """Twice as long after each try, and for each delivery a little different: what failed together comes apart."""
    spread = hashlib.sha256(f"{delivery.id}:{delivery.tries}".encode()).digest()[0] / 255  # 0 to 1, the same each time
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(delivery.tries - 1, 20), LONGEST_PAUSE_SECONDS)
    return pause * (0.75 + spread / 2)
