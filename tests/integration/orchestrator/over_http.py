"""The gateway's HTTP API in front of a replica that a test already speaks to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from gateway.bootstrap import public_services, serve
from gateway.routes import Router
from tests.integration.orchestrator.client import Client


@asynccontextmanager
async def over_http(client: Client) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of a gateway that calls over the client's own channel."""
    server = serve(Router(public_services()), client.channel, "127.0.0.1:0")
    serving = asyncio.create_task(server.run_to_the_end())
    try:
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as http:
            yield http
    finally:
        await server.stop()
        await serving
