"""HTTP routes, read from the `google.api.http` annotations of service descriptors, and finding one for a path.

Only how a path names an RPC and the values it carries is decided here; what becomes of query and body is
transcoding's. A contract that cannot be served as it is written stops the process at start-up.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from gateway.errors import malformed, method_not_allowed, route_not_found

_VARIABLE = re.compile(r"\{([a-z_][a-z0-9_.]*)(?:=\*)?\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.~-]+")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")

Literals = tuple[str | None, ...]
"""A path's segments; None where any value may stand."""


class BadRoute(Exception):
    """An annotation that this gateway cannot serve, or two that claim the same requests."""


@dataclass(frozen=True, slots=True)
class Template:
    """A path template such as `/v1/plans/{plan_id}:revise`: one literal or one variable a segment, then a verb."""

    text: str
    literals: Literals
    variables: tuple[str, ...]
    verb: str

    @classmethod
    def parse(cls, text: str) -> "Template":
        """Parse it; variables of several segments (`**`, `{name=a/*}`) are not served."""
        path, colon, verb = text.partition(":")
        start, *segments = path.split("/")
        if start or not segments or (colon and not _LITERAL.fullmatch(verb)):
            raise BadRoute(f"{text!r} is not a path template")
        literals: list[str | None] = []
        variables: list[str] = []
        for segment in segments:
            variable = _VARIABLE.fullmatch(segment)
            if variable:
                variables.append(variable[1])
            elif not _LITERAL.fullmatch(segment):
                raise BadRoute(f"{text!r} has a segment that this gateway does not serve: {segment!r}")
            literals.append(None if variable else segment)
        return cls(text, tuple(literals), tuple(variables), verb)


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP method and path that leads to one RPC."""

    http_method: str
    template: Template
    method: MethodDescriptor
    body: str
    response_body: str
    request_class: type[Message]
    response_class: type[Message]

    @property
    def rpc(self) -> str:
        """The RPC's path over gRPC."""
        return f"/{self.method.containing_service.full_name}/{self.method.name}"

    @property
    def streams(self) -> bool:
        """Whether it answers a stream."""
        return bool(self.method.server_streaming)


Routes = dict[str, Route]
"""The routes of one path, by HTTP method."""


class Router:
    """Finds the route for a request; built once from all services."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        self._by_shape: dict[tuple[int, str], dict[Literals, Routes]] = {}
        for service in services:
            for method in service.methods:
                for route in routes_of(method):
                    self._add(route)
        for shape, paths in self._by_shape.items():
            # Where both could match, a literal segment is meant before a variable.
            ordered = sorted(paths.items(), key=lambda item: [literal is None for literal in item[0]])
            self._by_shape[shape] = dict(ordered)

    def __iter__(self) -> Iterator[Route]:
        return (route for paths in self._by_shape.values() for routes in paths.values() for route in routes.values())

    def find(self, http_method: str, raw_path: bytes) -> tuple[Route, Mapping[str, str]]:
        """The route and the values in its path; a Refusal with 404 or 405 (and what is allowed) otherwise."""
        routes, values, verb_unknown = self._match(raw_path)
        route = routes.get(http_method)
        if route is None and http_method == "HEAD" and _answers_head(routes):
            route = routes["GET"]
        if route is None and verb_unknown:
            raise route_not_found(raw_path.decode("latin-1"))
        if route is None:
            raise method_not_allowed(http_method, _allowed(routes))
        return route, dict(zip(route.template.variables, values, strict=True))

    def allowed(self, raw_path: bytes) -> list[str]:
        """The HTTP methods that a path answers; a Refusal with 404 if there is no such path."""
        return _allowed(self._match(raw_path)[0])

    def _match(self, raw_path: bytes) -> tuple[Routes, list[str], bool]:
        """The routes of a path, its values, and whether it may as well be another path with an unknown verb.

        Only a colon written as such begins a verb; in a name it may be escaped (%3A). Names such as
        `openai:gpt-5` are often written plainly, though, and then it is for the HTTP method to tell.
        """
        if raw_path.startswith(b"/"):
            *segments, last = raw_path[1:].split(b"/")
            name, colon, verb = last.rpartition(b":")
            if colon and (found := self._lookup([*segments, name], _decode(verb))):
                return *found, False
            if found := self._lookup([*segments, last], ""):
                return *found, bool(colon)
        raise route_not_found(raw_path.decode("latin-1"))

    def _lookup(self, raw_segments: list[bytes], verb: str) -> tuple[Routes, list[str]] | None:
        paths = self._by_shape.get((len(raw_segments), verb))
        if paths is None:
            return None
        segments = [_decode(segment) for segment in raw_segments]
        for literals, routes in paths.items():
            values = _values(literals, segments)
            if values is not None:
                return routes, values
        return None

    def _add(self, route: Route) -> None:
        shape = len(route.template.literals), route.template.verb
        routes = self._by_shape.setdefault(shape, {}).setdefault(route.template.literals, {})
        if route.http_method in routes:
            raise BadRoute(f"{route.http_method} {route.template.text} leads to two RPCs")
        routes[route.http_method] = route


def routes_of(method: MethodDescriptor) -> Iterator[Route]:
    """Every route that an RPC's annotation declares; none without one."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return
    if method.client_streaming:
        raise BadRoute(f"{method.full_name} streams requests, which HTTP cannot")
    rule = options.Extensions[annotations_pb2.http]
    for binding in (rule, *rule.additional_bindings):
        yield _route(method, binding)


def _route(method: MethodDescriptor, rule: HttpRule) -> Route:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise BadRoute(f"{method.full_name} has an http annotation without a path")
    custom = kind == "custom"
    template = Template.parse(rule.custom.path if custom else getattr(rule, kind))
    for variable in template.variables:
        _require_single(method.input_type, variable)
    _require_field(method.input_type, rule.body if rule.body != "*" else "")
    _require_field(method.output_type, rule.response_body)
    return Route(
        rule.custom.kind if custom else kind.upper(),
        template,
        method,
        rule.body,
        rule.response_body,
        message_factory.GetMessageClass(method.input_type),
        message_factory.GetMessageClass(method.output_type),
    )


def _require_field(message: Descriptor, name: str) -> None:
    if name and name not in message.fields_by_name:
        raise BadRoute(f"{message.full_name} has no field {name!r}, which its route names")


def _require_single(message: Descriptor, path: str) -> None:
    descriptor: Descriptor | None = message
    for name in path.split("."):
        field: FieldDescriptor | None = descriptor.fields_by_name.get(name) if descriptor else None
        if field is None or field.is_repeated:
            raise BadRoute(f"{message.full_name} has no single field {path!r}, which its route's path names")
        descriptor = field.message_type
    if descriptor is not None:
        raise BadRoute(f"{message.full_name}.{path} is a message: a path carries single values only")


def _values(literals: Literals, segments: list[str]) -> list[str] | None:
    values: list[str] = []
    for literal, segment in zip(literals, segments, strict=True):
        if literal is None and segment:
            values.append(segment)
        elif literal != segment:
            return None
    return values


def _allowed(routes: Routes) -> list[str]:
    return sorted([*routes, *(["HEAD"] if _answers_head(routes) else []), "OPTIONS"])


def _answers_head(routes: Routes) -> bool:
    return "GET" in routes and not routes["GET"].streams


def _decode(segment: bytes) -> str:
    if b"%" not in segment and segment.isascii():
        return segment.decode()
    if _BROKEN_ESCAPE.search(segment):
        raise malformed("the path has a percent sign that does not begin an escape such as %20")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise malformed("the path, once its escapes are decoded, is not UTF-8") from None
