"""One trace through the three processes: W3C trace context in gRPC metadata, spans over OTLP when configured.

Every request and every run has a trace id, exporter or not, so that logs and events carry it; without
OTEL_EXPORTER_OTLP_ENDPOINT a span is just its three numbers. Span names and attributes belong to the callers.
"""

import asyncio
import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.util.types import AttributeValue

TRACEPARENT = "traceparent"

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_PARENT = otel_context.Context()

_provider: TracerProvider | None = None
_tracer: Tracer | None = None


def configure(service: str) -> None:
    """Export spans over OTLP if OTEL_EXPORTER_OTLP_ENDPOINT says where to; otherwise change nothing."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return
    # Imported here because these cost a third of a second that most starts do not need.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"assent-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=5)))
    use_provider(provider)


def use_provider(provider: TracerProvider | None) -> None:
    """Record spans with this provider from now on; None records nothing."""
    global _provider, _tracer
    _provider = provider
    _tracer = provider.get_tracer("assent") if provider else None


async def shutdown() -> None:
    """Send what is still buffered; spans that end later are lost."""
    provider = _provider
    use_provider(None)
    if provider is not None:
        await asyncio.to_thread(provider.shutdown)


@contextmanager
def span(
    name: str,
    *,
    traceparent: str = "",
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Iterator[Span]:
    """Run a block in a span: a child of `traceparent` if given, else of the current one, else a new trace."""
    opened = start_span(name, parse_traceparent(traceparent) or current_span_context(), kind, attributes)
    token = otel_context.attach(trace.set_span_in_context(opened))
    try:
        yield opened
    except Exception as error:
        opened.record_exception(error)
        opened.set_status(trace.StatusCode.ERROR, type(error).__name__)
        raise
    finally:
        opened.end()
        otel_context.detach(token)


def start_span(
    name: str,
    parent: SpanContext | None,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> Span:
    """Start a span that its caller ends; it becomes nobody's current span by itself."""
    if _tracer is None:
        trace_id = parent.trace_id if parent else random.getrandbits(128) or 1
        flags = parent.trace_flags if parent else _SAMPLED
        return NonRecordingSpan(SpanContext(trace_id, random.getrandbits(64) or 1, False, flags))
    context = trace.set_span_in_context(NonRecordingSpan(parent), _NO_PARENT) if parent else _NO_PARENT
    return _tracer.start_span(name, context, kind, attributes)


def enter_span(opened: Span) -> None:
    """Make it the current span of this task to its end; for a task that serves one request and no other."""
    otel_context.attach(trace.set_span_in_context(opened))


def follow(traceparent: str) -> None:
    """Be part of the trace that it names, if it names one, to the end of this task."""
    if context := parse_traceparent(traceparent):
        enter_span(NonRecordingSpan(context))


def current_trace_id() -> str:
    """The trace id of what is being done, as 32 hex digits; empty outside any request, run or span."""
    context = current_span_context()
    return f"{context.trace_id:032x}" if context else ""


def current_traceparent() -> str:
    """The current span in W3C form, to be sent along or stored with work that goes on later; or empty."""
    context = current_span_context()
    return format_traceparent(context) if context else ""


def format_traceparent(context: SpanContext) -> str:
    """The W3C `traceparent` of a span."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def parse_traceparent(text: str) -> SpanContext | None:
    """The span that a W3C `traceparent` names; None when it names none, for it comes from strangers."""
    matched = _TRACEPARENT.fullmatch(text)
    if matched is None:
        return None
    version, trace_id, span_id, flags, more = matched.groups()
    if version == "ff" or (version == "00" and more):
        return None
    context = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16) & 1))
    return context if context.is_valid else None


def current_span_context() -> SpanContext | None:
    """The current span's numbers; None outside any."""
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None
