"""Carries one server stream from gRPC to an HTTP client, at the client's pace, until either of them ends it.

A client that goes away cancels the call at once. How elements are written is framing's.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc

from gateway.errors import ErrorAnswer, answer, answer_rpc_error, shutting_down
from gateway.framing import Framing, items_of, sequence_of
from gateway.http import Receive, Send, respond_error
from rpc.problem import Problem

Call = grpc.aio.UnaryStreamCall[Any, Any]


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream that says nothing is heard all the same."""

    # The response begins with the first element, so that a refusal still has a status of its own; a stream
    # that is quiet begins after this time, so that the client knows it is there.
    first_seconds: float = 0.5
    keep_alive_seconds: float = 15


class Closing:
    """Whether the gateway is stopping; open streams wait for it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def begin(self) -> None:
        """End every open stream, telling its client where to resume."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the gateway begins to stop."""
        await self._event.wait()


class Stream:
    """One stream being carried; `after` is the sequence its client has already seen."""

    def __init__(self, call: Call, framing: Framing, send: Send, *, pace: Pace, after: int = 0) -> None:
        self._call = call
        self._framing = framing
        self._send = send
        self._pace = pace
        self._last_sequence = after
        self._started = False

    async def carry(self, receive: Receive, closing: Closing) -> None:
        """Carry it to its end."""
        gone = asyncio.create_task(_disconnected(receive))
        stopping = asyncio.create_task(closing.wait())
        reading = asyncio.create_task(self._call.read())
        try:
            while True:
                limit = self._pace.keep_alive_seconds if self._started else self._pace.first_seconds
                # The read goes on while others are waited for: one that is cancelled ends the whole call.
                done, _ = await asyncio.wait(
                    {gone, stopping, reading}, timeout=limit, return_when=asyncio.FIRST_COMPLETED
                )
                if gone in done:
                    break
                if reading in done:
                    response = reading.result()
                    if response is grpc.aio.EOF:
                        await self._write(b"", more=False)
                        break
                    await self._send_items(response)
                    reading = asyncio.create_task(self._call.read())
                elif stopping not in done:
                    await self._write(self._framing.keep_alive)
                if stopping in done:
                    await self._fail(answer(_stopping(self._last_sequence)))
                    break
        except grpc.aio.AioRpcError as error:
            await self._fail(answer_rpc_error(error))
        finally:
            self._call.cancel()
            await _finish(gone, stopping, reading)

    async def _send_items(self, response: Any) -> None:
        framed: list[bytes] = []
        for item in items_of(response):
            framed.append(self._framing.item(item))
            self._last_sequence = sequence_of(item) or self._last_sequence
        if framed:
            await self._write(b"".join(framed))

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        if not self._started:
            self._started = True
            headers = [
                (b"content-type", self._framing.content_type),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),  # proxies of the nginx kind would hold the stream back
            ]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        # Waits while the client's buffer is full; nothing more is read from the call meanwhile.
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _fail(self, error: ErrorAnswer) -> None:
        if self._started:
            await self._write(self._framing.error(error.body), more=False)
        else:
            await respond_error(self._send, error)


def _stopping(last_sequence: int) -> Problem:
    message = "the gateway is stopping: connect again"
    if not last_sequence:
        return shutting_down(message)
    return shutting_down(
        f"{message}, with Last-Event-ID: {last_sequence} to go on from here",
        {"after_sequence": str(last_sequence)},
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _finish(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
