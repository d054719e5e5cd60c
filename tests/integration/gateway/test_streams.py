import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from gateway.streaming import Pace
from rpc.problem import Problem
from tests.integration.gateway.stack import Context, SseEvent, Stack, abort, sse_events, stack
from tests.unit.gateway.notes import message, note_service


def written(*sequences: int, text: str = "") -> Any:
    note = message("Note", text=text)
    return message(
        "WatchNoteResponse",
        events=[message("NoteEvent", sequence=number, note_written=note) for number in sequences],
    )


async def three(request: Any, _context: Context) -> AsyncIterator[Any]:
    """A log of three events, in two messages."""
    wanted = [number for number in (1, 2, 3) if number > request.after_sequence]
    if wanted:
        yield written(*wanted[:2])
        yield written(*wanted[2:])


class Watched:
    """A stream that a test feeds, and that says when its call has ended."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.sent = 0

    async def __call__(self, _request: Any, _context: Context) -> AsyncIterator[Any]:
        self.begun.set()
        try:
            while True:
                yield await self.queue.get()
                self.sent += 1
        finally:
            self.ended.set()


async def read_all(stack: Stack, path: str, **options: Any) -> list[SseEvent]:
    async with stack.http.stream("GET", path, **options) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        return [event async for event in sse_events(response)]


async def test_one_event_for_each_of_a_batch_then_the_end(notes: Stack) -> None:
    notes.fake.streams["WatchNote"] = three
    events = await read_all(notes, "/v1/notes/7:watch")
    assert [(event.name, event.id) for event in events] == [("note_written", str(number)) for number in (1, 2, 3)]
    assert events[0].data["sequence"] == "1"
    assert events[0].data["noteWritten"]["text"] == ""


async def test_a_stream_is_not_stored_or_held_back_on_its_way(notes: Stack) -> None:
    notes.fake.streams["WatchNote"] = three
    response = await notes.http.get("/v1/notes/7:watch")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-trace-id"]


@pytest.mark.parametrize(
    ("query", "headers", "first"),
    [
        ("", {"last-event-id": "1"}, "2"),
        ("?afterSequence=1", {}, "2"),
        # A browser that connects again repeats the address it was first given.
        ("?afterSequence=0", {"last-event-id": "2"}, "3"),
        ("?afterSequence=2", {"last-event-id": ""}, "3"),
    ],
)
async def test_a_client_resumes_after_the_last_event_it_has(
    notes: Stack, query: str, headers: dict[str, str], first: str
) -> None:
    notes.fake.streams["WatchNote"] = three
    events = await read_all(notes, f"/v1/notes/7:watch{query}", headers=headers)
    assert events[0].id == first


async def test_a_stream_that_cannot_resume_ignores_the_last_id(notes: Stack) -> None:
    async def snapshot(_request: Any, _context: Context) -> AsyncIterator[Any]:
        yield message("WatchAllResponse", snapshot=message("Note", id="7"))
        yield message("WatchAllResponse", changed=message("Note", id="8"))

    notes.fake.streams["WatchAll"] = snapshot
    events = await read_all(notes, "/v1/notes:watch", headers={"last-event-id": "9"})
    assert [(event.name, event.id) for event in events] == [("snapshot", None), ("changed", None)]


async def test_a_command_may_answer_a_stream(notes: Stack) -> None:
    async def write(request: Any, _context: Context) -> AsyncIterator[Any]:
        yield written(1, text=request.text)

    notes.fake.streams["WriteAndWatch"] = write
    async with notes.http.stream("POST", "/v1/notes/7:write", json={"text": "й\n"}) as response:
        events = [event async for event in sse_events(response)]
    assert events[0].data["noteWritten"]["text"] == "й\n"


async def test_json_lines_for_those_who_ask_for_them(notes: Stack) -> None:
    notes.fake.streams["WatchNote"] = three
    response = await notes.http.get("/v1/notes/7:watch", headers={"accept": "application/x-ndjson"})
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["sequence"] for line in response.text.splitlines()] == ["1", "2", "3"]


async def test_an_error_before_the_first_event_is_an_error_with_its_status(notes: Stack) -> None:
    async def refuse(_request: Any, context: Context) -> AsyncIterator[Any]:
        await abort(context, Problem(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", "no such session"))
        yield

    notes.fake.streams["WatchNote"] = refuse
    response = await notes.http.get("/v1/notes/7:watch")
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")
    assert response.json()["details"][0]["reason"] == "SESSION_NOT_FOUND"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_an_error_after_the_first_event_is_the_last_event(notes: Stack, code: grpc.StatusCode) -> None:
    async def cut(_request: Any, context: Context) -> AsyncIterator[Any]:
        yield written(1)
        await abort(context, Problem(code, "WATCHER_TOO_SLOW", "cut", metadata={"last_sequence": "1"}))

    notes.fake.streams["WatchNote"] = cut
    events = await read_all(notes, "/v1/notes/7:watch")
    assert [event.name for event in events] == ["note_written", "stream_error"]
    assert events[1].id is None
    assert events[1].data["code"] == code.value[0]
    assert events[1].data["details"][0]["metadata"]["last_sequence"] == "1"
    response = await notes.http.get("/v1/notes/7:watch", headers={"accept": "application/x-ndjson"})
    assert json.loads(response.text.splitlines()[1])["streamError"]["code"] == code.value[0]


async def test_a_service_that_goes_away_ends_the_stream_with_a_word(own_notes: Stack) -> None:
    watched = Watched()
    own_notes.fake.streams["WatchNote"] = watched
    watched.queue.put_nowait(written(1))
    async with own_notes.http.stream("GET", "/v1/notes/7:watch") as response:
        events = sse_events(response)
        assert (await anext(events)).id == "1"
        await own_notes.grpc_server.stop(None)
        last = await anext(events)
    assert last.name == "stream_error"
    assert last.data["code"] == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "127.0.0.1" not in json.dumps(last.data)


async def test_an_unreachable_service_is_a_503_and_no_stream(own_notes: Stack) -> None:
    await own_notes.grpc_server.stop(None)
    assert (await own_notes.http.get("/v1/notes/7:watch")).status_code == 503


async def test_a_quiet_stream_begins_and_is_kept_alive_by_comments(notes: Stack) -> None:
    notes.fake.streams["WatchNote"] = Watched()
    async with notes.http.stream("GET", "/v1/notes/7:watch") as response:
        assert response.status_code == 200
        lines = response.aiter_lines()
        assert [await anext(lines) for _ in range(6)] == [":", "", ":", "", ":", ""]


async def test_quiet_json_lines_stay_json_lines(notes: Stack) -> None:
    watched = Watched()
    notes.fake.streams["WatchNote"] = watched
    headers = {"accept": "application/x-ndjson"}
    async with notes.http.stream("GET", "/v1/notes/7:watch", headers=headers) as response:
        await asyncio.sleep(0.15)  # three times as long as it takes to be kept alive
        watched.queue.put_nowait(written(1))
        async for line in response.aiter_lines():
            assert json.loads(line)["sequence"] == "1"
            break


async def test_an_event_is_sent_when_it_happens(notes: Stack) -> None:
    watched = Watched()
    notes.fake.streams["WatchNote"] = watched
    async with notes.http.stream("GET", "/v1/notes/7:watch") as response:
        events = sse_events(response)
        for number in (1, 2, 3):
            watched.queue.put_nowait(written(number))
            assert (await asyncio.wait_for(anext(events), 5)).id == str(number)


@pytest.mark.parametrize("after", [0, 1])
async def test_a_client_that_goes_away_cancels_the_call_at_once(notes: Stack, after: int) -> None:
    watched = Watched()
    notes.fake.streams["WatchNote"] = watched
    for number in range(after):
        watched.queue.put_nowait(written(number + 1))
    async with notes.http.stream("GET", "/v1/notes/7:watch") as response:
        assert await anext(response.aiter_bytes())
    await asyncio.wait_for(watched.ended.wait(), 1)


async def test_a_client_that_goes_away_before_the_answer_begins_cancels_the_call() -> None:
    watched = Watched()
    async with stack([note_service()], pace=Pace(first_seconds=60)) as running:
        running.fake.streams["WatchNote"] = watched
        _, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        writer.write(b"GET /v1/notes/7:watch HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await asyncio.wait_for(watched.begun.wait(), 5)
        writer.close()
        await asyncio.wait_for(watched.ended.wait(), 1)


async def test_a_client_that_does_not_read_slows_the_service_down(notes: Stack) -> None:
    """Nothing is piled up in the gateway: what the client has not read stays where it comes from."""
    watched = Watched()
    notes.fake.streams["WatchNote"] = watched
    big = written(1, text="x" * 100_000)
    for _ in range(1000):
        watched.queue.put_nowait(big)
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port, limit=1024)
    writer.write(b"GET /v1/notes/7:watch HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    stalled = 0
    async with asyncio.timeout(20):
        while stalled < 20:
            before = watched.sent
            await asyncio.sleep(0.02)
            stalled = stalled + 1 if watched.sent == before else 0
    assert watched.sent < 500
    writer.close()
    await asyncio.wait_for(watched.ended.wait(), 5)


async def test_a_gateway_that_stops_says_where_to_resume(own_notes: Stack) -> None:
    watched = Watched()
    own_notes.fake.streams["WatchNote"] = watched
    watched.queue.put_nowait(written(41, 42))
    async with own_notes.http.stream("GET", "/v1/notes/7:watch") as response:
        events = sse_events(response)
        assert [(await anext(events)).id for _ in range(2)] == ["41", "42"]
        own_notes.server.begin_to_stop()
        last = await anext(events)
        assert last.name == "stream_error"
        info, retry = last.data["details"]
        assert (info["reason"], info["metadata"]["after_sequence"]) == ("SHUTTING_DOWN", "42")
        assert retry["retryDelay"] == "1s"
        assert [event async for event in events] == []
    await asyncio.wait_for(watched.ended.wait(), 5)
    await asyncio.wait_for(own_notes.serving, 5)


async def test_a_busy_stream_ends_when_the_gateway_stops_too(own_notes: Stack) -> None:
    async def busy(_request: Any, _context: Context) -> AsyncIterator[Any]:
        number = 0
        while True:
            number += 1
            yield written(number)

    own_notes.fake.streams["WatchNote"] = busy
    async with own_notes.http.stream("GET", "/v1/notes/7:watch") as response:
        events = sse_events(response)
        await anext(events)
        own_notes.server.begin_to_stop()
        names = [event.name async for event in events]
    assert names[-1] == "stream_error"


async def test_a_stopping_gateway_finishes_what_it_has_begun(own_notes: Stack) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request: Any, _context: Context) -> Any:
        begun.set()
        await go_on.wait()
        return message("NoteResponse", note=message("Note", id="7"))

    own_notes.fake.unary["GetNote"] = slow
    answer = asyncio.create_task(own_notes.http.get("/v1/notes/7"))
    await begun.wait()
    own_notes.server.begin_to_stop()
    async with asyncio.timeout(5):
        while True:
            try:
                await own_notes.http.get("/healthz")
            except httpx.TransportError:
                break
    go_on.set()
    assert (await answer).json()["id"] == "7"
