"""`/healthz`, `/readyz` and `/metrics`: what machines ask about this process rather than about the contract."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.errors import JSON, Refusal, answer
from gateway.http import App, Receive, Scope, Send, respond, respond_error
from rpc import metrics
from rpc.health import READY

_READY_SECONDS = 2.0


class Probes:
    """The probes by path; they are never traced, and answer GET and HEAD only."""

    def __init__(self, channel: grpc.aio.Channel, ready_seconds: float = _READY_SECONDS) -> None:
        self._ready_seconds = ready_seconds
        self._check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        self._by_path: dict[bytes, App] = {
            b"/healthz": _healthz,
            b"/readyz": self._readyz,
            b"/metrics": _metrics,
        }

    def find(self, scope: Scope) -> App | None:
        """The probe that a request is for, or None."""
        return self._by_path.get(scope["raw_path"]) if scope["method"] in ("GET", "HEAD") else None

    async def _readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Ready when the orchestrator says that it can write: without that, no command would be accepted."""
        try:
            answered = await self._check(HealthCheckRequest(service=READY), timeout=self._ready_seconds)
        except grpc.aio.AioRpcError:
            await respond_error(send, answer(_not_ready("UPSTREAM_UNAVAILABLE", "the orchestrator does not answer")))
            return
        if answered.status == HealthCheckResponse.SERVING:
            await respond(send, 200, b'{"status":"SERVING"}', JSON)
        else:
            problem = _not_ready("STORAGE_UNAVAILABLE", "the orchestrator cannot write to its database")
            await respond_error(send, answer(problem))


async def _healthz(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, 200, b'{"status":"SERVING"}', JSON)


async def _metrics(_scope: Scope, _receive: Receive, send: Send) -> None:
    await respond(send, 200, metrics.render(), metrics.CONTENT_TYPE.encode())


def _not_ready(reason: str, message: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNAVAILABLE, reason, message, disposition="RETRYABLE", retry_after=1)
