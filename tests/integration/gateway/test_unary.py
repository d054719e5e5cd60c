import asyncio
import json
import time
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from gateway.api import Limits
from rpc.problem import Problem
from tests.integration.gateway.stack import Context, Stack, abort, fake_server, stack
from tests.unit.gateway.notes import message, note_service


async def echo(request: Any, _context: Context) -> Any:
    return message("NoteResponse", note=request)


async def one(request: Any, _context: Context) -> Any:
    return message("NoteResponse", note=message("Note", id=request.note_id, text="й"))


def reason(response: httpx.Response) -> str:
    body = response.json()
    assert response.headers["content-type"] == "application/json"
    assert body["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert body["details"][0]["domain"] == "assent"
    return str(body["details"][0]["reason"])


def fields(response: httpx.Response) -> list[str]:
    (bad,) = [detail for detail in response.json()["details"] if detail["@type"].endswith("BadRequest")]
    return [violation["field"] for violation in bad["fieldViolations"]]


async def test_a_resource_is_answered_as_itself(notes: Stack) -> None:
    notes.fake.unary["GetNote"] = one
    response = await notes.http.get("/v1/notes/a%2Fb%20%D0%B9")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["id"] == "a/b й"
    assert response.json()["text"] == "й"


async def test_the_bytes_of_arguments_survive_a_round_trip(notes: Stack) -> None:
    notes.fake.unary["CreateNote"] = echo
    arguments = '{"id": 1234567890123456789}'
    response = await notes.http.post("/v1/notes", json={"argumentsJson": arguments, "size": 1234567890123456789})
    assert response.json()["argumentsJson"] == arguments
    assert response.json()["size"] == "1234567890123456789"
    assert notes.fake.requests[0].arguments_json == arguments


async def test_a_body_may_come_in_pieces(notes: Stack) -> None:
    notes.fake.unary["CreateNote"] = echo

    async def pieces() -> Any:
        for byte in b'{"text": "\xd0\xb9"}':
            yield bytes([byte])

    response = await notes.http.post("/v1/notes", content=pieces(), headers={"content-type": "application/json"})
    assert response.json()["text"] == "й"


async def test_a_command_without_a_body_needs_no_content_type(notes: Stack) -> None:
    notes.fake.unary["ReviseNote"] = echo
    assert (await notes.http.post("/v1/notes/7:revise")).json()["id"] == "7"


async def test_head_answers_what_get_would_without_the_body(notes: Stack) -> None:
    notes.fake.unary["GetNote"] = one
    head, get = await notes.http.head("/v1/notes/7"), await notes.http.get("/v1/notes/7")
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["content-length"] == str(len(get.content))


async def test_options_says_what_a_path_takes_and_nothing_to_other_origins(notes: Stack) -> None:
    response = await notes.http.options("/v1/notes/7")
    assert (response.status_code, response.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PUT")
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert (await notes.http.options("/v1/nothing")).status_code == 404


async def test_raw_bytes_are_answered_as_they_are_and_cannot_act_as_a_page(notes: Stack) -> None:
    async def raw(request: Any, _context: Context) -> Any:
        return message("NoteContent", content=HttpBody(content_type="text/html", data=b"\x00<script>"))

    notes.fake.unary["ReadNote"] = raw
    response = await notes.http.get("/v1/notes/7/raw")
    assert (response.headers["content-type"], response.content) == ("text/html", b"\x00<script>")
    assert response.headers["content-security-policy"].startswith("sandbox")
    assert response.headers["x-content-type-options"] == "nosniff"


CASES: list[tuple[str, dict[str, Any], int, str, list[str]]] = [
    ("GET /v1/sessions", {}, 404, "ROUTE_NOT_FOUND", []),
    ("GET /v1/notes/", {}, 404, "ROUTE_NOT_FOUND", []),
    ("GET /", {}, 404, "ROUTE_NOT_FOUND", []),
    ("GET /healthz/", {}, 404, "ROUTE_NOT_FOUND", []),
    ("POST /healthz", {}, 404, "ROUTE_NOT_FOUND", []),
    ("PATCH /v1/notes/7", {}, 405, "METHOD_NOT_ALLOWED", []),
    ("GET /v1/notes/%ff", {}, 400, "MALFORMED_REQUEST", []),
    ("GET /v1/notes?nope=1", {}, 400, "INVALID_REQUEST", ["nope"]),
    ("GET /v1/notes?pageSize=x", {}, 400, "INVALID_REQUEST", ["page_size"]),
    ("POST /v1/notes", {"json": {"nope": 1}}, 400, "INVALID_REQUEST", ["nope"]),
    ("POST /v1/notes", {"json": {"text": 1}}, 400, "INVALID_REQUEST", ["text"]),
    ("POST /v1/notes", {"json": {"place": {"city": []}}}, 400, "INVALID_REQUEST", ["place.city"]),
    ("POST /v1/notes", {"content": b"{", "type": "application/json"}, 400, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"content": b'{"a":1,"a":1}', "type": "application/json"}, 400, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"content": b"\xff", "type": "application/json"}, 400, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"content": b"[" * 9000, "type": "application/json"}, 400, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"content": b"{}", "type": "text/plain"}, 415, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"content": b"{}", "type": "application/json; charset=cp1251"}, 415, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"content": b"{}"}, 415, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"data": {"text": "a"}}, 415, "MALFORMED_REQUEST", []),
    ("POST /v1/notes", {"json": {"text": "x" * 10_000}}, 413, "LIMIT_EXCEEDED", []),
    ("DELETE /v1/notes/7", {"content": b"{}", "type": "application/json"}, 400, "MALFORMED_REQUEST", []),
    ("GET /v1/notes/7:watch", {"headers": {"last-event-id": "x"}}, 400, "INVALID_REQUEST", ["Last-Event-ID"]),
    ("GET /v1/notes/7", {"headers": {"origin": "https://evil.example"}}, 403, "PERMISSION_DENIED", []),
    ("GET /v1/notes/7", {"headers": {"host": "evil.example"}}, 403, "PERMISSION_DENIED", []),
]


@pytest.mark.parametrize(("request_line", "sent", "status", "why", "named"), CASES)
async def test_what_cannot_be_accepted_is_refused_before_any_rpc(
    notes: Stack, request_line: str, sent: dict[str, Any], status: int, why: str, named: list[str]
) -> None:
    method, path = request_line.split(" ")
    extra = dict(sent)
    headers = {**extra.pop("headers", {}), **({"content-type": extra.pop("type")} if "type" in extra else {})}
    response = await notes.http.request(method, path, headers=headers, **extra)
    assert (response.status_code, reason(response)) == (status, why)
    assert not named or fields(response) == named
    assert notes.fake.requests == []


async def test_a_wrong_method_says_what_is_allowed(notes: Stack) -> None:
    response = await notes.http.patch("/v1/notes/7")
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"


async def test_a_body_far_over_the_limit_is_refused_while_it_is_still_being_sent(notes: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port)
    writer.write(b"POST /v1/notes HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: 1000000000\r\n\r\n" + b" " * 100_000)
    status = await asyncio.wait_for(reader.readline(), 5)
    assert status.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_client_that_asks_first_is_refused_before_it_sends_anything(notes: Stack) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", notes.server.port)
    writer.write(b"POST /v1/notes HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: 1000000000\r\nexpect: 100-continue\r\n\r\n")
    status = await asyncio.wait_for(reader.readline(), 5)
    assert status.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_a_body_that_does_not_arrive_is_not_waited_for_for_ever() -> None:
    async with stack([note_service()], limits=Limits(body_seconds=0.1)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.server.port)
        writer.write(b"POST /v1/notes HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{")
        status = await asyncio.wait_for(reader.readline(), 5)
        assert status.startswith(b"HTTP/1.1 408 ")
        writer.close()


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_a_service_s_refusal_arrives_whole(notes: Stack, code: grpc.StatusCode) -> None:
    problem = Problem(
        code, "WRONG_STATE", "не сейчас", metadata={"state": "CLOSED"}, fields=[("a.b", "c")], retry_after=1.5
    )

    async def refuse(_request: Any, context: Context) -> None:
        await abort(context, problem)

    notes.fake.unary["GetNote"] = refuse
    response = await notes.http.get("/v1/notes/7")
    body = response.json()
    assert (body["code"], body["message"]) == (code.value[0], "не сейчас")
    assert body["details"][0]["metadata"] == {"state": "CLOSED", "disposition": "FATAL"}
    assert fields(response) == ["a.b"]
    assert response.headers["retry-after"] == "2"


async def test_a_service_that_breaks_says_nothing_of_its_inside(notes: Stack) -> None:
    async def broken(_request: Any, _context: Context) -> None:
        raise RuntimeError("the password is hunter2")

    notes.fake.unary["GetNote"] = broken
    response = await notes.http.get("/v1/notes/7")
    assert (response.status_code, reason(response)) == (500, "INTERNAL")
    assert "hunter2" not in response.text


async def test_an_orchestrator_that_is_down_is_a_503_that_names_no_address(own_notes: Stack) -> None:
    await own_notes.grpc_server.stop(None)
    response = await own_notes.http.get("/v1/notes/7")
    assert (response.status_code, reason(response)) == (503, "UPSTREAM_UNAVAILABLE")
    assert response.headers["retry-after"] == "1"
    assert "127.0.0.1" not in response.text


async def test_an_orchestrator_that_comes_back_is_found_again(own_notes: Stack) -> None:
    await own_notes.grpc_server.stop(None)
    assert (await own_notes.http.get("/v1/notes/7")).status_code == 503
    async with fake_server(own_notes.fake, [note_service()], own_notes.grpc_port):
        own_notes.fake.unary["GetNote"] = one
        async with asyncio.timeout(10):
            while (await own_notes.http.get("/v1/notes/7")).status_code != 200:
                pass


async def test_a_call_without_an_answer_ends_in_time() -> None:
    cancelled = asyncio.Event()

    async def hang(_request: Any, _context: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with stack([note_service()], limits=Limits(unary_seconds=0.1)) as running:
        running.fake.unary["GetNote"] = hang
        response = await running.http.get("/v1/notes/7")
        assert (response.status_code, reason(response)) == (504, "DEADLINE_EXCEEDED")
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_trace_goes_through_and_the_caller_learns_it(notes: Stack) -> None:
    notes.fake.unary["GetNote"] = one
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = f"00-{trace_id}-00f067aa0ba902b7-01"
    response = await notes.http.get("/v1/notes/7", headers={"traceparent": parent})
    carried = notes.fake.metadata[0]["traceparent"]
    assert carried.split("-")[1] == trace_id
    assert carried != parent
    assert response.headers["x-trace-id"] == trace_id
    assert response.headers["traceparent"].split("-")[1] == trace_id


@pytest.mark.parametrize("parent", [None, "rubbish", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"])
async def test_a_request_without_a_trace_gets_one(notes: Stack, parent: str | None) -> None:
    notes.fake.unary["GetNote"] = one
    response = await notes.http.get("/v1/notes/7", headers={"traceparent": parent} if parent else {})
    trace_id = response.headers["x-trace-id"]
    assert len(trace_id) == 32
    assert int(trace_id, 16)
    assert notes.fake.metadata[0]["traceparent"].split("-")[1] == trace_id


async def test_errors_have_a_trace_too(notes: Stack) -> None:
    assert (await notes.http.get("/nowhere")).headers["x-trace-id"]


async def test_the_caller_s_credentials_are_passed_on_and_nothing_else_is(notes: Stack) -> None:
    notes.fake.unary["GetNote"] = one
    passed_on = {"authorization": "Bearer x.y", "assent-subject": "ann lee", "assent-roles": "lead,owner"}
    await notes.http.get("/v1/notes/7", headers={**passed_on, "cookie": "a=b", "x-other": "c"})
    metadata = notes.fake.metadata[0]
    assert passed_on.items() <= metadata.items()
    assert not {"cookie", "x-other"} & set(metadata)


async def test_a_defect_of_the_gateway_is_an_answer_without_its_text(
    notes: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr("gateway.api.request_message", broken)
    response = await notes.http.get("/v1/notes/7")
    assert (response.status_code, reason(response)) == (500, "INTERNAL")
    assert "hunter2" not in response.text
    assert response.json()["details"][0]["metadata"]["trace_id"] == response.headers["x-trace-id"]


async def test_many_requests_share_one_connection(notes: Stack) -> None:
    notes.fake.unary["GetNote"] = one
    answers = await asyncio.gather(*(notes.http.get(f"/v1/notes/{number}") for number in range(50)))
    assert [json.loads(answer.content)["id"] for answer in answers] == [str(number) for number in range(50)]


@pytest.mark.parametrize("name", [b"authorization", b"Assent-Subject", b"Assent-Roles"])
@pytest.mark.parametrize("value", [b"Bearer \xff", "änn".encode()])
async def test_credentials_that_no_token_can_have_are_refused_as_such(notes: Stack, name: bytes, value: bytes) -> None:
    response = await notes.http.get("/v1/notes/7", headers=[(name, value)])
    assert (response.status_code, reason(response)) == (401, "UNAUTHENTICATED")
    assert response.headers["www-authenticate"] == "Bearer"
    assert notes.fake.requests == []


async def test_answers_do_not_wait_for_acknowledgements(notes: Stack) -> None:
    """With Nagle's algorithm left on, nearly every answer on a warm connection takes 40 ms."""
    notes.fake.unary["GetNote"] = one
    times = []
    for _ in range(100):
        started = time.perf_counter()
        await notes.http.get("/v1/notes/7")
        times.append(time.perf_counter() - started)
    assert sorted(times)[25] < 0.03
