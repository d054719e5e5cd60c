"""Raw bytes over HTTP: the whole file however many answers it takes, one range of it, or nothing new."""

import hashlib
from typing import Any

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from rpc.problem import Problem
from tests.integration.gateway.stack import Context, Stack, abort
from tests.unit.gateway.notes import message

DATA = bytes(range(250)) * 10
MOST = 1000  # in one answer
ETAG = f'"{hashlib.sha256(DATA).hexdigest()}"'


@pytest.fixture
def file(notes: Stack) -> Stack:
    async def read(request: Any, _context: Context) -> Any:
        length = min(request.length or MOST, MOST)
        about: Any = message("File", sha256=ETAG.strip('"'), size_bytes=len(DATA))
        about.name = "größe.html"
        part = DATA[request.offset : request.offset + length]
        return message("FileContent", file=about, content=HttpBody(content_type="text/html", data=part))

    notes.fake.unary["ReadFile"] = read
    return notes


async def get(file: Stack, **headers: str) -> Any:
    return await file.http.get("/v1/notes/7/file", headers={k.replace("_", "-"): v for k, v in headers.items()})


async def test_a_file_is_answered_whole_in_as_many_parts_as_it_takes(file: Stack) -> None:
    response = await get(file)
    assert (response.status_code, response.content) == (200, DATA)
    assert [request.offset for request in file.fake.requests] == [0, 1000, 2000]
    assert response.headers["etag"] == ETAG
    assert response.headers["content-type"] == "text/html"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-length"] == str(len(DATA))
    assert response.headers["cache-control"] == "private, no-cache"


async def test_a_file_that_breaks_off_is_never_taken_for_the_whole(file: Stack) -> None:
    read = file.fake.unary["ReadFile"]

    async def read_some(request: Any, context: Context) -> Any:
        if request.offset >= MOST:
            await abort(context, Problem(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", "gone"))
        return await read(request, context)

    file.fake.unary["ReadFile"] = read_some
    with pytest.raises(httpx.RemoteProtocolError):
        await get(file)


async def test_a_file_is_kept_and_not_shown_as_a_page(file: Stack) -> None:
    for headers in ({}, {"range": "bytes=0-1"}):
        response = await get(file, **headers)
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.html"
        assert response.headers["content-security-policy"].startswith("sandbox")
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("tags", [ETAG, f"W/{ETAG}", f'"another", {ETAG}', "*"])
async def test_who_has_it_already_is_told_so(file: Stack, tags: str) -> None:
    response = await get(file, if_none_match=tags)
    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", ETAG)


async def test_who_has_another_one_gets_it(file: Stack) -> None:
    response = await get(file, if_none_match='"another"')
    assert (response.status_code, response.content) == (200, DATA)


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-14", 5, 14),
        ("bytes=2490-", 2490, 2499),
        ("bytes=2490-9999", 2490, 2499),
        ("bytes=-10", 2490, 2499),
        ("bytes=-9999", 0, 999),
        ("bytes=100-", 100, 1099),
    ],
)
async def test_a_range_is_answered_as_far_as_one_answer_goes(file: Stack, asked: str, first: int, last: int) -> None:
    response = await get(file, range=asked)
    assert (response.status_code, response.content) == (206, DATA[first : last + 1])
    assert response.headers["content-range"] == f"bytes {first}-{last}/2500"
    assert response.headers["etag"] == ETAG


@pytest.mark.parametrize("asked", ["bytes=2500-", "bytes=9999-10000", "bytes=-0"])
async def test_a_range_of_which_there_is_nothing_is_refused(file: Stack, asked: str) -> None:
    response = await get(file, range=asked)
    assert (response.status_code, response.headers["content-range"]) == (416, "bytes */2500")
    assert response.json()["details"][0]["reason"] == "INVALID_REQUEST"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-3", "bytes=-", "lines=1-2", "bytes=a-b"])
async def test_what_is_not_one_range_gets_all_of_it(file: Stack, asked: str) -> None:
    response = await get(file, range=asked)
    assert (response.status_code, response.content) == (200, DATA)


async def test_a_range_of_what_it_was_is_answered_with_all_that_it_is(file: Stack) -> None:
    assert (await get(file, range="bytes=0-9", if_range=ETAG)).content == DATA[:10]
    response = await get(file, range="bytes=0-9", if_range='"another"')
    assert (response.status_code, response.content) == (200, DATA)


async def test_a_part_that_the_query_asks_for_is_answered_as_what_it_is(file: Stack) -> None:
    response = await file.http.get("/v1/notes/7/file?offset=10&length=5", headers={"range": "bytes=0-1"})
    assert (response.status_code, response.content) == (200, DATA[10:15])
    assert "etag" not in response.headers


async def test_head_says_how_long_it_is(file: Stack) -> None:
    response = await file.http.head("/v1/notes/7/file")
    assert (response.status_code, response.content) == (200, b"")
    assert (response.headers["content-length"], response.headers["etag"]) == (str(len(DATA)), ETAG)


async def test_a_file_that_is_not_there_is_refused_as_anything_else(file: Stack) -> None:
    async def read(_request: Any, context: Context) -> Any:
        await abort(context, Problem(grpc.StatusCode.NOT_FOUND, "NOTE_NOT_FOUND", "no such note"))

    file.fake.unary["ReadFile"] = read
    assert (await get(file, range="bytes=0-1")).status_code == 404
