"""SessionService: sessions, messages, and following what happens in them."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from gen.assent.v1 import event_pb2, message_pb2, run_pb2, session_pb2, step_pb2
from gen.assent.v1 import session_service_pb2 as pb
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import ClientTool
from orchestrator.domain.states import RunState
from orchestrator.operations import client_calls, sessions
from orchestrator.operations.context import Caller, Context
from orchestrator.operations.sessions import NewSession
from orchestrator.servicers.approvals import decide_as_said
from orchestrator.servicers.budgets import read_budget
from orchestrator.servicers.convert import enum_word, event_to_proto, item_to_proto, to_proto
from orchestrator.servicers.later import refuse_later, the_rest_later
from orchestrator.servicers.requests import caller, reader
from orchestrator.store import queries
from orchestrator.store.paging import Paging
from orchestrator.store.settled import awaited
from orchestrator.streaming.feed import FeedItem, Settled
from orchestrator.streaming.hub import Hub
from rpc import logs
from rpc.errors import Context as RpcContext

_WAITS = event_pb2.SETTLED_REASON_WAITING_FOR_DECISION  # until more is known; without an active run it is another


@the_rest_later(pb.DESCRIPTOR.services_by_name["SessionService"])
class Sessions:
    def __init__(self, ctx: Context, hub: Hub) -> None:
        self._ctx = ctx
        self._hub = hub

    async def CreateSession(self, request: pb.CreateSessionRequest, context: RpcContext) -> pb.CreateSessionResponse:
        refuse_later(
            ("settings.", request.settings, ("allowed_providers",)),
            ("workspace.", request.workspace, ("repository", "base_branch")),
        )
        wish = NewSession(
            request.title,
            request.agent or "auto",
            dict(request.labels),
            enum_word(session_pb2.WhenBusy.DESCRIPTOR, request.settings.when_busy),
            request.workspace.root_id,
            request.workspace.directory,
            read_budget(request.settings.budget, "settings.budget"),
            request.settings.priority,
            [_client_tool(tool) for tool in request.client_tools],
            request.settings.policy,
        )
        session = await sessions.create(self._ctx, caller("CreateSession", request), wish)
        return pb.CreateSessionResponse(session=to_proto(session_pb2.Session, session))

    async def GetSession(self, request: pb.GetSessionRequest, context: RpcContext) -> pb.GetSessionResponse:
        session = await queries.get_session(self._ctx.database, reader().tenant, request.session_id)
        if session is None:
            raise NotFound("session", request.session_id)
        return pb.GetSessionResponse(session=to_proto(session_pb2.Session, session))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: RpcContext) -> pb.ListSessionsResponse:
        page = await queries.list_sessions(
            self._ctx.database,
            reader().tenant,
            state=enum_word(session_pb2.SessionState.DESCRIPTOR, request.state),
            labels=request.labels,
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(session_pb2.Session, replace(s, client_tools=[])) for s in page.items]
        return pb.ListSessionsResponse(sessions=found, next_page_token=page.next_page_token)

    async def SendMessage(self, request: pb.SendMessageRequest, context: RpcContext) -> pb.SendMessageResponse:
        logs.bind(session_id=request.session_id)
        who = caller("SendMessage", request)
        sent = await sessions.send_message(self._ctx, who, request.session_id, request.text, request.agent)
        return pb.SendMessageResponse(
            message=to_proto(message_pb2.Message, sent.message),
            run=to_proto(run_pb2.Run, sent.run),
            last_sequence=sent.last_sequence,
        )

    async def ListMessages(self, request: pb.ListMessagesRequest, context: RpcContext) -> pb.ListMessagesResponse:
        await self._require(request.session_id)
        page = await queries.list_messages(
            self._ctx.database,
            reader().tenant,
            request.session_id,
            paging=Paging(request.page_size, request.page_token),
        )
        found = [to_proto(message_pb2.Message, m) for m in page.items]
        return pb.ListMessagesResponse(messages=found, next_page_token=page.next_page_token)

    async def ListEvents(self, request: pb.ListEventsRequest, context: RpcContext) -> pb.ListEventsResponse:
        await self._require(request.session_id)
        page = await queries.list_events(
            self._ctx.database,
            reader().tenant,
            request.session_id,
            after=request.after_sequence,
            paging=Paging(request.page_size, request.page_token),
        )
        found = [event_to_proto(e, with_payload=True) for e in page.items]
        return pb.ListEventsResponse(events=found, next_page_token=page.next_page_token)

    async def ClaimToolCall(self, request: pb.ClaimToolCallRequest, context: RpcContext) -> pb.ClaimToolCallResponse:
        lease = request.lease.ToMicroseconds() if request.HasField("lease") else client_calls.DEFAULT_LEASE
        who = caller("ClaimToolCall", request)
        step = await client_calls.claim(self._ctx, who, request.step_id, request.client_id, lease)
        claimed = to_proto(step_pb2.Step, step)
        return pb.ClaimToolCallResponse(step=claimed, lease_expire_time=claimed.lease_expire_time)

    async def SubmitToolResult(
        self, request: pb.SubmitToolResultRequest, context: RpcContext
    ) -> pb.SubmitToolResultResponse:
        logs.bind(session_id=request.session_id)
        who = caller("SubmitToolResult", request)
        recorded = await client_calls.submit(
            self._ctx, who, request.session_id, request.step_id, request.client_id, said_in(request)
        )
        return pb.SubmitToolResultResponse(step=to_proto(step_pb2.Step, recorded.step))

    async def SwitchAgent(self, request: pb.SwitchAgentRequest, context: RpcContext) -> pb.SwitchAgentResponse:
        logs.bind(session_id=request.session_id)
        who = caller("SwitchAgent", request)
        switched = await sessions.switch(self._ctx, who, request.session_id, request.agent)
        return pb.SwitchAgentResponse(session=to_proto(session_pb2.Session, switched.session))

    async def StreamSession(
        self, request: pb.StreamSessionRequest, context: RpcContext
    ) -> AsyncIterator[pb.StreamSessionResponse]:
        logs.bind(session_id=request.session_id)
        until_settled = request.until == pb.STREAM_UNTIL_SETTLED
        with self._hub.join(reader().tenant, request.session_id, deltas=request.include_deltas) as watch:
            async for items in watch.batches(after=request.after_sequence, until_settled=until_settled):
                events = await self._shown(request.session_id, items, request.include_payload_json)
                yield pb.StreamSessionResponse(events=events)

    async def CloseSession(self, request: pb.CloseSessionRequest, context: RpcContext) -> pb.CloseSessionResponse:
        logs.bind(session_id=request.session_id)
        who = caller("CloseSession", request)
        session = await sessions.close(self._ctx, who, request.session_id, request.reason)
        return pb.CloseSessionResponse(session=to_proto(session_pb2.Session, session))

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: RpcContext) -> pb.DeleteSessionResponse:
        logs.bind(session_id=request.session_id)
        await sessions.delete(self._ctx, caller("DeleteSession", request), request.session_id)
        return pb.DeleteSessionResponse()

    async def Converse(self, request: pb.ConverseRequest, context: RpcContext) -> AsyncIterator[pb.ConverseResponse]:
        logs.bind(session_id=request.session_id)
        who = caller("Converse", request)
        with self._hub.join(who.tenant, request.session_id, deltas=not request.omit_deltas) as watch:
            with _naming(request.WhichOneof("input") or ""):
                after = await self._say(request, who)
            async for items in watch.batches(after=after, until_settled=True):
                yield pb.ConverseResponse(events=await self._shown(request.session_id, items))

    async def _shown(
        self, session_id: str, items: Sequence[FeedItem], with_payload: bool = False
    ) -> list[event_pb2.SessionEvent]:
        now = self._ctx.clock()
        shown = [item_to_proto(session_id, item, now, with_payload=with_payload) for item in items]
        if items and isinstance(items[-1], Settled) and shown[-1].settled.reason == _WAITS:
            await self._say_why(session_id, shown[-1].settled)
        return shown

    async def _say_why(self, session_id: str, told: event_pb2.Settled) -> None:
        """What the session's active run waits for."""
        waits = await awaited(self._ctx.database, reader().tenant, session_id)
        if waits is None:
            return
        told.run_id = waits.run_id
        told.approval_ids.extend(waits.approval_ids)
        if waits.run_state == RunState.PAUSED:
            told.reason = event_pb2.SETTLED_REASON_PAUSED
        elif waits.of_client and not waits.approval_ids:
            told.reason = event_pb2.SETTLED_REASON_WAITING_FOR_CLIENT

    async def _say(self, request: pb.ConverseRequest, who: Caller) -> int:
        """Does the one thing that was asked; the sequence that its events follow."""
        match request.WhichOneof("input"):
            case "user_message":
                said = request.user_message
                sent = await sessions.send_message(self._ctx, who, request.session_id, said.text, said.agent)
                return sent.message.sequence - 1
            case "tool_decision" | "plan_decision" as name:
                said = getattr(request, name)
                decided = await decide_as_said(
                    self._ctx, who, said, session_id=request.session_id, on_plan=name == "plan_decision"
                )
                return decided.began_after
            case "tool_result":
                came = request.tool_result
                recorded = await client_calls.submit(
                    self._ctx, who, request.session_id, came.step_id, came.client_id, said_in(came)
                )
                return recorded.began_after
            case _:
                agent = request.switch_agent.agent
                return (await sessions.switch(self._ctx, who, request.session_id, agent)).began_after

    async def _require(self, session_id: str) -> None:
        if await queries.get_session(self._ctx.database, reader().tenant, session_id) is None:
            raise NotFound("session", session_id)


def _client_tool(said: session_pb2.ClientTool) -> ClientTool:
    then = enum_word(session_pb2.ClientTimeoutAction.DESCRIPTOR, said.on_timeout)
    return ClientTool(said.name, said.description, said.input_schema_json, said.time_limit.ToMicroseconds(), then)


def said_in(request: pb.SubmitToolResultRequest | pb.ClientToolResult) -> client_calls.Said:
    """What a client says its call came to."""
    if request.WhichOneof("outcome") == "error":
        return client_calls.Said(error=request.error)
    return client_calls.Said(request.content_json)


@contextmanager
def _naming(part: str) -> Iterator[None]:
    """What is wrong with a part of the request is named as the request has it."""
    try:
        yield
    except InvalidInput as error:
        raise error.within(part) from None
