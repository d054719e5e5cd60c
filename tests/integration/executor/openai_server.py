"""A server on loopback that speaks OpenAI's chat completions, streamed, and says what a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """What is sent: streamed chunks (a pause before each), or an HTTP error."""

    chunks: Sequence[dict[str, Any]] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    done: bool = True
    hang: bool = False


@dataclass
class OpenAIServer:
    """Answers in order; keeps the requests."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length"))
            self.headers.append(head)
            self.requests.append(json.loads(await reader.readexactly(int(length))))
            await self._answer(self.answers.pop(0), reader, writer)
        finally:
            writer.close()

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = "text/event-stream" if answer.status == 200 else "application/json"
        lines = [f"HTTP/1.1 {answer.status} X", f"content-type: {kind}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if answer.status != 200:
            writer.write(b'{"error": {"message": "sk-secret-key is wrong", "type": "x"}}')
        for chunk in answer.chunks:
            writer.write(f"data: {json.dumps(chunk)}\n\n".encode())
            await writer.drain()
        if answer.hang:
            await reader.read()  # until the client goes away
            self.gone.set()
        elif answer.done and answer.status == 200:
            writer.write(b"data: [DONE]\n\n")
        await writer.drain()


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAIServer]:
    server = OpenAIServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    async with listening:
        yield server


def chunk(delta: dict[str, Any] | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One `chat.completion.chunk`."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}] if delta or finish else []
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "gpt-4o-mini"}
    return {**base, "choices": choices, **more}


def call_delta(arguments: str, *, name: str | None = None, index: int = 0) -> dict[str, Any]:
    """A piece of a tool call."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    head = {"id": f"call_{index}", "type": "function"} if name else {}
    return {"tool_calls": [{"index": index, "function": function, **head}]}
