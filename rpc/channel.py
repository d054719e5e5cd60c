"""Client channels between the processes: keepalive, message limits, no hidden retries, the trace carried.

The trace is carried by wrapping the channel and not by grpc's interceptors, which make every call a task of
its own. Who connects to whom is not decided here, nor what to do when nobody answers: the engine retries.
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind

from rpc import tracing
from rpc.addresses import Address, BadAddress, parse_address


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """What one channel sends and receives, and how soon it notices a peer that is gone."""

    max_receive_bytes: int = 16 * 1024 * 1024
    max_send_bytes: int = 4 * 1024 * 1024
    keepalive_seconds: float = 20
    keepalive_timeout_seconds: float = 5
    max_reconnect_seconds: float = 2


def connect(address: str, limits: ChannelLimits | None = None) -> grpc.aio.Channel:
    """A channel to `host:port` or `unix:path`; it connects by itself, again and again, when it is used.

    Several `ip:port`, separated by commas, are replicas: calls go to them in turn, while they say that they serve.
    Raises BadAddress.
    """
    target, options = _target(address), _options(limits or ChannelLimits())
    if target != address:
        options.append(("grpc.service_config", _IN_TURN))
    return _TracedChannel(grpc.aio.insecure_channel(target, options=options))


_IN_TURN = '{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}'


def _target(address: str) -> str:
    """As grpc names it."""
    if "," not in address:
        return address
    replicas = [parse_address(each.strip()) for each in address.split(",")]
    try:
        hosts = [ipaddress.ip_address(each.host.replace("localhost", "127.0.0.1")) for each in replicas]
    except ValueError:
        raise BadAddress(f"{address!r}: several addresses must be IP:PORT each") from None
    versions = {host.version for host in hosts}
    if len(versions) > 1:
        raise BadAddress(f"{address!r}: several addresses must be of one kind, IPv4 or IPv6")
    named = [str(Address(str(host), each.port)) for host, each in zip(hosts, replicas, strict=True)]
    return f"ipv{versions.pop()}:{','.join(named)}"


def _options(limits: ChannelLimits) -> list[tuple[str, int | str]]:
    return [
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", limits.max_receive_bytes),
        ("grpc.max_send_message_length", limits.max_send_bytes),
        ("grpc.keepalive_time_ms", round(limits.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(limits.keepalive_timeout_seconds * 1000)),
        # Its default, a minute, would hold for the pings that gRPC sends of itself and takes for keepalive too.
        ("grpc.http2.ping_timeout_ms", round(limits.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", round(limits.max_reconnect_seconds * 1000)),
        # Never through a proxy from the environment: these processes are each other's neighbours.
        ("grpc.enable_http_proxy", 0),
    ]


class _TracedChannel(grpc.aio.Channel):
    """A channel whose calls carry the current trace; with an exporter each is a client span."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _traced(method, self._channel.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _traced(method, self._channel.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _traced(method, self._channel.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _traced(method, self._channel.stream_stream(method, *args, **kwargs))


def _traced(method: str, callable_: Callable[..., Any]) -> Callable[..., Any]:
    name = method.removeprefix("/")
    service, _, rpc = name.partition("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": rpc}

    def call(*args: Any, metadata: Iterable[tuple[str, str | bytes]] | None = None, **kwargs: Any) -> Any:
        span = tracing.start_span(name, tracing.current_span_context(), SpanKind.CLIENT, attributes)
        carried = (tracing.TRACEPARENT, tracing.format_traceparent(span.get_span_context()))
        started = callable_(*args, metadata=(*(metadata or ()), carried), **kwargs)
        if span.is_recording():
            started.add_done_callback(lambda ended: _end(span, ended))
        return started

    return call


def _end(span: Span, ended: Any) -> None:
    if ended.cancelled():
        span.set_status(trace.StatusCode.ERROR, "CANCELLED")
    span.end()
