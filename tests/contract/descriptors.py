"""The contracts as descriptors, for tests that hold them to their conventions."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from google.api import field_behavior_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_ROOT = Path(__file__).parents[2]


def files(package: str) -> list[FileDescriptor]:
    """Every file of `assent.v1` or `assent.executor.v1`."""
    folder = _ROOT / "gen" / package.replace(".", "/")
    names = sorted(path.stem for path in folder.glob("*_pb2.py"))
    return [import_module(f"gen.{package}.{name}").DESCRIPTOR for name in names]


PUBLIC = files("assent.v1")
EXECUTOR = files("assent.executor.v1")
ALL = [*PUBLIC, *EXECUTOR]


def services(within: list[FileDescriptor]) -> list[ServiceDescriptor]:
    return [service for file in within for service in file.services_by_name.values()]


def methods(within: list[FileDescriptor]) -> list[MethodDescriptor]:
    return [method for service in services(within) for method in service.methods]


def messages(within: list[FileDescriptor]) -> list[Descriptor]:
    return [message for file in within for message in file.message_types_by_name.values()]


def enums(within: list[FileDescriptor]) -> list[EnumDescriptor]:
    return [enum for file in within for enum in file.enum_types_by_name.values()]


def fields(within: list[FileDescriptor]) -> list[FieldDescriptor]:
    return [field for message in messages(within) for field in message.fields]


def reachable(message: Descriptor) -> Iterator[Descriptor]:
    """The message and those inside it, except the entries of maps and what is not Assent's."""
    found = {message.full_name: message}
    queue = [message]
    while queue:
        for field in queue.pop().fields:
            inner = field.message_type
            if inner and inner.file.package.startswith("assent.") and inner.full_name not in found:
                found[inner.full_name] = inner
                if not inner.GetOptions().map_entry:
                    queue.append(inner)
    return (each for each in found.values() if not each.GetOptions().map_entry)


def inputs(within: list[FileDescriptor]) -> list[Descriptor]:
    """Every message that a caller may send, alone or inside another."""
    sent = (each for method in methods(within) for each in reachable(method.input_type))
    return list({each.full_name: each for each in sent if each.file in within}.values())


def new(message: Descriptor) -> Message:
    return GetMessageClass(message)()


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_required(field: FieldDescriptor) -> bool:
    """As documented by field_behavior."""
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviors
