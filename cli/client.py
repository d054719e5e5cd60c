"""The public API as the command line uses it: calls that end in an answer or a Trouble, and a session's events.

Everything goes through the generated stubs of the contract; there is no private way into the services.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, Self, TypeVar

import grpc

from cli.trouble import ExitCode, Trouble
from gen.assent.v1.approval_service_pb2 import WatchApprovalsRequest, WatchApprovalsResponse
from gen.assent.v1.approval_service_pb2_grpc import ApprovalServiceStub
from gen.assent.v1.event_pb2 import SessionEvent
from gen.assent.v1.plan_service_pb2_grpc import PlanServiceStub
from gen.assent.v1.run_service_pb2_grpc import RunServiceStub
from gen.assent.v1.session_service_pb2 import STREAM_UNTIL_FOREVER, StreamSessionRequest, StreamSessionResponse
from gen.assent.v1.session_service_pb2_grpc import SessionServiceStub
from rpc.channel import connect
from rpc.problem import Problem

Response = TypeVar("Response")

CALL_SECONDS = 20.0
RETRY_SECONDS = 15.0  # a service that is being started again comes back within this
RECONNECT_SECONDS = 60.0
PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 4.0


class ListRequest(Protocol):
    page_token: str


class ListResponse(Protocol):
    next_page_token: str


Page = TypeVar("Page", bound=ListResponse)


class Client:
    """A channel to one orchestrator with the stubs of its services; use as an async context.

    `caller` is the metadata that says who asks; nothing: the developer.
    """

    def __init__(self, address: str, caller: Sequence[tuple[str, str]] = ()) -> None:
        self.address = address
        self._caller = tuple(caller)
        self._answered = False

    async def __aenter__(self) -> Self:
        self._channel = connect(self.address)
        self.sessions = SessionServiceStub(self._channel)
        self.plans = PlanServiceStub(self._channel)
        self.runs = RunServiceStub(self._channel)
        self.approvals = ApprovalServiceStub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(
        self, method: Callable[..., Awaitable[Response]], request: object, *, once: bool = False
    ) -> Response:
        """The answer to one request, or a Trouble in the server's words.

        Repeated for a while where the server says that a repeat may help: reads are harmless, and what changes
        something carries a request id. `once` for the caller who repeats by itself.
        """
        deadline = time.monotonic() + (0 if once else RETRY_SECONDS)
        while True:
            try:
                answer = await method(request, timeout=CALL_SECONDS, metadata=self._caller)
            except grpc.aio.AioRpcError as error:
                problem = Problem.from_rpc_error(error)
                pause = problem.retry_after or PAUSE_SECONDS
                worth_it = problem.disposition == "RETRYABLE" and (problem.reason or self._answered)
                if not worth_it or time.monotonic() + pause > deadline:
                    raise self.trouble(problem) from error
                await asyncio.sleep(pause)
            else:
                self._answered = True
                return answer

    async def pages(self, method: Callable[..., Awaitable[Page]], request: ListRequest) -> AsyncIterator[Page]:
        """Every page of a list, from the one that is asked for on."""
        while True:
            page = await self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def follow(
        self,
        session_id: str,
        *,
        after: Callable[[], int],
        lost: Callable[[str], None],
    ) -> AsyncGenerator[SessionEvent, None]:
        """The session's events from after `after()` on, for ever: a broken stream begins again where it broke.

        `lost` is told why. Gives up after a minute in which nothing came.
        """

        def open_stream() -> AsyncIterable[StreamSessionResponse]:
            request = StreamSessionRequest(
                session_id=session_id,
                after_sequence=after(),
                until=STREAM_UNTIL_FOREVER,
                include_deltas=True,
            )
            return self.sessions.StreamSession(request, metadata=self._caller)

        async with aclosing(self._streamed(open_stream, lost)) as responses:
            async for response in responses:
                for event in response.events:
                    yield event

    async def watch_approvals(
        self, request: WatchApprovalsRequest, *, lost: Callable[[str], None]
    ) -> AsyncGenerator[WatchApprovalsResponse, None]:
        """The inbox, for ever; a broken stream begins again with a snapshot. `lost` is told why."""

        def open_stream() -> AsyncIterable[WatchApprovalsResponse]:
            return self.approvals.WatchApprovals(request, metadata=self._caller)

        async with aclosing(self._streamed(open_stream, lost)) as responses:
            async for response in responses:
                yield response

    async def _streamed(
        self, open_stream: Callable[[], AsyncIterable[Response]], lost: Callable[[str], None]
    ) -> AsyncGenerator[Response, None]:
        deadline = time.monotonic() + RECONNECT_SECONDS
        pause = PAUSE_SECONDS
        while True:
            try:
                async for response in open_stream():
                    self._answered = True
                    deadline, pause = time.monotonic() + RECONNECT_SECONDS, PAUSE_SECONDS
                    yield response
            except grpc.aio.AioRpcError as error:
                problem = Problem.from_rpc_error(error)
                transient = problem.disposition == "RETRYABLE" and self._answered
                if not transient or time.monotonic() > deadline:
                    raise self.trouble(problem) from error
                lost(problem.message or problem.code.name)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def trouble(self, problem: Problem) -> Trouble:
        """A refusal as one clear text: the reason, the words, the fields named."""
        if problem.code is grpc.StatusCode.UNAVAILABLE and not problem.reason:
            hint = "is it running? `assent up` starts it; --server names another address"
            return Trouble(f"nobody answers at {self.address}: {hint}", ExitCode.UNREACHABLE)
        if problem.code is grpc.StatusCode.DEADLINE_EXCEEDED and not problem.reason:
            late = f"no answer from {self.address} in {CALL_SECONDS:.0f} s"
            return Trouble(late, ExitCode.UNREACHABLE)
        text = f"{problem.message} ({problem.reason or problem.code.name})"
        named = [f"{field}: {what}" if field else what for field, what in problem.fields]
        fields = [f"\n  {each}" for each in named if each not in problem.message]
        return Trouble(text + "".join(fields), reason=problem.reason)


def new_request_id() -> str:
    """What makes a repeated request the same request (AIP-155)."""
    return str(uuid.uuid4())
