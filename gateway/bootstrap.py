"""Puts the gateway together: the only place that knows all of its parts."""

import importlib
import pkgutil
from collections.abc import Iterator

import grpc
from google.protobuf.descriptor import ServiceDescriptor

import gen.assent.v1
from gateway.api import Api, Limits
from gateway.app import Gateway
from gateway.probes import Probes
from gateway.routes import Router
from gateway.server import HttpServer
from gateway.settings import Settings
from gateway.streaming import Closing, Pace
from rpc.channel import connect


def public_services() -> Iterator[ServiceDescriptor]:
    """Every service of the public contract, whatever its name."""
    for module in pkgutil.iter_modules(gen.assent.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"{gen.assent.v1.__name__}.{module.name}").DESCRIPTOR
            yield from file.services_by_name.values()


def build(settings: Settings) -> tuple[HttpServer, grpc.aio.Channel]:
    """Wire a gateway, and the channel that is to be closed after it. The orchestrator need not be there yet."""
    channel = connect(settings.grpc_addr)
    return serve(Router(public_services()), channel, settings.http_addr), channel


def serve(
    router: Router,
    channel: grpc.aio.Channel,
    address: str,
    *,
    limits: Limits | None = None,
    pace: Pace | None = None,
) -> HttpServer:
    """A server of these routes over this channel; tests give it a contract of their own."""
    closing = Closing()
    api = Api(router, channel, closing, limits=limits, pace=pace)
    return HttpServer(Gateway(api, Probes(channel)), address, closing)
