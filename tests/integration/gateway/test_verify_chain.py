"""The script in docs/ that verifies a log from the HTTP API alone: it accepts a true log and no other."""

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.bootstrap import public_services
from gen.assent.v1 import event_pb2, session_service_pb2
from tests.integration.gateway.stack import Context, Stack, stack

SCRIPT = Path(__file__).parents[3] / "docs" / "verify_chain.py"
ID = "0196f3c8-7d2e-7a51-9c1b-2f6f3a1d0e42"
# Whole seconds, milliseconds and microseconds are written with different numbers of digits.
TIMES = (1_763_600_000_000_000, 1_763_600_000_120_000, 1_763_600_000_120_001, 1_763_600_001_999_999)


@pytest.fixture(scope="module")
async def assent() -> AsyncIterator[Stack]:
    async with stack(list(public_services())) as started:
        yield started


def log() -> list[Any]:
    events, previous = [], "0" * 64
    for sequence, micros in enumerate(TIMES, start=1):
        payload = f'{{"message_created":{{"text":"й\\n{sequence}"}}}}'
        digest = hashlib.sha256(f"{previous}\n{sequence}\n{micros}\n{payload}".encode()).hexdigest()
        time = Timestamp()
        time.FromMicroseconds(micros)
        events.append(
            event_pb2.SessionEvent(
                sequence=sequence, event_time=time, hash=digest, previous_hash=previous, payload_json=payload
            )
        )
        previous = digest
    return events


async def verify(stack: Stack, events: list[Any]) -> tuple[int, str]:
    """Run the script against a log that comes in pages of three events."""

    async def list_events(request: Any, _context: Context) -> Any:
        first = int(request.page_token or "0")
        token = str(first + 3) if first + 3 < len(events) else ""
        return session_service_pb2.ListEventsResponse(events=events[first : first + 3], next_page_token=token)

    stack.fake.unary["ListEvents"] = list_events
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), ID, f"127.0.0.1:{stack.server.port}", stdout=-1, stderr=-1
    )
    out, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, (out + errors).decode()


async def test_a_true_log_is_accepted(assent: Stack) -> None:
    events = log()
    assert await verify(assent, events) == (0, f"OK: 4 events, the last with hash {events[-1].hash}\n")


@pytest.mark.parametrize("what", ["text", "time", "hash", "dropped", "swapped", "renumbered"])
async def test_a_log_that_was_touched_is_not(assent: Stack, what: str) -> None:
    events = log()
    if what == "text":
        events[2].payload_json = events[2].payload_json.replace("3", "4")
    elif what == "time":
        events[2].event_time.nanos += 1000
    elif what == "hash":
        events[2].hash = "0" * 64
    elif what == "dropped":
        del events[2]
    elif what == "swapped":
        events[2], events[3] = events[3], events[2]
    else:
        events[2].sequence = 4
    code, said = await verify(assent, events)
    assert (code, said.startswith("BROKEN at event 3")) == (1, True)


def test_it_is_short_enough_to_be_read_and_believed() -> None:
    assert len(SCRIPT.read_text().splitlines()) <= 20
