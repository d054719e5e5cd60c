from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from tests.integration.gateway.stack import Context, Stack
from tests.unit.gateway.notes import message


async def test_alive_without_an_orchestrator_but_not_ready(own_notes: Stack) -> None:
    await own_notes.grpc_server.stop(None)
    assert (await own_notes.http.get("/healthz")).status_code == 200
    response = await own_notes.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["details"][0]["reason"] == "UPSTREAM_UNAVAILABLE"
    assert response.json()["code"] == grpc.StatusCode.UNAVAILABLE.value[0]


async def test_ready_when_the_orchestrator_can_write(notes: Stack) -> None:
    response = await notes.http.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "SERVING"})
    assert notes.fake.health_checks == ["ready"]
    assert (await notes.http.head("/readyz")).status_code == 200


async def test_not_ready_when_it_cannot(notes: Stack) -> None:
    notes.fake.ready = HealthCheckResponse.NOT_SERVING
    response = await notes.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["details"][0]["reason"] == "STORAGE_UNAVAILABLE"
    assert response.headers["retry-after"] == "1"


async def test_metrics_count_requests_by_route_and_not_by_path(notes: Stack) -> None:
    async def one(request: Any, _context: Context) -> Any:
        return message("NoteResponse")

    notes.fake.unary["GetNote"] = one
    await notes.http.get("/v1/notes/secret-id")
    await notes.http.request("BREW", "/nowhere")
    response = await notes.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'assent_http_requests_total{method="GET",route="/v1/notes/{note_id}",status="200"}' in response.text
    assert 'assent_http_requests_total{method="other",route="none",status="404"}' in response.text
    assert "secret-id" not in response.text
