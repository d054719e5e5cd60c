"""What is counted and timed in every process, and the port where Prometheus reads it.

Metrics of one process alone are declared where they are used; those shared, or promised by name, are here.
"""

import threading
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)

from rpc.addresses import BadAddress, parse_address, require_loopback

CONTENT_TYPE = CONTENT_TYPE_LATEST

RPC_REQUESTS = Counter("assent_rpc_server_requests", "RPCs answered, by method and gRPC code.", ["method", "code"])
RPC_DURATION = Histogram(
    "assent_rpc_server_duration_seconds",
    "Time from an RPC's arrival to its status; for a stream, how long it was open.",
    ["method"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)
RPC_ACTIVE = Gauge("assent_rpc_server_active", "RPCs being served now.", ["method"])
TRANSACTION_DURATION = Histogram(
    "assent_transaction_duration_seconds",
    "Time a database transaction was open, by operation. None should pass 100 ms.",
    ["operation"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)


def render() -> bytes:
    """Every metric of this process in Prometheus' text format, whose media type is CONTENT_TYPE."""
    return generate_latest(REGISTRY)


class MetricsServer:
    """`/metrics` over HTTP on an address of its own; an empty address turns it off."""

    def __init__(self, address: str, *, loopback_only: bool = True) -> None:
        self.port = 0
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None
        if address:
            where = parse_address(address)
            if loopback_only:
                require_loopback(where, "the metrics server")
            try:
                self._server, self._thread = start_http_server(where.port, where.host)
            except OSError as error:
                raise BadAddress(f"the metrics server cannot listen on {where}: is it in use?") from error
            self.port = self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
