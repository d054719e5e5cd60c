"""A small contract of every RPC shape, made without a compiler, for tests of what the services share.

EchoRequest {string text = 1 [1..100 characters]; repeated EchoItem items = 2 [at most 3000]; EchoRequest nested = 3}
EchoItem {string name = 1 [at least 1 character]}
EchoResponse {string text = 1; int32 number = 2}
service EchoService {Say: unary; Count: server stream; Sum: client stream; Chat: both} under `session.read`
service BareService {Say: unary} without a permission
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from gen.assent.v1 import options_pb2
from gen.buf.validate import validate_pb2

ECHO = "assent.test.EchoService"
BARE = "assent.test.BareService"
_SHAPES = {"Say": (False, False), "Count": (False, True), "Sum": (True, False), "Chat": (True, True)}


def _field(message: Any, number: int, name: str, kind: Any, **more: Any) -> Any:
    label = more.pop("label", FieldDescriptorProto.LABEL_OPTIONAL)
    return message.field.add(name=name, number=number, type=kind, label=label, **more)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="assent/test/echo.proto",
        package="assent.test",
        syntax="proto3",
        dependency=["assent/v1/options.proto", "buf/validate/validate.proto"],
    )
    request, item, response = (file.message_type.add(name=f"Echo{name}") for name in ("Request", "Item", "Response"))
    text = _field(request, 1, "text", FieldDescriptorProto.TYPE_STRING)
    text.options.Extensions[validate_pb2.field].string.min_len = 1
    text.options.Extensions[validate_pb2.field].string.max_len = 100
    repeated = FieldDescriptorProto.LABEL_REPEATED
    _field(request, 2, "items", FieldDescriptorProto.TYPE_MESSAGE, type_name=".assent.test.EchoItem", label=repeated)
    request.field[-1].options.Extensions[validate_pb2.field].repeated.max_items = 3000
    _field(request, 3, "nested", FieldDescriptorProto.TYPE_MESSAGE, type_name=".assent.test.EchoRequest")
    name = _field(item, 1, "name", FieldDescriptorProto.TYPE_STRING)
    name.options.Extensions[validate_pb2.field].string.min_len = 1
    _field(response, 1, "text", FieldDescriptorProto.TYPE_STRING)
    _field(response, 2, "number", FieldDescriptorProto.TYPE_INT32)
    for service, names, permission in (("EchoService", _SHAPES, "session.read"), ("BareService", ["Say"], "")):
        declared = file.service.add(name=service)
        for rpc in names:
            takes, gives = _SHAPES[rpc]
            method = declared.method.add(
                name=rpc,
                input_type=".assent.test.EchoRequest",
                output_type=".assent.test.EchoResponse",
                client_streaming=takes,
                server_streaming=gives,
            )
            if permission:
                method.options.Extensions[options_pb2.permission] = permission
    return file


_pool = descriptor_pool.Default()
_pool.Add(_file())
EchoRequest: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("assent.test.EchoRequest"))
EchoResponse: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("assent.test.EchoResponse"))
EchoItem: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("assent.test.EchoItem"))


class Echo:
    """Answers plainly; a test overrides the method it is about."""

    async def Say(self, request: Any, context: Any) -> Any:
        return EchoResponse(text=request.text)

    async def Count(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for number in range(3):
            yield EchoResponse(text=request.text, number=number)

    async def Sum(self, requests: AsyncIterator[Any], context: Any) -> Any:
        return EchoResponse(text=" ".join([request.text async for request in requests]))

    async def Chat(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield EchoResponse(text=request.text)


_MAKERS: Any = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def register_echo(servicer: Any, server: Any) -> None:
    """As a generated `add_EchoServiceServicer_to_server` does."""
    _register(ECHO, servicer, server, list(_SHAPES))


def register_bare(servicer: Any, server: Any) -> None:
    """As a generated `add_BareServiceServicer_to_server` does."""
    _register(BARE, servicer, server, ["Say"])


def _register(service: str, servicer: Any, server: Any, names: list[str]) -> None:
    handlers = {
        name: _MAKERS[_SHAPES[name]](
            getattr(servicer, name),
            request_deserializer=EchoRequest.FromString,
            response_serializer=EchoResponse.SerializeToString,
        )
        for name in names
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)


class EchoStub:
    """The client of EchoService; requests may also be given as bytes, to send what no message would say."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        def encode(request: Any) -> bytes:
            encoded: bytes = request if isinstance(request, bytes) else request.SerializeToString()
            return encoded

        codec: Any = {"request_serializer": encode, "response_deserializer": EchoResponse.FromString}
        self.Say: Any = channel.unary_unary(f"/{ECHO}/Say", **codec)
        self.Count: Any = channel.unary_stream(f"/{ECHO}/Count", **codec)
        self.Sum: Any = channel.stream_unary(f"/{ECHO}/Sum", **codec)
        self.Chat: Any = channel.stream_stream(f"/{ECHO}/Chat", **codec)
