"""Trace ids exist with and without an exporter, and continue from what strangers send."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rpc import tracing

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_provider(provider)
    yield exporter
    tracing.use_provider(None)


def test_outside_any_span_there_is_no_trace() -> None:
    assert tracing.current_trace_id() == ""
    assert tracing.current_traceparent() == ""


def test_span_without_exporter_has_a_trace_id_and_its_children_share_it() -> None:
    with tracing.span("outer"):
        outer, outer_parent = tracing.current_trace_id(), tracing.current_traceparent()
        with tracing.span("inner"):
            assert tracing.current_trace_id() == outer
            assert tracing.current_traceparent() != outer_parent
    assert len(outer) == 32
    assert tracing.current_trace_id() == ""


def test_span_continues_the_trace_it_is_given() -> None:
    with tracing.span("run", traceparent=TRACEPARENT):
        assert tracing.current_trace_id() == "0af7651916cd43dd8448eb211c80319c"


def test_stored_traceparent_continues_later_in_exported_spans(exported: InMemorySpanExporter) -> None:
    with tracing.span("request"):
        stored = tracing.current_traceparent()
    with pytest.raises(ZeroDivisionError), tracing.span("run", traceparent=stored):
        _ = 1 / 0
    request, run = exported.get_finished_spans()
    assert run.context.trace_id == request.context.trace_id
    assert run.parent is not None
    assert run.parent.span_id == request.context.span_id
    assert run.status.description == "ZeroDivisionError"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra",
        "00-0af7651916cd43dd8448eb211c8031 c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319z-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ],
)
def test_malformed_traceparent_is_no_parent(text: str) -> None:
    assert tracing.parse_traceparent(text) is None


def test_later_versions_of_traceparent_are_read_by_their_first_fields() -> None:
    parsed = tracing.parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-later")
    assert parsed is not None
    assert tracing.format_traceparent(parsed) == TRACEPARENT


def test_spans_go_nowhere_without_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    tracing.configure("orchestrator")
    with tracing.span("request") as span:
        assert not span.is_recording()
