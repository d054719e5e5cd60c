import json
from typing import Any
from urllib.parse import quote

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format

from gateway.errors import Refusal
from gateway.routes import Router
from gateway.transcoding import request_message, response_content
from tests.unit.gateway.notes import message, note_service


@pytest.fixture(scope="module")
def router() -> Router:
    return Router([note_service()])


def read(router: Router, method: str, path: str, *, query: str = "", body: bytes = b"") -> Any:
    route, values = router.find(method, path.encode())
    return request_message(route, values, query.encode(), body)


def violations(router: Router, method: str, path: str, *, query: str = "", body: bytes = b"") -> dict[str, str]:
    with pytest.raises(Refusal) as refused:
        read(router, method, path, query=query, body=body)
    assert refused.value.reason == "INVALID_REQUEST"
    return dict(refused.value.fields)


def malformed(router: Router, body: bytes) -> str:
    with pytest.raises(Refusal) as refused:
        read(router, "POST", "/v1/notes", body=body)
    assert refused.value.reason == "MALFORMED_REQUEST"
    return refused.value.message


# --- bodies --------------------------------------------------------------------------------------------------


def test_a_body_sets_fields_by_either_of_their_names(router: Router) -> None:
    body = json.dumps(
        {
            "text": "й\n\u2028😀",
            "size": "9007199254740993",
            "count": 3.0,
            "weight": "1e3",
            "pinned": True,
            "raw": "AAE=",
            "colour": "COLOUR_RED",
            "place": {"city": "a", "within": {"city": "b"}},
            "visited": [{"city": "c"}, {}],
            "tags": ["x", ""],
            "colours": [2, "COLOUR_RED"],
            "labels": {"env": "prod"},
            "places": {"home": {"city": "d"}},
            "createTime": "2026-01-31T12:00:00.000001Z",
            "limit": "1.5s",
            "mask": "text,place.city",
            "maybe": False,
            "maybe_size": "5",
            "anything": [1, None],
            "nickname": "",
            "natural": 4294967295,
            "sizes": ["1", 2],
            "object": {"a": {"b": None}},
        }
    ).encode()
    note = read(router, "POST", "/v1/notes", body=body)
    expected = message("Note")
    json_format.Parse(body, expected)
    assert note == expected
    assert note.size == 9007199254740993
    assert note.HasField("nickname")


@pytest.mark.parametrize("value", [1234567890123456789, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("text", ["{}", '"{}"'])
def test_a_large_integer_is_exact_with_and_without_quotes(router: Router, value: int, text: str) -> None:
    assert read(router, "POST", "/v1/notes", body=f'{{"size": {text.format(value)}}}'.encode()).size == value


def test_an_arguments_text_arrives_byte_for_byte(router: Router) -> None:
    arguments = '{"id": 1234567890123456789,\t"x":1.0,  "ы":"\\u044b"}'
    note = read(router, "POST", "/v1/notes", body=json.dumps({"argumentsJson": arguments}).encode())
    assert note.arguments_json == arguments
    route, _ = router.find("POST", b"/v1/notes")
    _, shown = response_content(route, message("NoteResponse", note=note))
    assert json.loads(shown)["argumentsJson"] == arguments


@pytest.mark.parametrize("body", [b"", b"{}", b" {} \n", b'{"text": null, "place": null, "tags": null}'])
def test_nothing_and_null_set_nothing(router: Router, body: bytes) -> None:
    assert read(router, "POST", "/v1/notes", body=body) == message("Note")


def test_null_is_a_value_where_any_json_is(router: Router) -> None:
    note = read(router, "POST", "/v1/notes", body=b'{"anything": null}')
    assert note.anything.WhichOneof("kind") == "null_value"


def test_an_empty_structure_is_present(router: Router) -> None:
    assert read(router, "POST", "/v1/notes", body=b'{"place": {}}').HasField("place")


@pytest.mark.parametrize(
    ("body", "field", "description"),
    [
        ({"txt": 1}, "txt", "Note has no such field"),
        ({"place": {"citi": 1}}, "place.citi", "Place has no such field"),
        ({"visited": [{}, {"within": {"x": 1}}]}, "visited[1].within.x", "Place has no such field"),
        ({"text": 1}, "text", "must be text"),
        ({"text": ["a"]}, "text", "must be text"),
        ({"size": "abc"}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": "1_000"}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": " 1"}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": ""}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": 1.5}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": True}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": 2**63}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"size": {}}, "size", "must be a 64-bit integer, as a number or in quotes"),
        ({"count": 2**31}, "count", "must be a 32-bit integer"),
        ({"natural": -1}, "natural", "must be an unsigned 32-bit integer"),
        ({"weight": "x"}, "weight", "must be a number"),
        ({"weight": True}, "weight", "must be a number"),
        ({"pinned": "true"}, "pinned", "must be true or false"),
        ({"pinned": 1}, "pinned", "must be true or false"),
        ({"raw": "*"}, "raw", "must be bytes in base64"),
        ({"colour": "RED"}, "colour", "must be one of COLOUR_UNSPECIFIED, COLOUR_RED, COLOUR_BLUE"),
        ({"colour": True}, "colour", "must be one of COLOUR_UNSPECIFIED, COLOUR_RED, COLOUR_BLUE"),
        ({"colours": ["COLOUR_RED", "x"]}, "colours[1]", "must be one of COLOUR_UNSPECIFIED, COLOUR_RED, COLOUR_BLUE"),
        ({"place": "x"}, "place", "must be a JSON object"),
        ({"place": []}, "place", "must be a JSON object"),
        ({"visited": {}}, "visited", "must be a JSON list"),
        ({"visited": ["x"]}, "visited[0]", "must be a JSON object"),
        ({"tags": "x"}, "tags", "must be a JSON list"),
        ({"tags": ["x", 1]}, "tags[1]", "must be text"),
        ({"tags": [None]}, "tags[0]", "must be text"),
        ({"sizes": [1, "y", "z"]}, "sizes[2]", "must be a 64-bit integer, as a number or in quotes"),
        ({"labels": {"a": 1}}, "labels", "must be a JSON object, in which every value must be text"),
        ({"labels": ["a"]}, "labels", "must be a JSON object, in which every value must be text"),
        ({"createTime": "yesterday"}, "create_time", "must be a time such as 2026-01-31T12:00:00Z"),
        ({"createTime": 1}, "create_time", "must be a time such as 2026-01-31T12:00:00Z"),
        ({"limit": "1.5"}, "limit", "must be a length of time in seconds such as 1.5s"),
        ({"maybe": "true"}, "maybe", "must be true or false"),
        ({"object": []}, "object", "must be a JSON object"),
        ({"yes": "a", "no": "b"}, "no", "cannot be given together with yes"),
        (
            {"createTime": "2026-01-31T12:00:00Z", "create_time": "2026-01-31T12:00:00Z"},
            "create_time",
            "is given twice, under both of its names",
        ),
        ([], "", "must be a JSON object"),
        ("x", "", "must be a JSON object"),
        (None, "", "must be a JSON object"),
    ],
)
def test_what_does_not_fit_is_named_with_what_would(router: Router, body: object, field: str, description: str) -> None:
    assert violations(router, "POST", "/v1/notes", body=json.dumps(body).encode())[field] == description


def test_all_that_is_wrong_is_said_at_once(router: Router) -> None:
    body = b'{"size": "x", "nope": 1, "visited": [{"city": 5}, {"citi": 1}]}'
    assert set(violations(router, "POST", "/v1/notes", body=body)) == {
        "size",
        "nope",
        "visited[0].city",
        "visited[1].citi",
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b'{"text": "a",}', "not JSON"),
        (b"{'text': 1}", "not JSON"),
        (b"text=a", "not JSON: Expecting value at byte 0"),
        ('{"text": "й" "x"}'.encode(), "at byte 14"),
        (b'{"weight": NaN}', "NaN is not a JSON value"),
        (b'{"weight": -Infinity}', "-Infinity is not a JSON value"),
        (b'{"text": "a", "text": "b"}', "the key 'text' is given twice"),
        (b'{"labels": {"a": "b", "a": "b"}}', "the key 'a' is given twice"),
        (b'{"labels": {"\\ud800": "b"}}', "half of a surrogate pair"),
        (b'{"\\udfff": "b"}', "half of a surrogate pair"),
        (b'{"text": "\xff"}', "not UTF-8: byte 10 is wrong"),
        ('{"text": "a"}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"anything":' * 100_000, "nested too deeply"),
        (b'{"size": ' + b"1" * 5000 + b"}", "too many digits"),
    ],
)
def test_what_is_not_json_is_refused(router: Router, body: bytes, said: str) -> None:
    assert said in malformed(router, body)


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\udc00b"'])
@pytest.mark.parametrize("field", ["text", "tags", "anything", "labels"])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(router: Router, text: str, field: str) -> None:
    value = {"text": text, "tags": f"[{text}]", "anything": text, "labels": f'{{"k": {text}}}'}[field]
    found = violations(router, "POST", "/v1/notes", body=f'{{"{field}": {value}}}'.encode())
    assert set(found) <= {field, f"{field}[0]"}


def test_json_deeper_than_a_message_may_be_is_refused(router: Router) -> None:
    body = b'{"anything": ' + b"[" * 150 + b"]" * 150 + b"}"
    assert set(violations(router, "POST", "/v1/notes", body=body)) == {"anything"}
    place: dict[str, Any] = {}
    for _ in range(150):
        place = {"within": place}
    assert violations(router, "POST", "/v1/notes", body=json.dumps({"place": place}).encode())


def test_a_body_may_be_one_field_of_the_request(router: Router) -> None:
    request = read(router, "PUT", "/v1/notes/7", query="checkOnly=true", body=b'{"text": "a"}')
    assert (request.note_id, request.note.text, request.check_only) == ("7", "a", True)


def test_a_field_of_the_body_cannot_come_in_the_query(router: Router) -> None:
    assert violations(router, "PUT", "/v1/notes/7", query="note.text=a") == {"note.text": "is to be given in the body"}
    assert violations(router, "POST", "/v1/notes", query="text=a") == {"text": "is to be given in the body"}


def test_a_route_without_a_body_refuses_one(router: Router) -> None:
    with pytest.raises(Refusal, match="takes no body"):
        read(router, "DELETE", "/v1/notes/7", body=b"{}")


# --- paths ---------------------------------------------------------------------------------------------------


def test_path_values_become_fields_of_their_types(router: Router) -> None:
    note = read(router, "POST", "/v1/places/%D0%B9%2F/notes/3:move", body=b'{"place": {"within": {"city": "x"}}}')
    assert (note.place.city, note.place.within.city, note.count) == ("й/", "x", 3)


def test_a_path_value_of_a_wrong_type_is_named(router: Router) -> None:
    assert violations(router, "POST", "/v1/places/x/notes/many:move") == {"count": "must be a 32-bit integer"}


def test_a_body_that_contradicts_the_path_is_refused(router: Router) -> None:
    assert read(router, "POST", "/v1/notes/7:revise", body=b'{"id": "7"}').id == "7"
    found = violations(router, "POST", "/v1/notes/7:revise", body=b'{"id": "8"}')
    assert found == {"id": "is not the one in the path"}


def test_a_query_cannot_give_what_the_path_gives(router: Router) -> None:
    assert violations(router, "GET", "/v1/notes/7", query="noteId=8") == {"noteId": "is given by the path"}


# --- queries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {}),
        ("pageSize=10&pageToken=a%2Bb%3D", {"page_size": 10, "page_token": "a+b="}),
        ("page_size=10", {"page_size": 10}),
        ("pageToken=", {"page_token": ""}),
        ("tags=a&tags=b%26&tags=", {"tags": ["a", "b&", ""]}),
        ("colours=COLOUR_RED&colours=2", {"colours": [1, 2]}),
        ("colour=COLOUR_BLUE", {"colour": 2}),
        ("colour=1", {"colour": 1}),
        ("pinned=true", {"pinned": True}),
        ("pinned=false", {"pinned": False}),
        ("place.city=x&place.within.city=%D0%B9", {"place": {"city": "x", "within": {"city": "й"}}}),
        ("size=1234567890123456789", {"size": 1234567890123456789}),
        ("pageToken=a+b", {"page_token": "a b"}),
        ("pageToken=true", {"page_token": "true"}),
        ("weight=-1.5e3", {"weight": -1500.0}),
    ],
)
def test_a_query_sets_fields(router: Router, query: str, fields: dict[str, Any]) -> None:
    assert read(router, "GET", "/v1/notes", query=query) == message("ListNotesRequest", **fields)


def test_times_and_other_single_values_come_in_a_query_too(router: Router) -> None:
    query = "sinceTime=2026-01-31T12:00:00%2B02:00&limit=1.5s&maybe=true&mask=text,place"
    request = read(router, "GET", "/v1/notes", query=query)
    assert request.since_time.ToJsonString() == "2026-01-31T10:00:00Z"
    assert request.limit.ToNanoseconds() == 1_500_000_000
    assert request.maybe.value is True
    assert list(request.mask.paths) == ["text", "place"]


@pytest.mark.parametrize(
    ("query", "field", "description"),
    [
        ("pagesize=1", "pagesize", "ListNotesRequest has no such field"),
        ("place.town=x", "place.town", "ListNotesRequest has no such field"),
        ("town.city=x", "town.city", "ListNotesRequest has no such field"),
        ("pageSize.x=1", "pageSize.x", "ListNotesRequest has no such field"),
        ("sinceTime.seconds=1", "sinceTime.seconds", "ListNotesRequest has no such field"),
        ("=x", "", "ListNotesRequest has no such field"),
        (".=x", ".", "ListNotesRequest has no such field"),
        ("pageSize=", "page_size", "must be a 32-bit integer"),
        ("pageSize=ten", "page_size", "must be a 32-bit integer"),
        ("pageSize=1&page_size=2", "page_size", "is given more than once"),
        ("place.city=a&place.city=b", "place.city", "is given more than once"),
        ("pinned=yes", "pinned", "must be true or false"),
        ("pinned=1", "pinned", "must be true or false"),
        ("colour=RED", "colour", "must be one of COLOUR_UNSPECIFIED, COLOUR_RED, COLOUR_BLUE"),
        ("colours=COLOUR_RED&colours=x", "colours[1]", "must be one of COLOUR_UNSPECIFIED, COLOUR_RED, COLOUR_BLUE"),
        ("sinceTime=now", "since_time", "must be a time such as 2026-01-31T12:00:00Z"),
        ("place=x", "place", "is a structure: give its fields one by one, as in place.city"),
        ("labels=x", "labels", "cannot be given in a query"),
        ("places=x", "places", "cannot be given in a query"),
    ],
)
def test_a_wrong_parameter_is_named(router: Router, query: str, field: str, description: str) -> None:
    assert violations(router, "GET", "/v1/notes", query=query) == {field: description}


@pytest.mark.parametrize("query", ["pageToken=%ff", "%ff=x", "pageToken=й", "&".join(["tags=x"] * 101)])
def test_a_query_that_cannot_be_read_is_refused(router: Router, query: str) -> None:
    with pytest.raises(Refusal) as refused:
        read(router, "GET", "/v1/notes", query=query)
    assert refused.value.reason == "MALFORMED_REQUEST"


@pytest.mark.parametrize("text", ["a/b", "й", "%", "a&b=c", "😀", "..", "\x00"])
def test_any_text_survives_a_path_and_a_query(router: Router, text: str) -> None:
    assert read(router, "GET", f"/v1/notes/{quote(text, safe='')}").note_id == text
    assert read(router, "GET", "/v1/notes", query=f"pageToken={quote(text, safe='')}").page_token == text


# --- responses -----------------------------------------------------------------------------------------------


def test_a_response_shows_empty_fields_and_large_integers_as_text(router: Router) -> None:
    route, _ = router.find("GET", b"/v1/notes/7")
    shown = json.loads(response_content(route, message("NoteResponse", note=message("Note", size=2**62)))[1])
    assert shown["size"] == str(2**62)
    assert shown["text"] == ""
    assert shown["colour"] == "COLOUR_UNSPECIFIED"
    assert shown["tags"] == []
    assert shown["labels"] == {}
    # What can be absent is: a message, an optional field, a choice not made.
    assert not {"place", "createTime", "nickname", "yes", "maybe"} & set(shown)


def test_a_response_is_one_line_of_utf_8(router: Router) -> None:
    route, _ = router.find("PUT", b"/v1/notes/7")
    kind, body = response_content(route, message("NoteResponse", note=message("Note", text="й\n")))
    assert kind == b"application/json"
    assert b"\n" not in body
    assert '"text":"й\\n"'.encode() in body


def test_a_route_names_the_field_that_is_its_body(router: Router) -> None:
    whole, _ = router.find("GET", b"/v1/notes")
    listed, _ = router.find("GET", b"/v1/texts")
    response = message("ListNotesResponse", notes=[message("Note", id="7")])
    assert json.loads(response_content(whole, response)[1])["notes"][0]["id"] == "7"
    assert json.loads(response_content(listed, response)[1])[0]["id"] == "7"


@pytest.mark.parametrize(
    ("media_type", "answered"),
    [
        ("text/markdown", b"text/markdown"),
        ("text/plain; charset=utf-8", b"text/plain; charset=utf-8"),
        ("", b"application/octet-stream"),
        ("text/html\r\nset-cookie: x=y", b"application/octet-stream"),
        ("текст/html", b"application/octet-stream"),
    ],
)
def test_bytes_are_answered_as_bytes(router: Router, media_type: str, answered: bytes) -> None:
    route, _ = router.find("GET", b"/v1/notes/7/raw")
    response = message("NoteContent", content=HttpBody(content_type=media_type, data=b"\x00\xff"))
    assert response_content(route, response) == (answered, b"\x00\xff")
