"""The containers' door: what connects to it reaches the service behind it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.door import LOOPBACK, pass_through


async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after it has seen the end of what was sent."""
    said = await reader.read()
    writer.write(said[::-1])
    await writer.drain()
    writer.close()


@pytest.fixture
async def inside() -> AsyncIterator[asyncio.Server]:
    async with await asyncio.start_server(reverse, LOOPBACK, 0) as server:
        yield server


@pytest.fixture
async def outside(inside: asyncio.Server) -> AsyncIterator[int]:
    """The port of a door that leads to `inside`."""

    port = port_of(inside)

    async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pass_through(port, reader, writer)

    async with await asyncio.start_server(opened, LOOPBACK, 0) as door:
        yield port_of(door)


def port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


async def ask(port: int, said: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(said)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), timeout=10)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_what_is_said_passes_in_and_the_answer_passes_out_after_the_end_was_said(outside: int) -> None:
    said = bytes(range(256)) * 4096
    assert await ask(outside, said) == said[::-1]


async def test_where_nothing_listens_inside_the_connection_is_closed_at_once(
    inside: asyncio.Server, outside: int
) -> None:
    inside.close()
    await inside.wait_closed()
    assert await ask(outside, b"") == b""
