"""A client of the orchestrator as tests speak to it: short calls over the generated stubs, and streams to wait on."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from gen.assent.v1 import (
    approval_pb2,
    approval_service_pb2,
    approval_service_pb2_grpc,
    catalog_service_pb2,
    catalog_service_pb2_grpc,
    event_pb2,
    message_pb2,
    plan_pb2,
    plan_service_pb2,
    plan_service_pb2_grpc,
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    step_pb2,
    usage_service_pb2_grpc,
)
from rpc.channel import ChannelLimits, connect
from rpc.principal import DEVELOPER, PERMISSIONS, Metadata, Principal
from rpc.problem import Problem

LIMIT_SECONDS = 10.0
TENANT, SUBJECT, ROLES = "x-test-tenant", "x-test-subject", "x-test-roles"


def principal_of(metadata: Metadata) -> Principal:
    """Who the test says it is; without a word the developer."""
    said = {key: str(value) for key, value in metadata}
    subject = said.get(SUBJECT, DEVELOPER.subject)
    roles = DEVELOPER.roles if subject == DEVELOPER.subject else frozenset(said.get(ROLES, "").split(",")) - {""}
    return Principal(said.get(TENANT, DEVELOPER.tenant), subject, PERMISSIONS, roles)


def subtask(key: str, *depends_on: str, agent: str = "coder", **more: Any) -> plan_pb2.SubtaskDraft:
    return plan_pb2.SubtaskDraft(
        key=key, title=f"The {key}", instructions=f"Do {key}.", agent=agent, depends_on=depends_on, **more
    )


def words(message: Message) -> dict[str, Any]:
    """A message's fields, states in the domain's words; what is not there is left out."""
    fields = {}
    for descriptor, value in message.ListFields():
        if descriptor.enum_type is not None and not descriptor.is_repeated:
            prefix = descriptor.enum_type.values[0].name.removesuffix("UNSPECIFIED")
            value = descriptor.enum_type.values_by_number[value].name.removeprefix(prefix)
        fields[descriptor.name] = value
    return fields


def state(message: Message) -> str:
    """The state a thing is in."""
    found: str = words(message).get("state", "")
    return found


def payload(event: event_pb2.SessionEvent) -> tuple[str, dict[str, Any]]:
    """The event's name and its fields."""
    name = event.WhichOneof("payload") or ""
    return name, words(getattr(event, name)) if name else {}


class Log(list[event_pb2.SessionEvent]):
    """Events in the order they came."""

    def of(self, name: str, **wanted: object) -> list[dict[str, Any]]:
        """The fields of the events of this name that have these values."""
        named = [fields for event_name, fields in map(payload, self) if event_name == name]
        return [fields for fields in named if all(fields.get(key, "") == value for key, value in wanted.items())]

    @property
    def durable(self) -> "Log":
        return Log(event for event in self if event.sequence)

    @property
    def sequences(self) -> list[int]:
        return [event.sequence for event in self.durable]

    @property
    def session_states(self) -> list[str]:
        return [fields["to_state"] for fields in self.of("session_state_changed")]

    @property
    def names(self) -> list[str]:
        return [payload(event)[0] for event in self]


class Watch:
    """A stream of a session's events; what was read is kept in `log`."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.log = Log()
        self._unread: list[event_pb2.SessionEvent] = []

    async def until(self, name: str, **wanted: object) -> dict[str, Any]:
        """Read on to the next event of this name with these fields."""
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                while True:
                    event = await self._next()
                    if event is None:
                        raise AssertionError(f"the stream ended before {name} {wanted}: {self.log.names}")
                    if found := Log([event]).of(name, **wanted):
                        return found[0]
        except TimeoutError:
            raise AssertionError(f"no {name} {wanted}; there were {[payload(e) for e in self.log]}") from None

    async def end(self, limit: float = LIMIT_SECONDS) -> Log:
        """Read to the stream's end."""
        try:
            async with asyncio.timeout(limit):
                while await self._next() is not None:
                    pass
        except TimeoutError:
            raise AssertionError(f"the stream goes on; there were {[payload(e) for e in self.log]}") from None
        return self.log

    async def _next(self) -> event_pb2.SessionEvent | None:
        while not self._unread:
            response = await self.call.read()
            if response is grpc.aio.EOF:
                return None
            self._unread += response.events
        self.log.append(self._unread.pop(0))
        return self.log[-1]


class Client:
    """One person's calls."""

    def __init__(
        self, channel: grpc.aio.Channel, *, subject: str = "developer", tenant: str = "default", roles: str = ""
    ) -> None:
        self.channel = channel
        self.subject = subject
        self.metadata = ((TENANT, tenant), (SUBJECT, subject), (ROLES, roles))
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.plans = plan_service_pb2_grpc.PlanServiceStub(channel)
        self.runs = run_service_pb2_grpc.RunServiceStub(channel)
        self.approvals = approval_service_pb2_grpc.ApprovalServiceStub(channel)
        self.catalog = catalog_service_pb2_grpc.CatalogServiceStub(channel)
        self.usage = usage_service_pb2_grpc.UsageServiceStub(channel)

    def acting_as(self, subject: str, *, tenant: str = "default", roles: str = "") -> "Client":
        """Somebody else, over the same channel; `roles` as policies name them, separated by commas."""
        return Client(self.channel, subject=subject, tenant=tenant, roles=roles)

    async def call(self, rpc: Any, request: Any) -> Any:
        """One unary call; a refusal is raised as a Problem."""
        try:
            return await rpc(request, metadata=self.metadata, timeout=LIMIT_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise Problem.from_rpc_error(error) from None

    # Sessions

    async def new_session(self, **fields: Any) -> session_pb2.Session:
        response = await self.call(
            self.sessions.CreateSession, session_service_pb2.CreateSessionRequest(**{"title": "A test", **fields})
        )
        session: session_pb2.Session = response.session
        return session

    async def get_session(self, session_id: str) -> session_pb2.Session:
        request = session_service_pb2.GetSessionRequest(session_id=session_id)
        session: session_pb2.Session = (await self.call(self.sessions.GetSession, request)).session
        return session

    async def close(self, session_id: str, *, request_id: str = "", reason: str = "all done") -> session_pb2.Session:
        request = session_service_pb2.CloseSessionRequest(session_id=session_id, request_id=request_id, reason=reason)
        session: session_pb2.Session = (await self.call(self.sessions.CloseSession, request)).session
        return session

    async def send(
        self, session_id: str, text: str = "Hello", *, agent: str = "coder", request_id: str = ""
    ) -> session_service_pb2.SendMessageResponse:
        request = session_service_pb2.SendMessageRequest(
            session_id=session_id, text=text, agent=agent, request_id=request_id
        )
        response: session_service_pb2.SendMessageResponse = await self.call(self.sessions.SendMessage, request)
        return response

    async def messages(self, session_id: str) -> list[message_pb2.Message]:
        """Newest first."""
        request = session_service_pb2.ListMessagesRequest(session_id=session_id, page_size=500)
        return list((await self.call(self.sessions.ListMessages, request)).messages)

    async def events(self, session_id: str) -> Log:
        """The whole log."""
        request = session_service_pb2.ListEventsRequest(session_id=session_id, page_size=500)
        response = await self.call(self.sessions.ListEvents, request)
        assert not response.next_page_token
        return Log(response.events)

    @asynccontextmanager
    async def watch(self, session_id: str, after: int = 0, **more: Any) -> AsyncIterator[Watch]:
        """Follow the session; leaving the block goes away without a word."""
        request = session_service_pb2.StreamSessionRequest(session_id=session_id, after_sequence=after, **more)
        call = self.sessions.StreamSession(request, metadata=self.metadata)
        try:
            yield Watch(call)
        finally:
            call.cancel()

    async def settled(self, session_id: str, after: int = 0, limit: float = LIMIT_SECONDS) -> Log:
        """Everything after the sequence, once nothing moves until somebody acts."""
        async with self.watch(session_id, after, until=session_service_pb2.STREAM_UNTIL_SETTLED) as watch:
            return await watch.end(limit)

    async def converse(self, session_id: str, **request: Any) -> Log:
        asked = session_service_pb2.ConverseRequest(session_id=session_id, **request)
        try:
            return await Watch(self.sessions.Converse(asked, metadata=self.metadata)).end()
        except grpc.aio.AioRpcError as error:
            raise Problem.from_rpc_error(error) from None

    # Catalog

    async def knows_tool(self, name: str) -> None:
        """Wait until an executor has offered this tool."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                response = await self.call(self.catalog.ListTools, catalog_service_pb2.ListToolsRequest())
                if any(tool.name == name for tool in response.tools):
                    return
                await asyncio.sleep(0.01)

    # Plans and runs

    async def new_plan(
        self, session_id: str, subtasks: Iterable[plan_pb2.SubtaskDraft] = (), **more: Any
    ) -> plan_pb2.Plan:
        request = plan_service_pb2.CreatePlanRequest(
            **{
                "session_id": session_id,
                "title": "A plan",
                "subtasks": list(subtasks) or [subtask("first"), subtask("second", "first")],
                **more,
            }
        )
        plan: plan_pb2.Plan = (await self.call(self.plans.CreatePlan, request)).plan
        return plan

    async def get_plan(self, plan_id: str) -> plan_pb2.Plan:
        request = plan_service_pb2.GetPlanRequest(plan_id=plan_id)
        plan: plan_pb2.Plan = (await self.call(self.plans.GetPlan, request)).plan
        return plan

    async def revise(
        self, plan: plan_pb2.Plan, subtasks: Iterable[plan_pb2.SubtaskDraft], **more: Any
    ) -> plan_pb2.Plan:
        request = plan_service_pb2.RevisePlanRequest(
            **{"plan_id": plan.id, "title": plan.title, "subtasks": list(subtasks), **more}
        )
        revised: plan_pb2.Plan = (await self.call(self.plans.RevisePlan, request)).plan
        return revised

    async def get_run(self, run_id: str) -> run_pb2.Run:
        request = run_service_pb2.GetRunRequest(run_id=run_id)
        run: run_pb2.Run = (await self.call(self.runs.GetRun, request)).run
        return run

    async def cancel(self, run_id: str, *, request_id: str = "", reason: str = "enough") -> run_pb2.Run:
        request = run_service_pb2.CancelRunRequest(run_id=run_id, request_id=request_id, reason=reason)
        run: run_pb2.Run = (await self.call(self.runs.CancelRun, request)).run
        return run

    async def pause(self, run_id: str, *, request_id: str = "", reason: str = "lunch") -> run_pb2.Run:
        request = run_service_pb2.PauseRunRequest(run_id=run_id, request_id=request_id, reason=reason)
        run: run_pb2.Run = (await self.call(self.runs.PauseRun, request)).run
        return run

    async def resume(self, run_id: str, *, request_id: str = "", reason: str = "") -> run_pb2.Run:
        request = run_service_pb2.ResumeRunRequest(run_id=run_id, request_id=request_id, reason=reason)
        run: run_pb2.Run = (await self.call(self.runs.ResumeRun, request)).run
        return run

    async def steps(self, run_id: str) -> list[step_pb2.Step]:
        request = run_service_pb2.ListStepsRequest(run_id=run_id, page_size=500)
        return list((await self.call(self.runs.ListSteps, request)).steps)

    # Approvals

    async def pending(self, session_id: str) -> list[approval_pb2.Approval]:
        request = approval_service_pb2.ListApprovalsRequest(
            session_id=session_id, state=approval_pb2.APPROVAL_STATE_PENDING
        )
        return list((await self.call(self.approvals.ListApprovals, request)).approvals)

    async def asked(self, session_id: str) -> approval_pb2.Approval:
        """The one question the session waits with, once it waits."""
        await self.settled(session_id)
        (approval,) = await self.pending(session_id)
        return approval

    async def first_asked(self, session_id: str) -> approval_pb2.Approval:
        """The session's first question, as it was asked: by now it may have expired."""
        async with self.watch(session_id) as watch:
            await watch.until("approval_requested")
            return watch.log[-1].approval_requested.approval

    async def get_approval(self, approval_id: str) -> approval_pb2.Approval:
        request = approval_service_pb2.GetApprovalRequest(approval_id=approval_id)
        approval: approval_pb2.Approval = (await self.call(self.approvals.GetApproval, request)).approval
        return approval

    async def decide(
        self, approval: approval_pb2.Approval, action: str, *, digest: str | None = None, **more: Any
    ) -> approval_pb2.Approval:
        request = approval_service_pb2.DecideApprovalRequest(
            approval_id=approval.id,
            action=approval_pb2.DecisionAction.Value(f"DECISION_ACTION_{action}"),
            digest=approval.digest if digest is None else digest,
            **more,
        )
        decided: approval_pb2.Approval = (await self.call(self.approvals.DecideApproval, request)).approval
        return decided

    async def refusal(self, call: Any) -> Problem:
        """What the call is refused with."""
        with pytest.raises(Problem) as refused:
            await call
        return refused.value


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with connect(f"127.0.0.1:{port}", ChannelLimits(max_send_bytes=16 * 1024 * 1024)) as channel:
        yield Client(channel)
