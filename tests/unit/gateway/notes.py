"""The contract that the gateway's tests serve, compiled once a test process from notes.proto."""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.api import annotations_pb2, httpbody_pb2
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

# Importing them puts what notes.proto imports into the descriptor pool.
_IMPORTED = (
    annotations_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    httpbody_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
PACKAGE = "gateway_tests.v1"
HERE = Path(__file__).parent


def compile_contract(folder: Path, name: str) -> list[ServiceDescriptor]:
    """The services of a .proto file, in the pool that protobuf's own JSON mapping uses."""
    google = Path(annotations_pb2.__file__).parents[2]
    with tempfile.TemporaryDirectory() as made:
        out = Path(made) / "set"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{google}"]
        subprocess.run([*protoc, f"--descriptor_set_out={out}", name], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.Default()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return [pool.FindServiceByName(f"{file.package}.{service.name}") for file in files.file for service in file.service]


@functools.cache
def note_service() -> ServiceDescriptor:
    """The service of notes.proto."""
    return compile_contract(HERE, "notes.proto")[0]


def message(name: str, **fields: Any) -> Message:
    """A message of notes.proto, by its short name."""
    note_service()
    descriptor = descriptor_pool.Default().FindMessageTypeByName(f"{PACKAGE}.{name}")
    made: Message = message_factory.GetMessageClass(descriptor)(**fields)
    return made
