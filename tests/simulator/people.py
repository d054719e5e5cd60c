"""The world's clients: people who send messages and plans, decide and cancel, and watchers; each repeats what got no
answer, under the same request id, at whichever replica they find.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from random import Random
from typing import Any

import grpc

from gen.assent.v1 import (
    approval_pb2,
    approval_service_pb2,
    plan_pb2,
    plan_service_pb2,
    run_pb2,
    run_service_pb2,
    session_pb2,
    session_service_pb2,
    step_pb2,
)
from rpc.principal import PERMISSIONS, Principal
from rpc.problem import Problem
from tests.simulator.catalog import ANSWERS, CLIENT_SECONDS, CLIENT_TOOLS, CONSTRAINTS, ROLES
from tests.simulator.history import Command, History, View
from tests.simulator.replicas import Replica
from tests.simulator.script import draw_plan

CALL_SECONDS = 6.0
TRIES = 12
_NO_ANSWER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)

_KIND = (
    approval_pb2.DECISION_ACTION_APPROVE,
    approval_pb2.DECISION_ACTION_EDIT,
    approval_pb2.DECISION_ACTION_RETRY,
)
_UNKIND = (
    approval_pb2.DECISION_ACTION_REJECT,
    approval_pb2.DECISION_ACTION_RESPOND,
    approval_pb2.DECISION_ACTION_ABORT,
    approval_pb2.DECISION_ACTION_REQUEST_CHANGES,
)
_SKIP, _REPLAN = approval_pb2.DECISION_ACTION_SKIP, approval_pb2.DECISION_ACTION_REPLAN
_QUESTION = (approval_pb2.DECISION_ACTION_RESPOND,)
_ENDED = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)

Note = Callable[[str], None]


class Person:
    """Asks whichever replica; everything that changes something is written down as a Command."""

    def __init__(
        self,
        name: str,
        random: Random,
        replicas: Sequence[Replica],
        history: History,
        new_id: Callable[[], str],
        note: Note,
    ) -> None:
        self.name = name
        self.random = random
        self.note = note
        self._replicas = replicas
        self._history = history
        self._new_id = new_id
        self.principal = Principal("default", name, PERMISSIONS, ROLES.get(name, frozenset()))

    async def do(self, path: str, request: Any) -> Any:
        """The first answer, or None: refused, or nobody could say."""
        request.request_id = self._new_id()
        command = Command(request.request_id, path, self.name, request)
        self._history.commands.append(command)
        wanted = 2 if self.random.random() < 0.1 else 1  # some ask again although they were answered
        for _ in range(TRIES):
            try:
                command.answers.append(await self._call(path, request))
            except Problem as problem:
                if problem.code not in _NO_ANSWER:
                    command.refusals.append(problem.reason)
                    self.note(f"{self.name}: {path} refused: {problem}")
                    break
                command.uncertain = True
                await asyncio.sleep(self.random.uniform(0.05, 1.0))
                continue
            self.note(f"{self.name}: {path} answered")
            if len(command.answers) >= wanted:
                break
        return command.answers[0] if command.answers else None

    async def read(self, path: str, request: Any) -> Any:
        """The answer, or None."""
        try:
            return await self._call(path, request)
        except Problem as problem:
            if problem.code not in _NO_ANSWER:
                self.note(f"{self.name}: {path} refused: {problem}")
            return None

    async def _call(self, path: str, request: Any) -> Any:
        try:
            replica = self.random.choice(self._replicas)
            return await replica.call(path, request, self.principal, seconds=CALL_SECONDS)
        except Problem:
            raise
        except Exception as error:
            self._history.defects.append(f"{path} raised {error!r}")
            raise Problem(grpc.StatusCode.INTERNAL, "INTERNAL", str(error)) from error

    # What people do

    async def create_session(self) -> str:
        ways = (session_pb2.WHEN_BUSY_ENQUEUE, session_pb2.WHEN_BUSY_INTERRUPT, session_pb2.WHEN_BUSY_REJECT)
        settings = session_pb2.SessionSettings(when_busy=self.random.choices(ways, (7, 2, 1))[0])
        settings.priority = self.random.choice([0, 0, 3])
        if self.random.random() < 0.3:
            settings.budget.work_duration.FromSeconds(self.random.choice([1, 5, 20]))
        request = session_service_pb2.CreateSessionRequest(title="a session", settings=settings)
        if self.random.random() < 0.5:
            request.client_tools.extend(_client_tool(*tool) for tool in CLIENT_TOOLS.items())
        answer = await self.do("SessionService/CreateSession", request)
        return answer.session.id if answer else ""

    async def say(self, session_id: str, text: str) -> None:
        agent = self.random.choice(["", "coder", "coder", "ask", "architect", "nobody"])
        request = session_service_pb2.SendMessageRequest(session_id=session_id, text=text, agent=agent)
        await self.do("SessionService/SendMessage", request)

    async def submit(self, session_id: str, title: str) -> None:
        drawn = draw_plan(self.random, with_artifacts=True)
        request = plan_service_pb2.CreatePlanRequest(
            session_id=session_id, title=title, parallel_limit=drawn["parallel_limit"], subtasks=drawn["subtasks"]
        )
        await self.do("PlanService/CreatePlan", request)

    async def revise_something(self, session_id: str, title: str) -> None:
        """Another version of a draft, where there is one; now and then of one that was seen a while ago."""
        asked = plan_service_pb2.ListPlansRequest(session_id=session_id, state=plan_pb2.PLAN_STATE_DRAFT)
        answer = await self.read("PlanService/ListPlans", asked)
        for plan in answer.plans if answer else ():
            if self.random.random() < 0.3:
                await asyncio.sleep(self.random.uniform(0.0, 3.0))
            await self.revise(plan.id, self.random.choice([plan.digest, ""]), f"{title} {plan.id[-6:]}")

    async def revise(self, plan_id: str, digest: str, title: str, plan: dict[str, Any] | None = None) -> None:
        drawn = plan or draw_plan(self.random, with_artifacts=True)
        request = plan_service_pb2.RevisePlanRequest(
            plan_id=plan_id,
            title=title,
            parallel_limit=drawn["parallel_limit"],
            subtasks=drawn["subtasks"],
            digest=digest,
        )
        await self.do("PlanService/RevisePlan", request)

    async def revoke_something(self, session_id: str) -> None:
        asked = approval_service_pb2.ListGrantsRequest(session_id=session_id)
        answer = await self.read("ApprovalService/ListGrants", asked)
        if answer and answer.grants:
            grant = self.random.choice(answer.grants)
            revoking = approval_service_pb2.RevokeGrantRequest(grant_id=grant.id, reason="no more")
            await self.do("ApprovalService/RevokeGrant", revoking)

    async def switch(self, session_id: str) -> None:
        request = session_service_pb2.SwitchAgentRequest(
            session_id=session_id, agent=self.random.choice(["coder", "ask"])
        )
        await self.do("SessionService/SwitchAgent", request)

    async def pending(self) -> list[approval_pb2.Approval]:
        request = approval_service_pb2.ListApprovalsRequest(state=approval_pb2.APPROVAL_STATE_PENDING)
        answer = await self.read("ApprovalService/ListApprovals", request)
        return list(answer.approvals) if answer else []

    async def decide(self, approval: approval_pb2.Approval, *, kindly: bool) -> None:
        """`kindly`: so that the run goes on to its end."""
        asked = approval.kind == approval_pb2.APPROVAL_KIND_QUESTION
        action = self._action(list(approval.allowed_actions), kindly, good=_QUESTION if asked else _KIND)
        digest = approval.digest if kindly or self.random.random() < 0.97 else "0" * 64
        request = approval_service_pb2.DecideApprovalRequest(
            approval_id=approval.id, action=action, digest=digest, feedback=f"says {self.name}"
        )
        if action == approval_pb2.DECISION_ACTION_EDIT and approval.kind == approval_pb2.APPROVAL_KIND_ARTIFACT:
            request.edited_artifact = f"edited by {self.name} {self.random.getrandbits(16)}".encode()
        elif action == approval_pb2.DECISION_ACTION_EDIT:
            request.edited_arguments_json = f'{{"what": "edited by {self.name}"}}'
        elif action == approval_pb2.DECISION_ACTION_RESPOND:
            request.response_json = f'{{"content": "{self.name} says so"}}'
            if approval.kind == approval_pb2.APPROVAL_KIND_QUESTION:
                request.response_json = self.random.choice(ANSWERS)
        elif approval.may_remember and self.random.random() < 0.5:
            request.remember.constraint = self.random.choice(CONSTRAINTS)
            request.remember.lifetime.FromSeconds(self.random.choice([1, 20, 60]))
        elif approval.kind == approval_pb2.APPROVAL_KIND_BUDGET and action == approval_pb2.DECISION_ACTION_APPROVE:
            request.new_limit.work_duration.FromSeconds(3600 if kindly else self.random.choice([10, 3600]))
        await self.do("ApprovalService/DecideApproval", request)

    def _action(self, allowed: list[Any], kindly: bool, good: Sequence[Any]) -> Any:
        good = [action for action in allowed if action in good]
        if not kindly and _REPLAN in allowed:
            good = [_REPLAN, _SKIP, *good] if _SKIP in allowed else [_REPLAN, *good]
        may = [action for action in allowed if action in (*_KIND, *_UNKIND)]
        return self.random.choice(good if good and (kindly or self.random.random() < 0.75) else may)

    async def steer_something(self, session_id: str) -> None:
        """Cancel or pause a run, or let one go on; now and then close the session."""
        if self.random.random() < 0.1:
            closing = session_service_pb2.CloseSessionRequest(session_id=session_id, reason="enough")
            await self.do("SessionService/CloseSession", closing)
            return
        if runs := await self.runs(session_id, but_not=_ENDED):
            run = self.random.choice(runs)
            if run.state == run_pb2.RUN_STATE_PAUSED or self.random.random() < 0.1:
                await self.resume(run.id)
            elif self.random.random() < 0.5:
                pausing = run_service_pb2.PauseRunRequest(run_id=run.id, reason="wait")
                await self.do("RunService/PauseRun", pausing)
            else:
                cancelling = run_service_pb2.CancelRunRequest(run_id=run.id, reason="enough")
                await self.do("RunService/CancelRun", cancelling)

    async def serve_calls(self, run_id: str) -> None:
        """What a session's client does; now and then it takes a call and is not heard of again.

        Some calls are nobody's: which, the second of their deadline says, so that one with a new deadline may be.
        """
        answer = await self.read("RunService/ListSteps", run_service_pb2.ListStepsRequest(run_id=run_id))
        for step in answer.steps if answer else ():
            if step.state != step_pb2.STEP_STATE_READY or self.random.random() < 0.2:
                continue
            if step.deadline_time.seconds % 5 < 2:
                continue
            claiming = session_service_pb2.ClaimToolCallRequest(step_id=step.id, client_id=self.name)
            claiming.lease.FromSeconds(self.random.choice([1, 5]))
            if await self.do("SessionService/ClaimToolCall", claiming) is None or self.random.random() < 0.1:
                continue
            await asyncio.sleep(self.random.uniform(0.0, 2.0))
            submitting = session_service_pb2.SubmitToolResultRequest(
                session_id=step.session_id, step_id=step.id, client_id=self.name, content_json='"done"'
            )
            await self.do("SessionService/SubmitToolResult", submitting)

    async def resume(self, run_id: str) -> None:
        await self.do("RunService/ResumeRun", run_service_pb2.ResumeRunRequest(run_id=run_id, reason="go on"))

    async def runs(self, session_id: str = "", *, but_not: Sequence[Any] = ()) -> list[run_pb2.Run]:
        answer = await self.read("RunService/ListRuns", run_service_pb2.ListRunsRequest(session_id=session_id))
        return [run for run in answer.runs if run.state not in but_not] if answer else []


def _client_tool(name: str, then: str) -> session_pb2.ClientTool:
    tool = session_pb2.ClientTool(name=name)
    tool.time_limit.FromSeconds(CLIENT_SECONDS)
    tool.on_timeout = session_pb2.ClientTimeoutAction.Value(f"CLIENT_TIMEOUT_ACTION_{then}")
    return tool


class Watcher:
    """Follows one session for ever, resuming after what it has seen; now and then it goes away by itself."""

    def __init__(self, person: Person, session_id: str) -> None:
        self._person = person
        self.view = View(session_id, 0)
        person._history.views.append(self.view)

    async def follow(self) -> None:
        while True:
            replica = self._person.random.choice(self._person._replicas)
            try:
                async with asyncio.timeout(self._person.random.uniform(2, 30)):
                    async for response in self._responses(replica):
                        self._see(response)
            except (Problem, TimeoutError):
                await asyncio.sleep(self._person.random.uniform(0.05, 1.0))

    def _responses(self, replica: Replica) -> AsyncIterator[Any]:
        request = session_service_pb2.StreamSessionRequest(
            session_id=self.view.session_id,
            after_sequence=self.view.events[-1][0] if self.view.events else 0,
            include_payload_json=True,
        )
        return replica.follow("SessionService/StreamSession", request, self._person.principal)

    def _see(self, response: Any) -> None:
        for event in response.events:
            if event.sequence and event.payload_json:
                self.view.events.append((event.sequence, event.payload_json))
