"""One served RPC as seen from outside: its span, its count, its time, whatever way it ends."""

import time

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from rpc import metrics, tracing
from rpc.method import Method
from rpc.principal import Metadata


class Observer:
    """Observes the calls of one RPC; holds its metrics ready, since looking them up by label costs more."""

    def __init__(self, method: Method) -> None:
        self.name = method.path.removeprefix("/")
        self.attributes = {"rpc.system": "grpc", "rpc.service": method.service, "rpc.method": method.name}
        self.active = metrics.RPC_ACTIVE.labels(self.name)
        self.duration = metrics.RPC_DURATION.labels(self.name)
        self.requests = {code: metrics.RPC_REQUESTS.labels(self.name, code.name) for code in grpc.StatusCode}

    def begin(self, metadata: Metadata) -> "ObservedCall":
        """Begin a call: its span continues the caller's trace and becomes this task's current one."""
        return ObservedCall(self, _parent(metadata))


class ObservedCall:
    """A call being served, until it is told its status."""

    __slots__ = ("_observer", "_span", "_started")

    def __init__(self, observer: Observer, parent: trace.SpanContext | None) -> None:
        self._observer = observer
        self._started = time.perf_counter()
        self._span: Span = tracing.start_span(observer.name, parent, SpanKind.SERVER, observer.attributes)
        tracing.enter_span(self._span)
        observer.active.inc()

    def end(self, code: grpc.StatusCode) -> None:
        """The call has its status."""
        observer = self._observer
        observer.active.dec()
        observer.requests[code].inc()
        observer.duration.observe(time.perf_counter() - self._started)
        if self._span.is_recording():
            self._span.set_attribute("rpc.grpc.status_code", code.value[0])
            if code is not grpc.StatusCode.OK:
                self._span.set_status(trace.StatusCode.ERROR, code.name)
        self._span.end()


def _parent(metadata: Metadata) -> trace.SpanContext | None:
    for key, value in metadata:
        if key == tracing.TRACEPARENT and isinstance(value, str):
            return tracing.parse_traceparent(value)
    return None
