from pathlib import Path

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from gateway.errors import Refusal, answer
from gateway.routes import BadRoute, Route, Router, Template
from tests.unit.gateway.notes import compile_contract, note_service


@pytest.fixture(scope="module")
def router() -> Router:
    return Router([note_service()])


def found(router: Router, method: str, path: str) -> tuple[str, dict[str, str]]:
    route, values = router.find(method, path.encode())
    return route.method.name, dict(values)


@pytest.mark.parametrize(
    ("method", "path", "rpc", "values"),
    [
        ("POST", "/v1/notes", "CreateNote", {}),
        ("GET", "/v1/notes", "ListNotes", {}),
        ("GET", "/v1/notes/7", "GetNote", {"note_id": "7"}),
        ("PUT", "/v1/notes/7", "PutNote", {"note_id": "7"}),
        ("DELETE", "/v1/notes/7", "DeleteNote", {"note_id": "7"}),
        ("HEAD", "/v1/notes/7", "GetNote", {"note_id": "7"}),
        ("GET", "/v1/aliases/7", "GetNote", {"note_id": "7"}),
        ("GET", "/v1/notes/main", "GetMain", {}),
        ("GET", "/v1/n%6Ftes/main", "GetMain", {}),
        ("GET", "/v1/notes/7:watch", "WatchNote", {"note_id": "7"}),
        ("GET", "/v1/notes:watch", "WatchAll", {}),
        ("POST", "/v1/notes/7:revise", "ReviseNote", {"id": "7"}),
        ("POST", "/v1/places/x/notes/3:move", "MoveNote", {"place.city": "x", "count": "3"}),
        ("GET", "/v1/notes/a%2Fb", "GetNote", {"note_id": "a/b"}),
        ("GET", "/v1/notes/%D0%B9", "GetNote", {"note_id": "й"}),
        ("GET", "/v1/notes/й", "GetNote", {"note_id": "й"}),
        ("GET", "/v1/notes/%20", "GetNote", {"note_id": " "}),
        ("GET", "/v1/notes/a+b", "GetNote", {"note_id": "a+b"}),
        ("GET", "/v1/notes/..", "GetNote", {"note_id": ".."}),
        ("GET", "/v1/notes/7%3Awatch", "GetNote", {"note_id": "7:watch"}),
        ("GET", "/v1/notes/a:b:watch", "WatchNote", {"note_id": "a:b"}),
        ("GET", "/v1/notes/openai:gpt-5", "GetNote", {"note_id": "openai:gpt-5"}),
    ],
)
def test_a_path_leads_to_its_rpc_with_decoded_values(
    router: Router, method: str, path: str, rpc: str, values: dict[str, str]
) -> None:
    assert found(router, method, path) == (rpc, values)


@pytest.mark.parametrize(
    "path",
    ["/", "", "*", "/v1", "/v1/notes/", "/v1/notes/7/", "//v1/notes", "/v1//notes", "/v2/notes", "/V1/notes", "/v1/x"],
)
def test_an_unknown_path_is_a_404(router: Router, path: str) -> None:
    with pytest.raises(Refusal) as refused:
        router.find("GET", path.encode())
    assert (answer(refused.value).http_status, refused.value.reason) == (404, "ROUTE_NOT_FOUND")
    assert refused.value.metadata == {"path": path}


@pytest.mark.parametrize("path", [b"/v1/notes/7:burn", b"/v1/notes/7/raw:burn", b"/v1/notes:burn"])
def test_an_unknown_verb_is_a_404_and_not_a_wrong_method(router: Router, path: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        router.find("POST", path)
    assert refused.value.reason == "ROUTE_NOT_FOUND"


def test_an_internal_rpc_has_no_route(router: Router) -> None:
    assert "Internal" not in {route.method.name for route in router}


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/v1/notes", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/notes/7", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("get", "/v1/notes/7", "DELETE, GET, HEAD, OPTIONS, PUT"),
        ("GET", "/v1/notes/7:revise", "OPTIONS, POST"),
        ("HEAD", "/v1/notes/7:watch", "GET, OPTIONS"),
    ],
)
def test_a_wrong_method_is_a_405_that_says_what_is_allowed(router: Router, method: str, path: str, allow: str) -> None:
    with pytest.raises(Refusal) as refused:
        router.find(method, path.encode())
    told = answer(refused.value)
    assert (told.http_status, refused.value.reason) == (405, "METHOD_NOT_ALLOWED")
    assert (b"allow", allow.encode()) in told.headers
    assert router.allowed(path.encode()) == allow.split(", ")


@pytest.mark.parametrize("path", [b"/v1/notes/%zz", b"/v1/notes/%", b"/v1/notes/%ff", b"/v1/notes/\xff"])
def test_a_path_that_cannot_be_decoded_is_refused(router: Router, path: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        router.find("GET", path)
    assert answer(refused.value).http_status == 400


@pytest.mark.parametrize("text", ["v1/x", "", "/v1/{a=**}", "/v1/{name=notes/*}", "/v1/{a", "/v1/x:", "/v1//x"])
def test_a_template_that_is_not_served_stops_the_start(text: str) -> None:
    with pytest.raises(BadRoute):
        Template.parse(text)


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        ('get: "/v1/x/{nothing}"', "no single field 'nothing'"),
        ('get: "/v1/x/{many}"', "no single field 'many'"),
        ('get: "/v1/x/{inner}"', "is a message"),
        ('post: "/v1/x" body: "nothing"', "no field 'nothing'"),
        ('get: "/v1/x" response_body: "nothing"', "no field 'nothing'"),
        ('get: "/v1/x" additional_bindings {get: "/v1/x"}', "two RPCs"),
        ('get: "/v1/x/{name}" additional_bindings {get: "/v1/x/{inner.name}"}', "two RPCs"),
        ('body: "*"', "without a path"),
    ],
)
def test_an_annotation_that_cannot_be_served_stops_the_start(annotation: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(BadRoute, match=complaint):
        list(Router(bad_contract(tmp_path, annotation)))


def test_an_rpc_that_streams_requests_cannot_have_a_route(tmp_path: Path) -> None:
    with pytest.raises(BadRoute, match="streams requests"):
        Router(bad_contract(tmp_path, 'post: "/v1/x" body: "*"', request="stream Thing"))


def test_a_custom_method_is_served(tmp_path: Path) -> None:
    router = Router(bad_contract(tmp_path, 'custom {kind: "PURGE" path: "/v1/x"}'))
    route: Route = router.find("PURGE", b"/v1/x")[0]
    assert route.method.name == "Do"


_made = iter(range(1000))


def bad_contract(folder: Path, annotation: str, request: str = "Thing") -> list[ServiceDescriptor]:
    # Each gets a package of its own: what a descriptor pool has learned it never forgets.
    name = f"bad{next(_made)}"
    (folder / f"{name}.proto").write_text(f"""
        syntax = "proto3";
        package gateway_tests.{name};
        import "google/api/annotations.proto";
        message Thing {{ string name = 1; repeated string many = 2; Thing inner = 3; }}
        service ThingService {{
          rpc Do({request}) returns (Thing) {{ option (google.api.http) = {{ {annotation} }}; }}
        }}
    """)
    return compile_contract(folder, f"{name}.proto")
