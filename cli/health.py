"""Asking a service whether it serves: gRPC health checking, and the gateway's /readyz."""

import asyncio
import socket
from http.client import HTTPConnection, HTTPException

import grpc
from grpc_health.v1 import health_pb2

from rpc.addresses import Address
from rpc.channel import connect

PROBE_SECONDS = 2.0
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, never bound


def reachable(address: Address) -> Address:
    """Where a client on this machine finds a service that listens on `address`."""
    return Address(_ANYWHERE.get(address.host, address.host), address.port)


async def grpc_serves(address: Address) -> bool:
    """Whether a gRPC server there says SERVING for itself as a whole."""
    async with connect(str(reachable(address))) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=PROBE_SECONDS)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def http_ready(address: Address) -> bool:
    """Whether the gateway there answers 200 to /readyz."""
    return await asyncio.to_thread(_get_readyz, reachable(address))


def _get_readyz(address: Address) -> bool:
    connection = HTTPConnection(address.host, address.port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def is_free(address: Address) -> bool:
    """Whether a server may listen there. gRPC would share a taken port silently; a plain bind does not."""
    if address.host.startswith("unix:"):
        return True
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


def with_port(address: Address) -> Address:
    """The address itself, or, where its port is 0, the same host with a port that is free now."""
    if address.port or address.host.startswith("unix:"):
        return address
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address.host, 0))
        return Address(address.host, int(probe.getsockname()[1]))
