"""What the services refuse to read, as a caller over HTTP sees it."""

import asyncio
from typing import Any

import httpx

from gateway.bootstrap import public_services, serve
from gateway.routes import Router
from gen.assent.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from rpc.channel import connect
from rpc.server import Server, Service

JSON = {"content-type": "application/json"}


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    """Creates whatever it is asked to."""

    async def CreateSession(self, request: Any, context: Any) -> Any:
        return session_service_pb2.CreateSessionResponse(session=session_pb2.Session(title=request.title))


async def test_a_text_with_nul_is_refused_by_its_field() -> None:
    add = session_service_pb2_grpc.add_SessionServiceServicer_to_server
    sessions: Any = Sessions  # it leaves out the other methods
    services = [Service("assent.v1.SessionService", sessions(), add)]
    grpc_server = Server("orchestrator", "127.0.0.1:0", services)
    async with connect(f"127.0.0.1:{await grpc_server.start()}") as channel:
        server = serve(Router(public_services()), channel, "127.0.0.1:0")
        serving = asyncio.create_task(server.run_to_the_end())
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
                accepted = await http.post("/v1/sessions", json={"title": "ab"})
                response = await http.post("/v1/sessions", content=b'{"title": "a\\u0000b"}', headers=JSON)
        finally:
            await server.stop()
            await serving
    await grpc_server.stop()
    assert accepted.status_code == 200
    said = response.json()
    assert (response.status_code, said["details"][0]["reason"]) == (400, "INVALID_REQUEST")
    assert said["details"][1]["fieldViolations"] == [{"field": "title", "description": "must not contain NUL"}]
