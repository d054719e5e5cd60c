"""What every call passes through, composed in one place.

In order: telemetry, error boundary, admission (is the server draining), principal and permission, reading and
validation, the servicer's method. Each is a module of its own; here is only their order. The handlers of a
service are wrapped once, at start-up, so that nothing is looked up per call.
"""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from rpc import principal
from rpc.errors import Context, ErrorBoundary, Translate
from rpc.method import BadService, Handler, Method
from rpc.principal import Authenticate
from rpc.problem import Problem
from rpc.telemetry import Observer
from rpc.validation import InvalidRequest, RequestReader

Behaviour = Callable[..., Any]
OnInvalid = Callable[[InvalidRequest], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a server decides for all its RPCs."""

    translate: Translate
    authenticate: Authenticate
    admit: Callable[[], None]
    max_request_bytes: int
    on_invalid: OnInvalid  # told of a request that breaks a constraint, before its caller is


def wrap(method: Method, handler: Handler, policy: Policy) -> Handler:
    """The handler with everything around it that its contract and the server's policy ask for.

    A method that the servicer does not define is answered UNIMPLEMENTED. A streaming method is an async
    generator, or a coroutine that writes to the context; it reads its requests from the iterator it is given,
    never from the context, which holds undecoded bytes.
    """
    encode = handler.response_serializer
    if encode is None:
        raise BadService(f"{method.path} has no message types: it is not generated from a contract")
    behaviour = _behaviour(handler)
    read: Callable[[Any], Any]
    if _is_generated(behaviour):
        # Whatever the request is: a caller should not have to get one right to learn that nobody answers it.
        respond, read = _not_implemented(method), _unread
    else:
        respond, read = _responder(behaviour, handler, method), _reader(handler, method, policy)
    observer = Observer(method)

    async def answer(raw: Any, context: Context) -> Any:
        metadata = context.invocation_metadata() or ()
        call = observer.begin(metadata)
        async with ErrorBoundary(method, context, policy.translate, call.end):
            policy.admit()
            if method.permission:
                principal.enter(policy.authenticate(metadata), method.permission)
            try:
                request = read(raw)
            except InvalidRequest as refusal:
                await policy.on_invalid(refusal)
                raise
            response = await respond(request, context)
            # A single response is encoded here, where a failure to do so is an error like any other.
            return response if handler.response_streaming else encode(response)

    return _handler_like(handler, answer)


def unknown_method(path: str) -> Handler:
    """The handler of a path that no service has: a status like every other, without waiting for a request."""

    async def refuse(_requests: object, context: Context) -> None:
        async with ErrorBoundary(Method("", path, ""), context, lambda _error: None, lambda _code: None):
            raise _unimplemented(path, f"there is no RPC {path}")

    return grpc.stream_stream_rpc_method_handler(refuse)


def _reader(handler: Handler, method: Method, policy: Policy) -> Callable[[Any], Any]:
    decode = handler.request_deserializer
    if decode is None:
        raise BadService(f"{method.path} has no message types: it is not generated from a contract")
    reader = RequestReader(decode, policy.max_request_bytes)
    return reader.stream if handler.request_streaming else reader.read


def _unread(raw: Any) -> Any:
    return raw


def _responder(behaviour: Behaviour, handler: Handler, method: Method) -> Behaviour:
    if inspect.iscoroutinefunction(behaviour):
        return behaviour
    if not handler.response_streaming or not inspect.isasyncgenfunction(behaviour):
        raise BadService(f"{method.path} must be an async method, or an async generator for a stream")

    async def respond(request: Any, context: Context) -> None:
        # Closed here, and not whenever it is collected: a watcher's `finally` runs when its client goes away.
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                await context.write(response)

    return respond


def _not_implemented(method: Method) -> Behaviour:
    async def refuse(_request: object, _context: Context) -> None:
        raise _unimplemented(method.path, f"{method.path} is not implemented yet")

    return refuse


def _unimplemented(path: str, message: str) -> Problem:
    return Problem(grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", message, metadata={"method": path})


def _is_generated(behaviour: Behaviour) -> bool:
    return behaviour.__module__.endswith("_pb2_grpc")


def _behaviour(handler: Handler) -> Behaviour:
    by_shape: dict[tuple[bool, bool], Any] = {
        (False, False): handler.unary_unary,
        (False, True): handler.unary_stream,
        (True, False): handler.stream_unary,
        (True, True): handler.stream_stream,
    }
    behaviour: Behaviour = by_shape[handler.request_streaming, handler.response_streaming]
    return behaviour


def _handler_like(handler: Handler, answer: Callable[[Any, Context], Any]) -> Handler:
    """The same shape: requests arrive as bytes, streamed responses are encoded by grpc when written."""
    if handler.response_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler if handler.request_streaming else grpc.unary_stream_rpc_method_handler
        )
        return make(answer, None, handler.response_serializer)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(answer)
    return grpc.unary_unary_rpc_method_handler(answer)
