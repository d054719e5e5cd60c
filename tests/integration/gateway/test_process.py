"""The gateway as a process: how it starts, why it does not, and how it stops."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.bootstrap import public_services
from gen.assent.v1 import event_pb2, session_pb2, session_service_pb2
from tests.integration.gateway.stack import Context, Fake, fake_server, sse_events

ROOT = Path(__file__).parents[3]
ID = "0196f3c8-7d2e-7a51-9c1b-2f6f3a1d0e42"


async def start(**environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def gateway_before(fake: Fake) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """A gateway on a free port in front of a fake, and a client of the address that its ready line says."""
    async with fake_server(fake, list(public_services())) as (_, port):
        process = await start(ASSENT_HTTP_ADDR="127.0.0.1:0", ASSENT_GRPC_ADDR=f"127.0.0.1:{port}")
        try:
            assert process.stderr
            ready = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
            assert ready["event"] == "serving"
            base = f"http://{ready['address']}"
            async with httpx.AsyncClient(base_url=base, timeout=30, trust_env=False) as http:
                yield process, http
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"ASSENT_HTTP_ADDR": "0.0.0.0:0"}, 1, "refuses to listen on 0.0.0.0:0"),
        ({"ASSENT_LOG_LEVEL": "loud"}, 2, "ASSENT_LOG_LEVEL"),
    ],
)
async def test_a_gateway_that_cannot_start_says_why(environment: dict[str, str], code: int, said: str) -> None:
    process = await start(**environment)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == code
    assert said in errors.decode()
    assert b"Traceback" not in errors


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_open_streams_in_order_and_the_process_with_0(sent: signal.Signals) -> None:
    async def forever(_request: Any, _context: Context) -> AsyncIterator[Any]:
        event = event_pb2.SessionEvent(sequence=12, session_created=event_pb2.SessionCreated())
        yield session_service_pb2.StreamSessionResponse(events=[event])
        await asyncio.Event().wait()

    async with gateway_before(Fake(streams={"StreamSession": forever})) as (process, http):
        async with http.stream("GET", f"/v1/sessions/{ID}:stream") as response:
            events = sse_events(response)
            assert (await anext(events)).id == "12"
            process.send_signal(sent)
            last = await anext(events)
        assert last.data["details"][0]["metadata"]["after_sequence"] == "12"
        assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_the_log_has_one_line_a_request_with_its_trace_and_no_secrets() -> None:
    async def one(request: Any, _context: Context) -> Any:
        return session_service_pb2.GetSessionResponse(session=session_pb2.Session(id=request.session_id))

    async with gateway_before(Fake(unary={"GetSession": one})) as (process, http):
        response = await http.get(f"/v1/sessions/{ID}", headers={"authorization": "Bearer secret-token"})
        await http.get("/v1/sessions?labels=secret-label")
        assert process.stderr
        line = json.loads(await asyncio.wait_for(process.stderr.readline(), 30))
        process.terminate()
        _, rest = await process.communicate()
    assert (line["event"], line["method"], line["path"]) == ("http_request", "GET", f"/v1/sessions/{ID}")
    assert (line["status"], line["trace_id"]) == (200, response.headers["x-trace-id"])
    assert b"secret" not in json.dumps(line).encode() + rest
