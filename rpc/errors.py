"""How an exception ends an RPC: the only place where one becomes a status.

A Problem travels as it is; a process's own errors are turned into Problems by its table (`Translate`);
anything else is logged with its traceback and answered with a generic text: what it says is not for callers.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Never, TypeAlias

import grpc
import structlog

from rpc.method import Method
from rpc.problem import DETAILS_KEY, Problem
from rpc.tracing import current_trace_id

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Translate = Callable[[BaseException], Problem | None]

_log = structlog.get_logger("rpc")


def no_translation(_error: BaseException) -> Problem | None:
    """The table of a process without errors of its own."""
    return None


class ErrorBoundary:
    """Around everything that happens in one RPC, the iteration of its streams included."""

    __slots__ = ("_context", "_ended", "_method", "_translate")

    def __init__(
        self,
        method: Method,
        context: Context,
        translate: Translate,
        ended: Callable[[grpc.StatusCode], None],
    ) -> None:
        self._method = method
        self._context = context
        self._translate = translate
        self._ended = ended

    async def __aenter__(self) -> None:
        return

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is None:
            self._ended(grpc.StatusCode.OK)
        elif _ends_by_itself(error):
            self._ended(_code_of(self._context))
        else:
            problem = problem_of(error, self._method, self._translate)
            self._ended(problem.code)
            await abort(self._context, problem)


def problem_of(error: BaseException, method: Method, translate: Translate) -> Problem:
    """What the caller is told about an error; what they are not told is logged."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    problem = error if isinstance(error, Problem) else translate(error)
    if problem is not None:
        return problem
    _log.error("rpc_failed", rpc=method.path, exc_info=error)
    return Problem(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        "an internal error; the service's log has it under this trace id",
        metadata={"trace_id": current_trace_id()},
    )


async def abort(context: Context, problem: Problem) -> Never:
    """End the RPC with a problem's status."""
    status = problem.to_status()
    await context.abort(problem.code, status.message, ((DETAILS_KEY, status.SerializeToString()),))


def _ends_by_itself(error: BaseException) -> bool:
    if isinstance(error, asyncio.CancelledError):
        # A cancellation that nobody asked of this RPC escaped from something inside the handler. grpc answers
        # it with nothing at all, and the caller would wait for ever: it is an error like any other.
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    if isinstance(error, grpc.aio.BaseError):
        # The transport's own: an abort that has been sent, a peer or a server that is gone. A UsageError is a
        # mistake of ours, and grpc would send its text.
        return not isinstance(error, grpc.aio.UsageError)
    return not isinstance(error, Exception)


def _code_of(context: Context) -> grpc.StatusCode:
    """The status that was sent by an abort; without one the call was cut."""
    sent: grpc.StatusCode | None = context.code()
    return grpc.StatusCode.CANCELLED if sent is None else sent
