"""How calls end that do not end well, over real gRPC."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from structlog.testing import capture_logs

from rpc import tracing
from rpc.problem import Problem
from rpc.server import Server
from tests.unit.rpc.echo import (
    Echo,
    EchoResponse,
)
from tests.unit.rpc.serving import (
    HELLO,
    LIMIT,
    TRACEPARENT,
    Endless,
    Failing,
    counted,
    counts,
    refusal,
    running,
    server_of,
    serving,
)

# --- errors ---


async def test_text_of_an_unknown_exception_stays_in_the_log() -> None:
    error = RuntimeError("could not connect with password s3cret")
    with capture_logs() as logs:
        async with serving(Failing(error)) as echo:
            for call in (echo.Say(HELLO), echo.Count(HELLO), echo.Sum([HELLO]), echo.Chat([HELLO])):
                problem = await refusal(call)
                assert (problem.code, problem.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
                assert "s3cret" not in str(vars(problem))
    failures = [line for line in logs if line["event"] == "rpc_failed"]
    assert {line["rpc"].rpartition("/")[2] for line in failures} == {"Say", "Count", "Sum", "Chat"}
    assert all(line["exc_info"] is error and line["log_level"] == "error" for line in failures)


async def test_internal_error_names_the_trace_it_is_logged_under() -> None:
    async with serving(Failing(KeyError("x"))) as echo:
        with tracing.span("caller", traceparent=TRACEPARENT):
            problem = await refusal(echo.Say(HELLO))
    assert problem.metadata == {"trace_id": TRACEPARENT.split("-")[1]}


async def test_streaming_error_after_the_first_message_has_its_details() -> None:
    problem = Problem(grpc.StatusCode.ABORTED, "STALE", "too slow", metadata={"resume_after": "17"})
    async with serving(Failing(problem)) as echo:
        for answers in (aiter(echo.Count(HELLO)), aiter(echo.Chat([HELLO]))):
            assert (await anext(answers)).text == "first"
            assert (await refusal(answers)).metadata == {"resume_after": "17"}


async def test_domain_errors_become_problems_by_the_process_own_table() -> None:
    class NotThere(Exception):
        pass

    def translate(error: BaseException) -> Problem | None:
        if isinstance(error, NotThere):
            return Problem(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", f"no session {error}")
        return None

    async with serving(Failing(NotThere("s1")), translate=translate) as echo:
        assert (await refusal(echo.Say(HELLO))).message == "no session s1"
    async with serving(Failing(ExceptionGroup("tasks", [NotThere("s2")])), translate=translate) as echo:
        assert (await refusal(echo.Count(HELLO))).reason == "SESSION_NOT_FOUND"
    async with serving(Failing(ValueError()), translate=translate) as echo:
        assert (await refusal(echo.Say(HELLO))).reason == "INTERNAL"


async def test_status_that_a_method_sent_itself_stands_and_is_no_failure_of_ours() -> None:
    class Aborting(Echo):
        async def Say(self, request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.DATA_LOSS, "by hand")

    before = counted("Say", "DATA_LOSS")
    with capture_logs() as logs:
        async with serving(Aborting()) as echo:
            assert (await refusal(echo.Say(HELLO))).message == "by hand"
    assert "rpc_failed" not in [line["event"] for line in logs]
    await counts("Say", "DATA_LOSS", before + 1)


async def test_text_of_a_misuse_of_grpc_stays_here_too() -> None:
    async with serving(Failing(grpc.aio.UsageError("channel to s3cret is closed"))) as echo:
        assert "s3cret" not in (await refusal(echo.Say(HELLO))).message


async def test_response_that_cannot_be_encoded_is_an_internal_error() -> None:
    class Wrong(Echo):
        async def Say(self, request: Any, context: Any) -> Any:
            return "s3cret"

        async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield "s3cret"

    async with serving(Wrong()) as echo:
        for call in (echo.Say(HELLO), echo.Count(HELLO)):
            problem = await refusal(call)
            assert (problem.reason, "s3cret" in problem.message) == ("INTERNAL", False)


async def test_unknown_path_is_unimplemented_without_waiting_for_a_request() -> None:
    server = server_of(Echo())
    async with running(server) as connection:
        for call in (connection.unary_unary("/assent.test.Nobody/Say")(b""), connection.stream_stream("/x/Y")()):
            problem = await refusal(call)
            assert (problem.code, problem.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("kind", ["Session", "Plan", "Run", "Approval", "Catalog", "Usage"])
async def test_method_its_servicer_does_not_define_is_unimplemented_with_a_reason(kind: str) -> None:
    name = f"assent.v1.{kind}Service"
    generated = importlib.import_module(f"gen.assent.v1.{kind.lower()}_service_pb2_grpc")
    servicer = getattr(generated, f"{kind}ServiceServicer")()
    register = getattr(generated, f"add_{kind}ServiceServicer_to_server")
    async with running(Server("all", "127.0.0.1:0", [(name, servicer, register)])) as connection:
        for method in descriptor_pool.Default().FindServiceByName(name).methods:
            path = f"/{name}/{method.name}"
            problem = await refusal(unary_or_stream(connection, method)(path)(b""))
            assert (problem.code, problem.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
            assert problem.metadata == {"method": path}


def unary_or_stream(connection: Any, method: Any) -> Any:
    return connection.unary_stream if method.server_streaming else connection.unary_unary


# --- cancellation and deadlines ---


async def test_client_that_goes_away_cancels_the_handler_at_once() -> None:
    endless = Endless()
    before = counted("Count", "CANCELLED")
    async with serving(endless) as echo:
        call = echo.Count(HELLO)
        await call.read()
        call.cancel()
        assert await asyncio.wait_for(endless.ended, LIMIT) == "cancelled"
    await counts("Count", "CANCELLED", before + 1)


async def test_client_that_goes_away_closes_a_bidirectional_handler() -> None:
    endless = Endless()
    async with serving(endless) as echo:
        call = echo.Chat()
        await call.write(HELLO)
        await call.read()
        call.cancel()
        assert await asyncio.wait_for(endless.ended, LIMIT) == "closed"


async def test_generator_that_waits_for_a_slow_client_ends_within_its_own_call() -> None:
    class Flooding(Echo):
        def __init__(self) -> None:
            self.ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
            own_task = asyncio.current_task()
            try:
                while True:
                    yield EchoResponse(text="x" * 100_000)
            finally:
                self.ended.set_result(asyncio.current_task() is own_task)

    flooding = Flooding()
    async with serving(flooding) as echo:
        call = echo.Count(HELLO)
        await call.read()
        call.cancel()
        assert await asyncio.wait_for(flooding.ended, LIMIT)


async def test_passed_deadline_cancels_the_handler() -> None:
    endless = Endless()
    async with serving(endless) as echo:
        assert (await refusal(echo.Count(HELLO, timeout=0.1))).code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await asyncio.wait_for(endless.ended, LIMIT) == "cancelled"


async def test_inner_cancellation_that_escapes_is_an_error_and_no_silence() -> None:
    async with serving(Failing(asyncio.CancelledError())) as echo:
        for call in (echo.Say(HELLO), echo.Count(HELLO)):
            assert (await refusal(call)).reason == "INTERNAL"
