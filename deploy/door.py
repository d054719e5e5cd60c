"""The way into the containers: `python door.py PORT …` passes connections on to the same loopback port.

Services without authentication bind the loopback only, and Docker publishes only what listens on the
container's own address. This listens there. Who may connect is for docker-compose.yml, which publishes it on
the host's loopback; what passes through is nothing to this program.
"""

import asyncio
import contextlib
import functools
import signal
import socket
import sys

LOOPBACK = "127.0.0.1"
CHUNK_BYTES = 64 * 1024


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until the sender has said all, then say so: the other direction may go on."""
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()  # ends the other direction too


async def pass_through(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection from outside; where nothing listens inside, it is closed at once."""
    with contextlib.closing(writer):
        try:
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            return
        with contextlib.closing(inner_writer):
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


async def serve(address: str, ports: list[int]) -> None:
    """Listen on every port of `address` until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with contextlib.AsyncExitStack() as servers:
        for port in ports:
            handler = functools.partial(pass_through, port)
            await servers.enter_async_context(await asyncio.start_server(handler, address, port))
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(serve(socket.gethostbyname(socket.gethostname()), [int(port) for port in sys.argv[1:]]))
