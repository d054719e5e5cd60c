"""RPCs of the contract that this version does not carry out: they answer UNIMPLEMENTED with their name."""

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from orchestrator.domain.errors import NotYetSupported
from rpc.errors import Context as RpcContext

C = TypeVar("C", bound=type)


def the_rest_later(service: ServiceDescriptor) -> Callable[[C], C]:
    """A class decorator: every RPC of the service that the servicer has no method for is refused by name."""

    def complete(servicer: C) -> C:
        for method in service.methods:
            if not hasattr(servicer, method.name):
                setattr(servicer, method.name, _refusal(method))
        return servicer

    return complete


def _refusal(method: MethodDescriptor) -> Callable[..., Any]:
    async def refuse(self: object, request: object, context: RpcContext) -> None:
        raise NotYetSupported(method.name)

    async def refuse_stream(self: object, request: object, context: RpcContext) -> AsyncIterator[None]:
        raise NotYetSupported(method.name)
        yield  # makes this the generator that a streaming RPC is

    return refuse_stream if method.server_streaming else refuse
