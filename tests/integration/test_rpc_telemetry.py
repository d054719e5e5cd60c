"""What a call leaves behind: its trace and its counts, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from rpc import tracing
from rpc.problem import Problem
from tests.unit.rpc.echo import (
    ECHO,
    Echo,
    EchoResponse,
)
from tests.unit.rpc.serving import (
    HELLO,
    LIMIT,
    TRACEPARENT,
    Failing,
    collect,
    counted,
    refusal,
    serving,
)


class Tracing(Echo):
    """Answers with the trace it is in."""

    async def Say(self, request: Any, context: Any) -> Any:
        return EchoResponse(text=tracing.current_traceparent())

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield EchoResponse(text=tracing.current_traceparent())

    async def Chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for _ in requests:
            yield EchoResponse(text=tracing.current_traceparent())


async def test_trace_of_the_caller_continues_in_the_handler_without_an_exporter() -> None:
    async with serving(Tracing()) as echo:
        with tracing.span("caller", traceparent=TRACEPARENT):
            answers = [await echo.Say(HELLO)]
            answers += await collect(echo.Count(HELLO)) + await collect(echo.Chat([HELLO, HELLO]))
    assert {answer.text.split("-")[1] for answer in answers} == {TRACEPARENT.split("-")[1]}
    spans = [answer.text.split("-")[2] for answer in answers]
    assert spans[2] == spans[3]
    assert len({TRACEPARENT.split("-")[2], *spans}) == 4


async def test_call_without_a_trace_begins_one() -> None:
    async with serving(Tracing()) as echo:
        first, second = (await echo.Say(HELLO)).text, (await echo.Say(HELLO)).text
    assert tracing.parse_traceparent(first) is not None
    assert first.split("-")[1] != second.split("-")[1]


async def test_exported_spans_link_caller_client_and_server() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use_provider(provider)
    try:
        async with serving(Failing(Problem(grpc.StatusCode.NOT_FOUND, "X", "x"))) as echo:
            with tracing.span("caller"):
                await refusal(echo.Say(HELLO))
    finally:
        await tracing.shutdown()
    spans = {span.kind.name: span for span in exporter.get_finished_spans()}
    caller, client, server = spans["INTERNAL"], spans["CLIENT"], spans["SERVER"]
    assert server.parent is not None
    assert client.parent is not None
    assert server.parent.span_id == client.context.span_id
    assert client.parent.span_id == caller.context.span_id
    assert server.context.trace_id == caller.context.trace_id
    assert (server.name, server.status.description) == (f"{ECHO}/Say", "NOT_FOUND")
    assert dict(server.attributes or {})["rpc.grpc.status_code"] == 5


async def test_spans_reach_a_collector_when_an_endpoint_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    collected: list[Any] = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:
            collected.extend(request.resource_spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    collector = grpc.aio.server()
    register: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(Collector(), collector)
    port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    tracing.configure("orchestrator")
    with tracing.span("plan"):
        trace_id = tracing.current_trace_id()
    await asyncio.wait_for(tracing.shutdown(), LIMIT)
    await collector.stop(None)
    (resource,) = collected
    (span,) = resource.scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("plan", trace_id)
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert named["service.name"] == "assent-orchestrator"


async def test_calls_are_counted_by_method_and_code_and_timed() -> None:
    def timed() -> float:
        labels = {"method": f"{ECHO}/Say"}
        return REGISTRY.get_sample_value("assent_rpc_server_duration_seconds_count", labels) or 0

    good, bad, times = counted("Say", "OK"), counted("Say", "INVALID_ARGUMENT"), timed()
    streams, internal = counted("Count", "OK"), counted("Count", "INTERNAL")
    async with serving(Echo()) as echo:
        await echo.Say(HELLO)
        await refusal(echo.Say(b"\xff"))
        await collect(echo.Count(HELLO))
    async with serving(Failing(KeyError())) as echo:
        await refusal(echo.Count(HELLO))
    assert counted("Say", "OK") == good + 1
    assert counted("Say", "INVALID_ARGUMENT") == bad + 1
    assert timed() == times + 2
    assert counted("Count", "OK") == streams + 1
    assert counted("Count", "INTERNAL") == internal + 1
    assert REGISTRY.get_sample_value("assent_rpc_server_active", {"method": f"{ECHO}/Say"}) == 0
