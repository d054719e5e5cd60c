"""What the contract has and this version does not do, refused by name: whole RPCs as UNIMPLEMENTED, fields as invalid.

Nothing that a client says is ignored.
"""

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, TypeVar

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from orchestrator.domain.errors import InvalidInput, NotYetSupported, Violation
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


def refuse_later(*parts: tuple[str, Message, Collection[str]]) -> None:
    """Each part: where it stands in the request, and which of its fields come later. Raises InvalidInput."""
    given = [f"{path}{f.name}" for path, said, later in parts for f, _ in said.ListFields() if f.name in later]
    if given:
        raise InvalidInput([Violation(name, "is not supported by this version") for name in given])
