"""How requests reach their methods: read, judged by the contract, in somebody's name; over real gRPC."""

from typing import Any

import grpc
import pytest

from rpc.principal import current_principal
from rpc.problem import Problem
from rpc.server import Limits
from tests.unit.rpc.echo import Echo, EchoItem, EchoRequest, EchoResponse
from tests.unit.rpc.serving import HELLO, LIMIT, collect, refusal, serving

# --- answering ---


async def test_every_shape_of_rpc_is_answered() -> None:
    requests = [EchoRequest(text="a"), EchoRequest(text="b")]
    async with serving(Echo()) as echo:
        assert (await echo.Say(HELLO)).text == "hello"
        assert [answer.number for answer in await collect(echo.Count(HELLO))] == [0, 1, 2]
        assert (await echo.Sum(requests)).text == "a b"
        assert [answer.text for answer in await collect(echo.Chat(requests))] == ["a", "b"]


async def test_coroutine_may_write_its_stream_to_the_context() -> None:
    class Writing(Echo):
        async def Count(self, request: Any, context: Any) -> None:  # type: ignore[override]  # the other style
            await context.write(EchoResponse(text="written"))
            raise Problem(grpc.StatusCode.ABORTED, "STALE", "then refused")

    async with serving(Writing()) as echo:
        answers = aiter(echo.Count(HELLO))
        assert (await anext(answers)).text == "written"
        assert (await refusal(answers)).reason == "STALE"


async def test_request_acts_for_the_development_principal() -> None:
    class Who(Echo):
        async def Say(self, request: Any, context: Any) -> Any:
            return EchoResponse(text=f"{current_principal().tenant}/{current_principal().subject}")

    async with serving(Who()) as echo:
        assert (await echo.Say(HELLO)).text == "default/developer"


# --- reading and validation ---

GARBAGE = {
    "no protobuf": b"\xff\xff\xff",
    "bad UTF-8": b"\x0a\x02\xc3\x28",
    "cut short": b"\x0a\x05ab",
}


def nested(depth: int) -> bytes:
    raw = b""
    for _ in range(depth):
        length, header = len(raw), bytearray(b"\x1a")
        while length > 127:
            header.append(length & 127 | 128)
            length >>= 7
        header.append(length)
        raw = bytes(header) + raw
    return raw


@pytest.mark.parametrize("raw", [*GARBAGE.values(), nested(2000)], ids=[*GARBAGE, "nested too deep"])
async def test_garbage_bytes_are_a_malformed_request_in_every_shape(raw: bytes) -> None:
    async with serving(Echo()) as echo:
        for call in (echo.Say(raw), echo.Count(raw), echo.Sum([raw]), echo.Chat([raw])):
            problem = await refusal(call)
            assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
            assert "not a protobuf message" in problem.message


async def test_broken_constraints_are_reported_by_field() -> None:
    request = EchoRequest(text="x" * 101, items=[EchoItem(name="a"), EchoItem()], nested=EchoRequest())
    async with serving(Echo()) as echo:
        for call in (echo.Say(request), echo.Count(request), echo.Sum([request]), echo.Chat([request])):
            problem = await refusal(call)
            assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
            assert [field for field, _ in problem.fields] == ["text", "items[1].name", "nested.text"]
            assert problem.fields[0].description
            assert "items[1].name" in problem.message


async def test_text_with_nul_is_refused_by_its_field() -> None:
    request = EchoRequest(text="a\0", items=[EchoItem(name="a"), EchoItem(name="\0")], nested=EchoRequest(text="\0"))
    async with serving(Echo()) as echo:
        for call in (echo.Say(request), echo.Count(request)):
            problem = await refusal(call)
            assert (problem.code, problem.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
            assert problem.fields == tuple(
                (field, "must not contain NUL") for field in ("text", "items[1].name", "nested.text")
            )


async def test_text_with_nul_in_a_client_stream_does_not_end_it() -> None:
    async with serving(Echo()) as echo:
        answers = await collect(echo.Chat([EchoRequest(text="a\0"), HELLO]))
    assert [answer.text for answer in answers] == ["a\0", "hello"]


async def test_invalid_message_in_the_middle_of_a_stream_ends_it_after_what_was_answered() -> None:
    async with serving(Echo()) as echo:
        call = echo.Chat()
        answers = aiter(call)
        await call.write(HELLO)
        assert (await anext(answers)).text == "hello"
        await call.write(EchoRequest())
        assert (await refusal(answers)).reason == "INVALID_REQUEST"


async def test_report_of_many_violations_arrives() -> None:
    request = EchoRequest(text="x", items=[EchoItem() for _ in range(2000)])
    async with serving(Echo()) as echo:
        problem = await refusal(echo.Say(request))
    assert problem.fields[0].field == "items[0].name"
    assert problem.fields[-1].description.endswith("more violations")


async def test_list_over_its_limit_is_refused_before_its_elements_are_judged() -> None:
    long = [EchoItem()] * 200_000
    requests = {
        "items": EchoRequest(text="x", items=long),
        "nested.nested.items": EchoRequest(text="x", nested=EchoRequest(nested=EchoRequest(items=long))),
    }
    async with serving(Echo()) as echo:
        for field, request in requests.items():
            problem = await refusal(echo.Say(request, timeout=LIMIT / 5))
            assert problem.reason == "INVALID_REQUEST"
            assert problem.fields == ((field, "must have at most 3000 items"),)


async def test_message_over_the_limit_is_refused_with_the_limit() -> None:
    raw = EchoRequest(text="x" * 2000).SerializeToString()
    async with serving(Echo(), limits=Limits(max_receive_bytes=1024)) as echo:
        for call in (echo.Say(raw), echo.Count(raw), echo.Sum([raw]), echo.Chat([raw])):
            problem = await refusal(call)
            assert (problem.code, problem.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
            assert problem.metadata == {"limit": "request_bytes", "maximum": "1024"}


async def test_message_far_over_the_limit_is_refused_by_the_transport() -> None:
    async with serving(Echo(), limits=Limits(max_receive_bytes=1024)) as echo:
        problem = await refusal(echo.Say(EchoRequest(text="x" * 5000)))
    assert problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED
