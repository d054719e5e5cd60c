"""A stand-in for the orchestrator: the real servicers of the contract over a list of events, played in acts.

An act is the events that follow a decision. What the rules say is not repeated here: a test writes what happens.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
from google.api.httpbody_pb2 import HttpBody

from gen.assent.v1 import (
    approval_pb2,
    approval_service_pb2,
    plan_service_pb2,
    run_report_pb2,
    run_service_pb2,
    session_service_pb2,
)
from gen.assent.v1.approval_service_pb2_grpc import add_ApprovalServiceServicer_to_server
from gen.assent.v1.artifact_pb2 import Artifact
from gen.assent.v1.event_pb2 import SessionEvent
from gen.assent.v1.grant_pb2 import Grant
from gen.assent.v1.message_pb2 import Message
from gen.assent.v1.plan_pb2 import Plan
from gen.assent.v1.plan_service_pb2_grpc import add_PlanServiceServicer_to_server
from gen.assent.v1.run_pb2 import Run
from gen.assent.v1.run_service_pb2_grpc import add_RunServiceServicer_to_server
from gen.assent.v1.session_pb2 import SESSION_STATE_CLOSED, Session
from gen.assent.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from rpc.errors import abort
from rpc.problem import Problem

SESSION = str(uuid.UUID(int=1))
RUN = str(uuid.UUID(int=2))
Action: TypeAlias = "approval_pb2.DecisionAction.ValueType"
Act = list[SessionEvent]


def event(**payload: Any) -> SessionEvent:
    """A durable event; its sequence is given when it is logged."""
    return SessionEvent(session_id=SESSION, **payload)


def an_approval(number: int, kind: "approval_pb2.ApprovalKind.ValueType", **fields: Any) -> approval_pb2.Approval:
    """A pending approval that takes APPROVE, REJECT and ABORT."""
    actions = [
        approval_pb2.DECISION_ACTION_APPROVE,
        approval_pb2.DECISION_ACTION_REJECT,
        approval_pb2.DECISION_ACTION_ABORT,
    ]
    chosen = {"allowed_actions": actions, **fields}
    return approval_pb2.Approval(
        id=str(uuid.UUID(int=100 + number)),
        session_id=SESSION,
        run_id=RUN,
        kind=kind,
        digest=hashlib.sha256(str(number).encode()).hexdigest(),
        state=approval_pb2.APPROVAL_STATE_PENDING,
        **chosen,
    )


@dataclass
class StandIn:
    """Plays `acts[0]` when a message comes, and the next one at each decision."""

    acts: list[Act]
    log: list[SessionEvent] = field(default_factory=list)
    approvals: dict[str, approval_pb2.Approval] = field(default_factory=dict)
    made: list[session_service_pb2.CreateSessionRequest] = field(default_factory=list)
    decisions: list[approval_service_pb2.DecideApprovalRequest] = field(default_factory=list)
    steered: list[Any] = field(default_factory=list)  # requests to pause, resume, cancel, close
    plan: Plan = field(default_factory=Plan)  # the only one there is; a revision of it is answered as asked for
    revised: list[plan_service_pb2.RevisePlanRequest] = field(default_factory=list)
    run: Run = field(default_factory=lambda: Run(id=RUN, session_id=SESSION))  # what steering answers
    streams: list[int] = field(default_factory=list)  # the after_sequence of each
    grants: list[Grant] = field(default_factory=list)
    report: run_report_pb2.RunReport = field(default_factory=run_report_pb2.RunReport)
    artifacts: list[tuple[Artifact, bytes]] = field(default_factory=list)  # newest first, with their bytes
    refuse: list[Problem] = field(default_factory=list)  # given, in turn, instead of answers to decisions
    callers: list[list[tuple[str, str]]] = field(default_factory=list)  # what each call said of who makes it
    counts_as: list[approval_pb2.Vote] = field(default_factory=list)  # what decisions come to: votes, not the last ones
    lose: int = 0  # the first stream leaves this sequence out
    cut_after: int = 0  # the first stream breaks once it has sent this sequence
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def play(self, act: Act) -> None:
        """Log events, all at once, as one change set would."""
        async with self._grown:
            for each in act:
                if each.WhichOneof("payload") != "message_delta":
                    each.sequence = sum(1 for old in self.log if old.sequence) + 1
                self.log.append(each)
                if each.HasField("approval_requested"):
                    approval = each.approval_requested.approval
                    self.approvals[approval.id] = approval
            self._grown.notify_all()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until something is so; every call and every event is a reason to look again."""
        async with asyncio.timeout(20), self._grown:
            await self._grown.wait_for(true)

    async def asked(self, approval_id: str) -> None:
        """Wait until the approval has been asked for."""
        await self.until(lambda: approval_id in self.approvals)

    async def decided(self) -> None:
        """Wait until somebody has tried to decide."""
        await self.until(lambda: bool(self.decisions))

    async def streamed(self) -> None:
        """Wait until somebody watches."""
        await self.until(lambda: bool(self.streams))

    async def _notice(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    async def decided_elsewhere(self, approval_id: str, action: Action) -> None:
        """Somebody else decides."""
        await self._resolve(approval_id, action, "somebody")

    async def CreateSession(self, request: Any, context: Any) -> session_service_pb2.CreateSessionResponse:
        self.made.append(request)
        return session_service_pb2.CreateSessionResponse(session=self._session())

    async def GetSession(self, request: Any, context: Any) -> session_service_pb2.GetSessionResponse:
        if request.session_id != SESSION:
            unknown = f"there is no session {request.session_id}"
            await abort(context, Problem(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND", unknown))
        return session_service_pb2.GetSessionResponse(session=self._session())

    async def SendMessage(self, request: Any, context: Any) -> session_service_pb2.SendMessageResponse:
        await self.play(self.acts.pop(0))
        message = Message(session_id=SESSION, run_id=RUN, text=request.text, sequence=2)
        last = self._session().last_sequence
        return session_service_pb2.SendMessageResponse(
            message=message, run=Run(id=RUN, session_id=SESSION), last_sequence=last
        )

    async def StreamSession(
        self, request: Any, context: Any
    ) -> AsyncIterator[session_service_pb2.StreamSessionResponse]:
        self._hear(context)
        first = not self.streams
        self.streams.append(request.after_sequence)
        await self._notice()
        position = 0
        while True:
            async with self._grown:
                while len(self.log) == position:
                    await self._grown.wait()
                new, position = self.log[position:], len(self.log)
            for each in new:
                if 0 < each.sequence <= request.after_sequence or (first and each.sequence == self.lose):
                    continue
                yield session_service_pb2.StreamSessionResponse(events=[each])
                if first and self.cut_after and each.sequence == self.cut_after:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the replica is going")

    def _hear(self, context: Any) -> None:
        said = [(key, value) for key, value in context.invocation_metadata() if key.startswith("assent-")]
        self.callers.append(said)

    async def ListApprovals(self, request: Any, context: Any) -> approval_service_pb2.ListApprovalsResponse:
        self._hear(context)
        found = [each for each in self.approvals.values() if request.state in (0, each.state)]
        return approval_service_pb2.ListApprovalsResponse(approvals=found)

    async def GetApproval(self, request: Any, context: Any) -> approval_service_pb2.GetApprovalResponse:
        self._hear(context)
        if request.approval_id not in self.approvals:
            unknown = f"there is no approval {request.approval_id}"
            await abort(context, Problem(grpc.StatusCode.NOT_FOUND, "APPROVAL_NOT_FOUND", unknown))
        return approval_service_pb2.GetApprovalResponse(approval=self.approvals[request.approval_id])

    async def DecideApproval(self, request: Any, context: Any) -> approval_service_pb2.DecideApprovalResponse:
        self.decisions.append(request)
        self._hear(context)
        await self._notice()
        if self.refuse:
            await abort(context, self.refuse.pop(0))
        if self.counts_as:
            approval = self.approvals[request.approval_id]
            approval.votes.append(self.counts_as.pop(0))
            return approval_service_pb2.DecideApprovalResponse(approval=approval)
        approval = await self._resolve(request.approval_id, request.action, "developer", request.feedback)
        return approval_service_pb2.DecideApprovalResponse(approval=approval)

    async def ListGrants(self, request: Any, context: Any) -> approval_service_pb2.ListGrantsResponse:
        return approval_service_pb2.ListGrantsResponse(grants=self.grants)

    async def RevokeGrant(self, request: Any, context: Any) -> approval_service_pb2.RevokeGrantResponse:
        await self._steer(request, context)
        return approval_service_pb2.RevokeGrantResponse(grant=self.grants[0])

    async def SwitchAgent(self, request: Any, context: Any) -> session_service_pb2.SwitchAgentResponse:
        await self._steer(request, context)
        return session_service_pb2.SwitchAgentResponse(session=Session(id=SESSION, agent=request.agent))

    async def GetPlan(self, request: Any, context: Any) -> plan_service_pb2.GetPlanResponse:
        return plan_service_pb2.GetPlanResponse(plan=self.plan)

    async def RevisePlan(self, request: Any, context: Any) -> plan_service_pb2.RevisePlanResponse:
        self.revised.append(request)
        if self.refuse:
            await abort(context, self.refuse.pop(0))
        newer = Plan(id="plan-2", version=self.plan.version + 1, title=request.title, digest="newer")
        return plan_service_pb2.RevisePlanResponse(plan=newer)

    async def PauseRun(self, request: Any, context: Any) -> run_service_pb2.PauseRunResponse:
        return run_service_pb2.PauseRunResponse(run=await self._steer(request, context))

    async def ResumeRun(self, request: Any, context: Any) -> run_service_pb2.ResumeRunResponse:
        return run_service_pb2.ResumeRunResponse(run=await self._steer(request, context))

    async def CancelRun(self, request: Any, context: Any) -> run_service_pb2.CancelRunResponse:
        return run_service_pb2.CancelRunResponse(run=await self._steer(request, context))

    async def CloseSession(self, request: Any, context: Any) -> session_service_pb2.CloseSessionResponse:
        await self._steer(request, context)
        closed = Session(id=SESSION, state=SESSION_STATE_CLOSED)
        return session_service_pb2.CloseSessionResponse(session=closed)

    async def _steer(self, request: Any, context: Any) -> Run:
        self.steered.append(request)
        if self.refuse:
            await abort(context, self.refuse.pop(0))
        return self.run

    async def ListArtifacts(self, request: Any, context: Any) -> run_service_pb2.ListArtifactsResponse:
        return run_service_pb2.ListArtifactsResponse(artifacts=[artifact for artifact, _ in self.artifacts])

    async def GetArtifact(self, request: Any, context: Any) -> run_service_pb2.GetArtifactResponse:
        """A few bytes at a time, as an orchestrator answers a large one."""
        (found,) = [each for each in self.artifacts if each[0].id == request.artifact_id]
        content = HttpBody(data=found[1][request.offset : request.offset + 5])
        return run_service_pb2.GetArtifactResponse(artifact=found[0], content=content)

    async def GetRunReport(self, request: Any, context: Any) -> run_service_pb2.GetRunReportResponse:
        return run_service_pb2.GetRunReportResponse(report=self.report)

    async def _resolve(
        self, approval_id: str, action: Action, decider: str, feedback: str = ""
    ) -> approval_pb2.Approval:
        approval = self.approvals[approval_id]
        approval.state = approval_pb2.APPROVAL_STATE_RESOLVED
        approval.decision.MergeFrom(
            approval_pb2.Decision(action=action, decider=decider, digest=approval.digest, feedback=feedback)
        )
        resolved = event(
            approval_resolved={
                "approval_id": approval_id,
                "kind": approval.kind,
                "run_id": RUN,
                "state": approval.state,
                "action": action,
                "decider": decider,
                "feedback": feedback,
            }
        )
        await self.play([resolved, *(self.acts.pop(0) if self.acts else [])])
        return approval

    def _session(self) -> Session:
        return Session(id=SESSION, last_sequence=sum(1 for each in self.log if each.sequence))


class _Unwritten:
    """What a servicer has beside what the stand-in has: nothing that a test may call."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stand_in, name, None)


async def serve(stand_in: StandIn) -> tuple[grpc.aio.Server, str]:
    """Serve it on a free port of this machine."""
    server = grpc.aio.server()
    adders: list[Callable[[Any, Any], None]] = [
        add_SessionServiceServicer_to_server,
        add_ApprovalServiceServicer_to_server,
        add_PlanServiceServicer_to_server,
        add_RunServiceServicer_to_server,
    ]
    for add in adders:
        add(_Unwritten(stand_in), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"
