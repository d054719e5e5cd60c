"""What the contract says of one RPC: its name, its permission, how its messages are read and written.

Read from descriptors at start-up, so that an RPC nobody gave a permission stops the process, not a request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

_PERMISSION_OPTION = "assent.v1.permission"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class BadService(Exception):
    """A service that cannot be served as it is declared or written; found at start-up."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC; an empty permission means that none is needed."""

    service: str
    name: str
    permission: str

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"


class _Recorder:
    """Stands in for a grpc server to learn what a generated `add_…_to_server` function registers."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, Handler]] = {}

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """The same handlers arrive, by name, in the other method."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self.handlers[service] = handlers


def handlers_of(service: str, servicer: object, register: Callable[[Any, Any], None]) -> Mapping[str, Handler]:
    """The handlers that a generated `add_…_to_server` function makes of a servicer, by method name."""
    recorder = _Recorder()
    register(servicer, recorder)
    if service not in recorder.handlers:
        raise BadService(f"{type(servicer).__name__} registers {sorted(recorder.handlers)}, not {service}")
    return recorder.handlers[service]


def method_of(service: str, name: str, *, needs_permission: bool) -> Method:
    """The method with its permission from the contract; BadService when it needs one and names none."""
    if not needs_permission:
        return Method(service, name, "")
    permission = _permission(descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name))
    if not permission:
        raise BadService(f"{service}/{name} has no ({_PERMISSION_OPTION}) option: nobody may call it")
    return Method(service, name, permission)


def _permission(method: MethodDescriptor) -> str:
    for option, value in method.GetOptions().ListFields():
        if option.full_name == _PERMISSION_OPTION:
            return str(value)
    return ""
