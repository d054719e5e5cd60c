"""The gateway as one ASGI application: observed from outside, guarded, then a probe or the contract."""

import time
from urllib.parse import quote

import grpc
import structlog
from opentelemetry.trace import Span, SpanKind
from prometheus_client import Counter, Histogram
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import ROUTE_KEY, Api
from gateway.errors import answer
from gateway.http import App, ClientGone, Event, Receive, Scope, Send, header, respond_error
from gateway.origins import require_own_origin
from gateway.probes import Probes
from rpc import tracing
from rpc.problem import Problem

HTTP_REQUESTS = Counter(
    "assent_http_requests", "HTTP requests answered, by route and status.", ["method", "route", "status"]
)
HTTP_DURATION = Histogram(
    "assent_http_request_duration_seconds",
    "Time from a request's headers to the end of its answer; for a stream, how long it was open.",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)

# Whatever else a stranger sends must not make new time series.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NO_ROUTE = "none"
_CLIENT_GONE = 499

_log = structlog.get_logger("gateway")


class Gateway:
    """What a request meets: a probe, or the guard and then the contract."""

    def __init__(self, api: Api, probes: Probes) -> None:
        self._api = api
        self._probes = probes
        # Turns a defect of ours into an answer like any other, then raises it on, to be logged by the server.
        self._guarded = ServerErrorMiddleware(self._answer, handler=_internal_error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        probe = self._probes.find(scope)
        if probe is not None:
            await probe(scope, receive, send)
        else:
            await _observed(self._guarded, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            require_own_origin(scope)
            await self._api(scope, receive, send)
        except Problem as problem:
            await respond_error(send, answer(problem))
        except ClientGone:
            return


async def _observed(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a request in a span of the caller's trace, and say afterwards how it went."""
    started = time.perf_counter()
    status = _CLIENT_GONE
    method = scope["method"]
    traceparent = header(scope, b"traceparent")
    with tracing.span(f"HTTP {method}", traceparent=traceparent, kind=SpanKind.SERVER) as span:
        context = span.get_span_context()
        trace_headers = [
            (b"traceparent", tracing.format_traceparent(context).encode()),
            (b"x-trace-id", f"{context.trace_id:032x}".encode()),
        ]

        async def send_traced(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
                event["headers"] = [*event["headers"], (b"x-content-type-options", b"nosniff"), *trace_headers]
            await send(event)

        try:
            await app(scope, receive, send_traced)
        finally:
            _record(scope, span, status, time.perf_counter() - started)


def _record(scope: Scope, span: Span, status: int, seconds: float) -> None:
    method, route = scope["method"], scope.get(ROUTE_KEY, _NO_ROUTE)
    known = method if method in _METHODS else "other"
    HTTP_REQUESTS.labels(known, route, str(status)).inc()
    HTTP_DURATION.labels(known, route).observe(seconds)
    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attribute("http.request.method", method)
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
    path = quote(scope["raw_path"], safe="/:%~")
    _log.info("http_request", method=method, path=path, status=status, seconds=round(seconds, 6))


async def _internal_error(_request: Request, error: Exception) -> Response:
    trace_id = tracing.current_trace_id()
    _log.error("http_failed", exc_info=error)
    problem = Problem(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        "an internal error; the gateway's log has it under this trace id",
        metadata={"trace_id": trace_id},
    )
    told = answer(problem)
    return Response(told.body, told.http_status, media_type="application/json")
