"""A webhook's receiver that a test directs: what it heard, and how it answers each time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

LIMIT_SECONDS = 60.0  # more than somebody who has lost an answer keeps a delivery
OK = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


def status(code: int, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {code} So", "Content-Length: 0", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Heard:
    """One request."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["assent-webhook-id"]

    @property
    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.json.decode(self.body)
        return told


@dataclass
class Receiver:
    """`answers` are given one after another, then OK for ever; None: no answer until `released`."""

    url: str = ""
    answers: list[bytes | None] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, count: int) -> Sequence[Heard]:
        """Wait until it has heard so many requests."""
        async with asyncio.timeout(LIMIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.heard) >= count)
        return self.heard

    @property
    def ids(self) -> list[str]:
        return [heard.id for heard in self.heard]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
        body = await reader.readexactly(int(headers["content-length"]))
        answer = self.answers.pop(0) if self.answers else OK
        async with self._changed:
            self.heard.append(Heard(headers, body))
            self._changed.notify_all()
        if answer is None:
            await self.released.wait()
            answer = OK
        writer.write(answer)
        await writer.drain()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook/path-with-a-canary"
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.close()
