"""Puts the third-party .proto files that the contracts import into a folder, taken from installed packages.

They are never committed. googleapis-common-protos ships its files as they are; protovalidate embeds only the
compiled descriptor of `validate.proto`, which is printed back as source here. Generating Python is elsewhere.

    python proto/third_party.py FOLDER
"""

import json
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.message import Message
from protovalidate._gen.buf.validate import validate_pb  # the descriptor has no public name

_GOOGLE = ("annotations", "field_behavior", "http", "httpbody")
_EXTENSION_END = 536870912  # `max` in an extension range
_LABELS = {
    FieldDescriptorProto.LABEL_OPTIONAL: "optional ",
    FieldDescriptorProto.LABEL_REQUIRED: "required ",
    FieldDescriptorProto.LABEL_REPEATED: "repeated ",
}


def collect(folder: Path) -> None:
    """Fill `folder` as an include path for protoc and a module for buf."""
    google = folder / "google" / "api"
    google.mkdir(parents=True, exist_ok=True)
    packaged = distribution("googleapis-common-protos")
    for name in _GOOGLE:
        shutil.copyfile(str(packaged.locate_file(f"google/api/{name}.proto")), google / f"{name}.proto")
    validate = folder / "buf" / "validate"
    validate.mkdir(parents=True, exist_ok=True)
    (validate / "validate.proto").write_text(_Source(_validate_descriptor()).text(), encoding="utf-8")


def _validate_descriptor() -> FileDescriptorProto:
    return FileDescriptorProto.FromString(validate_pb._DESC.proto.to_binary())


class _Source:
    """A proto2 file as source text. Knows what `validate.proto` uses, and stops at anything else."""

    def __init__(self, file: FileDescriptorProto) -> None:
        if file.syntax not in ("", "proto2") or file.service:
            raise SystemExit(f"{file.name}: cannot be printed as proto2 source")
        self._file = file
        self._pool = descriptor_pool.DescriptorPool()
        for name in file.dependency:
            module = import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
            self._pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        self._pool.AddSerializedFile(file.SerializeToString())

    def text(self) -> str:
        file = self._file
        lines = ['syntax = "proto2";', f"package {file.package};"]
        lines += [f'import "{name}";' for name in file.dependency]
        lines += [f"option {option};" for option in self._options(file.options)]
        for extension in file.extension:
            lines += [f"extend {extension.extendee} {{", self._field(extension, "optional "), "}"]
        for enum in file.enum_type:
            lines += _enum(enum)
        for message in file.message_type:
            lines += self._message(message)
        return "\n".join(lines) + "\n"

    def _message(self, message: DescriptorProto) -> Iterator[str]:
        yield f"message {message.name} {{"
        yield from (f"option {option};" for option in self._options(message.options))
        for nested in message.nested_type:
            if not nested.options.map_entry:
                yield from self._message(nested)
        for enum in message.enum_type:
            yield from _enum(enum)
        yield from self._fields(message)
        for extension_range in message.extension_range:
            end = "max" if extension_range.end == _EXTENSION_END else extension_range.end - 1
            yield f"extensions {extension_range.start} to {end};"
        yield from (f"reserved {each.start} to {each.end - 1};" for each in message.reserved_range)
        yield from (f'reserved "{name}";' for name in message.reserved_name)
        yield "}"

    def _fields(self, message: DescriptorProto) -> Iterator[str]:
        maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
        inside = -1  # the oneof that is open
        for field in message.field:
            oneof = field.oneof_index if field.HasField("oneof_index") else -1
            if oneof != inside and inside != -1:
                yield "}"
            if oneof not in (inside, -1):
                yield f"oneof {message.oneof_decl[oneof].name} {{"
            inside = oneof
            entry = maps.get(field.type_name.rpartition(".")[2])
            if entry:
                kinds = ", ".join(_type(each) for each in entry.field)
                yield f"map<{kinds}> {field.name} = {field.number};"
            else:
                yield self._field(field, "" if oneof != -1 else _LABELS[field.label])
        if inside != -1:
            yield "}"

    def _field(self, field: FieldDescriptorProto, label: str) -> str:
        options = list(self._options(field.options))
        if field.HasField("default_value"):
            options.append(f"default = {field.default_value}")
        shown = f" [{', '.join(options)}]" if options else ""
        return f"{label}{_type(field)} {field.name} = {field.number}{shown};"

    def _options(self, options: Message) -> Iterator[str]:
        """Options as `name = value`, the file's own extensions among them."""
        kind = self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name)
        known = message_factory.GetMessageClass(kind).FromString(options.SerializeToString())
        for field, value in known.ListFields():
            name = f"({field.full_name})" if field.is_extension else field.name
            for each in value if field.is_repeated else (value,):
                yield f"{name} = {_value(field, each)}"


def _value(field: FieldDescriptor, value: Any) -> str:
    if isinstance(value, Message):
        return "{ " + text_format.MessageToString(value, as_utf8=True, as_one_line=True) + " }"
    if field.enum_type:
        return str(field.enum_type.values_by_number[value].name)
    return json.dumps(value, ensure_ascii=False)


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from (f"{value.name} = {value.number};" for value in enum.value)
    yield from (f"reserved {each.start} to {each.end};" for each in enum.reserved_range)
    yield from (f'reserved "{name}";' for name in enum.reserved_name)
    yield "}"


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
