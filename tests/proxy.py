"""A proxy on the way to a server, PostgreSQL or an executor, that can do what a bad network does to its connections.

It passes bytes on and knows no protocol. Nothing is broken until a test says so, and `heal` ends every fault.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_SOCKET = ".s.PGSQL.5432"

LIMIT_SECONDS = 30.0  # gRPC takes 10 s and more to find a silent peer

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Between a client and the server that `dial` reaches."""

    def __init__(self, dial: Callable[[], Awaitable[Stream]]) -> None:
        self._dial = dial
        self._lose_answer_to: bytes | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._swallows_requests = False
        self._swallows_answers = False
        self._delay_seconds = 0.0
        self._swallowed = asyncio.Event()
        self._opened = asyncio.Event()
        self._closed = asyncio.Event()
        self.lost = 0  # answers that were lost on demand

    # Faults

    def lose_answer_to(self, sent: bytes) -> None:
        """Cut the connection instead of passing on the answer to whatever holds `sent`; once."""
        self._lose_answer_to = sent

    def stall(self) -> None:
        """Let nothing through any more, without a word: what a network that fails looks like."""
        self._swallows_requests = self._swallows_answers = True

    def swallow_requests(self) -> None:
        """Half-open: the server's words still arrive, and it hears nothing."""
        self._swallows_requests = True

    def swallow_answers(self) -> None:
        """Half-open: the server still hears everything, and nothing of what it says arrives."""
        self._swallows_answers = True

    def delay(self, seconds: float) -> None:
        """Hold everything back for so long, in both directions."""
        self._delay_seconds = seconds

    def cut(self) -> None:
        """End every connection there is."""
        for stream in list(self._streams):
            stream.close()

    def heal(self) -> None:
        """What was swallowed is gone, so the connections that missed it are cut; new ones are whole."""
        self._swallows_requests = self._swallows_answers = False
        self._delay_seconds = 0.0
        self.cut()

    # What tests wait for, each since they last did

    async def swallowed(self) -> None:
        """Something was."""
        await _happened(self._swallowed)

    async def opened(self) -> None:
        """A connection was made."""
        await _happened(self._opened)

    async def closed(self) -> None:
        """One of the two ends gave a connection up."""
        await _happened(self._closed)

    # Connections

    async def connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection, until either side ends it."""
        try:
            backend, to_backend = await self._dial()
        except OSError:
            to_client.close()
            return
        self._streams |= {to_client, to_backend}
        self._opened.set()
        doomed = asyncio.Event()
        passing = {
            asyncio.create_task(self._upstream(client, to_backend, doomed)),
            asyncio.create_task(self._downstream(backend, to_client, doomed)),
        }
        self._tasks |= passing
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        self._tasks -= passing
        self._closed.set()
        for stream in (to_client, to_backend):
            stream.close()
            self._streams.discard(stream)

    async def _upstream(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, doomed: asyncio.Event) -> None:
        while data := await source.read(1 << 20):
            if self._lose_answer_to is not None and self._lose_answer_to in data:
                self._lose_answer_to = None
                doomed.set()
            await self._pass(data, sink, self._swallows_requests)

    async def _downstream(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        while data := await source.read(1 << 20):
            if doomed.is_set():
                self.lost += 1
                return
            await self._pass(data, sink, self._swallows_answers)

    async def _pass(self, data: bytes, sink: asyncio.StreamWriter, swallow: bool) -> None:
        if swallow:
            self._swallowed.set()
            return
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        sink.write(data)

    async def close(self) -> None:
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _happened(event: asyncio.Event) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        await event.wait()
    event.clear()


class PostgresProxy(Proxy):
    """`url` is that of the server behind it, by way of the proxy."""

    url: str


class TcpProxy(Proxy):
    """`address` is where it listens: host:port."""

    address: str


@asynccontextmanager
async def before_postgres(server_url: str) -> AsyncIterator[PostgresProxy]:
    """A proxy before the embedded server at this URL, which listens on a socket in a directory."""
    parts = urlsplit(server_url)
    target = Path(parse_qs(parts.query)["host"][0]) / _SOCKET
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="assent-proxy-"))
        proxy = PostgresProxy(lambda: asyncio.open_unix_connection(target))
        proxy.url = parts._replace(query=f"host={directory}").geturl()
        server = await asyncio.start_unix_server(proxy.connected, Path(directory) / _SOCKET)
        stack.callback(server.close)
        stack.push_async_callback(proxy.close)
        yield proxy


@asynccontextmanager
async def before_tcp(address: str) -> AsyncIterator[TcpProxy]:
    """A proxy before the server at this address, host:port."""
    host, _, port = address.rpartition(":")
    proxy = TcpProxy(lambda: asyncio.open_connection(host, int(port)))
    server = await asyncio.start_server(proxy.connected, "127.0.0.1", 0)
    proxy.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
