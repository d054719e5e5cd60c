"""A proxy before an embedded PostgreSQL that can lose an answer: the work is done, and nobody is told."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Passes everything on, until told to lose something or to let nothing through."""

    def __init__(self, server_url: str, directory: Path) -> None:
        parts = urlsplit(server_url)
        self._target = Path(parse_qs(parts.query)["host"][0]) / _SOCKET
        self._directory = directory
        self.url = parts._replace(query=f"host={directory}").geturl()
        self._lose_answer_to: bytes | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self.lost = 0
        self.stalled = False

    def lose_answer_to(self, sent: bytes) -> None:
        """Cut the connection instead of passing on the answer to whatever holds `sent`; once."""
        self._lose_answer_to = sent

    def stall(self) -> None:
        """Let nothing through any more, without a word: what a network that fails looks like."""
        self.stalled = True

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_unix_server(self._connected, self._directory / _SOCKET)
        try:
            yield self
        finally:
            server.close()
            for stream in self._streams:
                stream.close()

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        backend, to_backend = await asyncio.open_unix_connection(self._target)
        self._streams |= {to_client, to_backend}
        doomed = asyncio.Event()
        passing = [
            asyncio.create_task(self._upstream(client, to_backend, doomed)),
            asyncio.create_task(self._downstream(backend, to_client, doomed)),
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        for stream in (to_client, to_backend):
            stream.close()
            self._streams.discard(stream)

    async def _upstream(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while data := await source.read(1 << 20):
            if self._lose_answer_to is not None and self._lose_answer_to in data:
                self._lose_answer_to = None
                doomed.set()
            if not self.stalled:
                sink.write(data)

    async def _downstream(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await source.read(1 << 20):
            if doomed.is_set():
                self.lost += 1
                return
            if not self.stalled:
                sink.write(data)


@asynccontextmanager
async def proxied(server_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the server at this URL."""
    with tempfile.TemporaryDirectory(prefix="assent-proxy-") as directory:
        async with Proxy(server_url, Path(directory)).running() as proxy:
            yield proxy
