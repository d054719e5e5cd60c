"""The HTTP server that the application runs on: its socket, its limits, its way to stop.

Signals are not handled here: the process decides when to stop, and what else stops with it.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import uvicorn

from gateway.http import App
from gateway.streaming import Closing
from rpc.addresses import Address, BadAddress, parse_address, require_loopback

logging.getLogger("uvicorn").setLevel(logging.WARNING)

_BACKLOG = 512
_IDLE_SECONDS = 60
_GRACE_SECONDS = 10


class HttpServer(uvicorn.Server):
    """Serves the application at one address until it is stopped."""

    def __init__(self, app: App, address: str, closing: Closing) -> None:
        self._closing = closing
        self._ended = asyncio.Event()
        self.address = parse_address(address)
        self._socket = _listen(self.address)
        self.port: int = self._socket.getsockname()[1]
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                ws="none",
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )

    async def run_to_the_end(self) -> None:
        """Serve until `stop`."""
        try:
            await self.serve(sockets=[self._socket])
        finally:
            self._ended.set()

    def begin_to_stop(self) -> None:
        """Take no more connections, end open streams with a word on where to resume, finish the rest."""
        self._closing.begin()
        self.should_exit = True

    async def stop(self) -> None:
        """Stop, and wait until it has."""
        self.begin_to_stop()
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


def _listen(address: Address) -> socket.socket:
    # Nobody is authenticated yet: whoever reaches the gateway acts as the development principal.
    require_loopback(address, "the gateway")
    if address.host.startswith("unix:"):
        raise BadAddress("the gateway listens on HOST:PORT, not on a socket file")
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named because asyncio turns off Nagle's algorithm only for sockets that say they are TCP,
    # and with it on every answer waits 40 ms for the client's acknowledgement of its headers.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise BadAddress(f"the gateway cannot listen on {address}: {error.strerror}") from error
    return listener
