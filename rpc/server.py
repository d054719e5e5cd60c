"""The gRPC server that every Assent service runs on: limits, health, reflection, drain and stop.

What happens within a call is composed in rpc/serving.py; what a service does is its servicers' business.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from rpc.addresses import BadAddress, parse_address, require_loopback
from rpc.errors import Translate, no_translation
from rpc.health import Health
from rpc.method import Handler, handlers_of, method_of
from rpc.principal import Authenticate, development_principal
from rpc.problem import Problem
from rpc.serving import OnInvalid, Policy, unknown_method, wrap
from rpc.validation import InvalidRequest

_log = structlog.get_logger("rpc")

RETIRE_SECONDS = 0.3  # for a word to reach a client, and a call that was on its way to arrive

_HEALTH = "grpc.health.v1.Health"
_REFLECTION = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Service(NamedTuple):
    """A service by its full name, who answers it, and its generated `add_…Servicer_to_server` function."""

    name: str
    servicer: object
    register: Callable[[Any, Any], None]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may ask of the server. None for the age: connections live as long as they like."""

    max_receive_bytes: int = 4 * 1024 * 1024
    max_send_bytes: int = 16 * 1024 * 1024
    max_concurrent_streams: int = 1000
    max_pending_calls: int = 10_000  # of all connections: not yet taken up
    keepalive_seconds: float = 30
    keepalive_timeout_seconds: float = 10
    max_connection_age_seconds: float | None = 3600
    max_connection_age_grace_seconds: float = 600


class Server:
    """Serves some services at one address; `translate` is the process's table from its errors to Problems.

    With the development principal (nobody is authenticated) it binds loopback only. `permissions_required` is
    False for internal services, which people do not call. `on_invalid` is told of requests that break a constraint.
    """

    def __init__(
        self,
        name: str,
        address: str,
        services: Sequence[Service | tuple[str, object, Callable[[Any, Any], None]]],
        *,
        translate: Translate = no_translation,
        authenticate: Authenticate = development_principal,
        on_invalid: OnInvalid | None = None,
        permissions_required: bool = True,
        reflection: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.address = parse_address(address)
        if authenticate is development_principal:
            require_loopback(self.address, f"the {name}")
        self._services = [Service(*service) for service in services]
        self._permissions_required = permissions_required
        self._reflection = reflection
        self._limits = limits or Limits()
        told = on_invalid or _nobody_is_told
        self._policy = Policy(translate, authenticate, self._admit, self._limits.max_receive_bytes, told)
        self._draining = False
        self._health = Health(service.name for service in self._services)
        self._handlers = self._wrapped()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> int:
        """Listen and serve; the port, which the system chose if the address says 0."""
        server = grpc.aio.server(options=_options(self._limits))
        for service, handlers in self._handlers.items():
            server.add_registered_method_handlers(service, handlers)
        server.add_generic_rpc_handlers((_UnknownMethods(),))
        try:
            port = server.add_insecure_port(str(self.address))
        except RuntimeError as error:
            raise BadAddress(f"the {self.name} cannot listen on {self.address}: is it in use?") from error
        await server.start()
        self._server = server
        self.set_serving(True)
        _log.info("serving", address=str(replace(self.address, port=port)))
        return port

    def set_serving(self, serving: bool) -> None:
        """Say over the health service whether this process can do its work."""
        self._health.set_serving(serving)

    def set_ready(self, ready: bool) -> None:
        """Say, under the name `ready` alone, whether what this process depends on is there."""
        self._health.set_ready(ready)

    async def retire(self) -> None:
        """Turn NOT_SERVING, and go on serving until the clients that watch it have turned to others."""
        is_watched = self._health.is_watched
        self._health.close()
        if is_watched:
            await asyncio.sleep(RETIRE_SECONDS)

    async def drain(self) -> None:
        """Turn NOT_SERVING and refuse new calls as UNAVAILABLE; what is being served goes on."""
        self._draining = True
        self._health.close()

    async def stop(self, grace: float | None = None) -> None:
        """Drain, wait up to `grace` seconds for calls to end, cancel the rest, close the port."""
        await self.drain()
        if self._server is not None:
            await self._server.stop(grace)

    def _admit(self) -> None:
        if self._draining:
            raise Problem(
                grpc.StatusCode.UNAVAILABLE,
                "SHUTTING_DOWN",
                f"the {self.name} is shutting down",
                disposition="RETRYABLE",
                retry_after=1,
            )

    def _wrapped(self) -> dict[str, dict[str, Handler]]:
        wrapped = {
            service.name: self._wrap(service, self._policy, needs_permission=self._permissions_required)
            for service in self._services
        }
        # Health must answer while the server drains, and neither needs a principal.
        open_to_all = replace(self._policy, translate=no_translation, admit=lambda: None)
        for service in self._own_services():
            wrapped[service.name] = self._wrap(service, open_to_all, needs_permission=False)
        if self._reflection:
            wrapped[_REFLECTION[0]] = wrapped[_REFLECTION[1]]
        return wrapped

    def _wrap(self, service: Service, policy: Policy, *, needs_permission: bool) -> dict[str, Handler]:
        return {
            name: wrap(method_of(service.name, name, needs_permission=needs_permission), handler, policy)
            for name, handler in handlers_of(*service).items()
        }

    def _own_services(self) -> list[Service]:
        own = [Service(_HEALTH, self._health, health_pb2_grpc.add_HealthServicer_to_server)]
        if self._reflection:
            # Not v1 of reflection itself: clients describe all that is listed, and the library has only v1alpha.
            names = [*(service.name for service in self._services), _HEALTH, _REFLECTION[1]]
            servicer = reflection.aio.ReflectionServicer(names)
            register = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
            own.append(Service(_REFLECTION[1], servicer, register))
        return own


async def _nobody_is_told(_refusal: InvalidRequest) -> None:
    return


class _UnknownMethods(grpc.GenericRpcHandler):
    """Asked last, for a path that no service has."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        return unknown_method(handler_call_details.method)


def _options(limits: Limits) -> list[tuple[str, int]]:
    options = [
        # Otherwise a second server on a port in use would share it in silence, each with half of the calls.
        ("grpc.so_reuseport", 0),
        # The transport's own refusal carries no reason, so ours (rpc/validation.py) comes first.
        ("grpc.max_receive_message_length", limits.max_receive_bytes * 4),
        ("grpc.max_send_message_length", limits.max_send_bytes),
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams),
        # A herd that comes back at once is taken in turn; by default what is over a thousand is dropped, as CANCELLED.
        ("grpc.server.max_pending_requests", limits.max_pending_calls),
        ("grpc.server.max_pending_requests_hard_limit", limits.max_pending_calls),
        ("grpc.keepalive_time_ms", round(limits.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(limits.keepalive_timeout_seconds * 1000)),
        ("grpc.http2.ping_timeout_ms", round(limits.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        # Clients ping every 20 s at most (rpc/channel.py); the default would call that abuse.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]
    if limits.max_connection_age_seconds is not None:
        options += [
            ("grpc.max_connection_age_ms", round(limits.max_connection_age_seconds * 1000)),
            ("grpc.max_connection_age_grace_ms", round(limits.max_connection_age_grace_seconds * 1000)),
        ]
    return options
