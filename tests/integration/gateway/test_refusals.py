"""What the services refuse to read, as a caller over HTTP sees it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from gateway.bootstrap import public_services, serve
from gateway.routes import Router
from gen.assent.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc
from rpc.channel import connect
from rpc.principal import current_principal
from rpc.server import Server, Service

JSON = {"content-type": "application/json"}


class Sessions(session_service_pb2_grpc.SessionServiceServicer):
    """Creates whatever it is asked to."""

    async def CreateSession(self, request: Any, context: Any) -> Any:
        return session_service_pb2.CreateSessionResponse(session=session_pb2.Session(title=request.title))


@asynccontextmanager
async def served(sessions: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway before a server with this servicer."""
    add = session_service_pb2_grpc.add_SessionServiceServicer_to_server
    grpc_server = Server("orchestrator", "127.0.0.1:0", [Service("assent.v1.SessionService", sessions, add)])
    async with connect(f"127.0.0.1:{await grpc_server.start()}") as channel:
        server = serve(Router(public_services()), channel, "127.0.0.1:0")
        serving = asyncio.create_task(server.run_to_the_end())
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
                yield http
        finally:
            await server.stop()
            await serving
    await grpc_server.stop()


async def test_a_text_with_nul_is_refused_by_its_field() -> None:
    sessions: Any = Sessions  # it leaves out the other methods
    async with served(sessions()) as http:
        accepted = await http.post("/v1/sessions", json={"title": "ab"})
        response = await http.post("/v1/sessions", content=b'{"title": "a\\u0000b"}', headers=JSON)
    assert accepted.status_code == 200
    said = response.json()
    assert (response.status_code, said["details"][0]["reason"]) == (400, "INVALID_REQUEST")
    assert said["details"][1]["fieldViolations"] == [{"field": "title", "description": "must not contain NUL"}]


class Names(session_service_pb2_grpc.SessionServiceServicer):
    """Answers who asks, as the services know it."""

    async def CreateSession(self, request: Any, context: Any) -> Any:
        who = current_principal()
        said = ",".join(sorted(who.roles))
        return session_service_pb2.CreateSessionResponse(session=session_pb2.Session(creator=who.subject, title=said))


async def test_who_asks_over_http_is_known_to_the_services_and_a_bad_name_is_refused() -> None:
    names: Any = Names
    async with served(names()) as http:
        ann = await http.post("/v1/sessions", json={}, headers={"Assent-Subject": "ann", "Assent-Roles": "owner,lead"})
        nobody = await http.post("/v1/sessions", json={})
        bad = [
            await http.post("/v1/sessions", json={}, headers=headers)
            for headers in (
                [("Assent-Subject", "engine")],
                [("Assent-Subject", "")],
                [("Assent-Subject", "ann"), ("Assent-Subject", "boris")],
                [("Assent-Roles", "a b")],
            )
        ]
    assert (ann.json()["creator"], ann.json()["title"]) == ("ann", "lead,owner")
    assert (nobody.json()["creator"], nobody.json()["title"]) == ("developer", "*")
    for response in bad:
        said = response.json()
        assert (response.status_code, said["details"][0]["reason"]) == (400, "INVALID_REQUEST")
        assert said["details"][1]["fieldViolations"][0]["field"] in ("assent-subject", "assent-roles")
