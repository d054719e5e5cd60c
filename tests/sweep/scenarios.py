"""The scenarios: what is told, what people do, and how their runs must end, whatever dies on the way."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from executor.errors import StepFailed
from gen.assent.v1 import (
    approval_pb2,
    approval_service_pb2,
    plan_service_pb2,
    run_pb2,
    run_service_pb2,
    session_pb2,
    session_service_pb2,
    step_pb2,
)
from tests.simulator.catalog import CONSTRAINTS
from tests.simulator.people import Person, Watcher
from tests.simulator.world import World
from tests.sweep.telling import OTHERWISE, Told

LOOK_SECONDS = 0.4
EDITED = '{"what": "something else"}'
ENDED = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)

Act = Callable[["Scene"], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Scenario:
    """`decisions` are what people answer, else APPROVE, RETRY or RESPOND: about calls by the `what` in their arguments,
    about plans by their version, about failures by the key of the subtask. WAIT leaves a question to its expiry, REVISE
    makes another version of the draft.
    """

    name: str
    told: Told
    act: Act
    ends: tuple[str, ...] = ("COMPLETED",)  # of every run
    decisions: dict[str, str] = field(default_factory=dict)
    remembers: bool = False  # whether an APPROVE is remembered, where that is offered
    replicas: int = 1
    slots: int = 4
    preludes: tuple[str, ...] = ()  # failpoints of a first crash, before the one that is swept


class Scene:
    """One scenario under way in a world."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world, self.scenario = world, scenario
        self.anna, self.boris = world.person("anna"), world.person("boris")
        self.has_sent_back = False  # a file, once
        self.others: list[asyncio.Task[None]] = []

    def at(self, replica: int) -> Person:
        """Somebody who knows one replica only."""
        world = self.world
        known = [world.replicas[replica]]
        return Person(f"visitor {replica}", world.chance(), known, world.history, world.clock.new_id, world.note)

    async def session(self, *client_tools: str) -> str:
        """A new session, watched by somebody who resumes wherever the stream breaks."""
        tools = [session_pb2.ClientTool(name=name, input_schema_json="{}") for name in client_tools]
        request = session_service_pb2.CreateSessionRequest(title="a session", client_tools=tools)
        answer = await self.insist("SessionService/CreateSession", request)
        session_id: str = answer.session.id
        self.keep(Watcher(self.world.person("eve"), session_id).follow())
        return session_id

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """To the scene's end."""
        self.others.append(self.world.loop.outside.spawn(work))

    async def say(self, session_id: str, text: str, agent: str = "coder", *, who: Person | None = None) -> str:
        """The run's id."""
        request = session_service_pb2.SendMessageRequest(session_id=session_id, text=text, agent=agent)
        run_id: str = (await self.insist("SessionService/SendMessage", request, who)).run.id
        return run_id

    async def cancel(self, run_id: str) -> None:
        await self.anna.do("RunService/CancelRun", run_service_pb2.CancelRunRequest(run_id=run_id, reason="enough"))

    async def insist(self, path: str, request: Any, who: Person | None = None) -> Any:
        """The answer, which comes sooner or later."""
        answer = await (who or self.anna).do(path, request)
        assert answer is not None, f"{path} was refused or never answered"
        return answer

    async def ended(self, run_id: str, *, or_started: str = "") -> None:
        """Until the run has ended, or a tool has begun."""
        while not (self._has_started(or_started) or await self._has_ended(run_id)):
            await self.a_moment()

    def _has_started(self, tool: str) -> bool:
        return any(started.tool == tool for started in self.world.history.started)

    async def _has_ended(self, run_id: str) -> bool:
        answer = await self.anna.read("RunService/GetRun", run_service_pb2.GetRunRequest(run_id=run_id))
        return answer is not None and answer.run.state in ENDED

    async def a_moment(self) -> None:
        await asyncio.sleep(LOOK_SECONDS)

    async def execute_for_ever(self, session_id: str, run_id: str, window: Person) -> None:
        """A window in which the session's own tools are executed: what it could claim, once."""
        asked = run_service_pb2.ListStepsRequest(run_id=run_id, page_size=100)
        while True:
            await self.a_moment()
            answer = await window.read("RunService/ListSteps", asked)
            for step in answer.steps if answer else ():
                if step.state == step_pb2.STEP_STATE_READY:
                    await self._execute(session_id, step.id, window)

    async def _execute(self, session_id: str, step_id: str, window: Person) -> None:
        claim = session_service_pb2.ClaimToolCallRequest(step_id=step_id, client_id=window.name)
        if await window.do("SessionService/ClaimToolCall", claim) is not None:
            result = {"session_id": session_id, "step_id": step_id, "content_json": f'"by {window.name}"'}
            request = session_service_pb2.SubmitToolResultRequest(**result, client_id=window.name)
            await window.do("SessionService/SubmitToolResult", request)

    async def decide_for_ever(self) -> None:
        """As soon as something is asked, once each, and again only where no answer came."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for approval in await self.anna.pending():
                await self._decide(approval)

    async def _decide(self, approval: Any) -> None:
        action = self.scenario.decisions.get(_subject(approval), _USUAL.get(approval.kind, "APPROVE"))
        if action == "WAIT" and not approval.earlier_approval_id:
            return
        if action == "REVISE":
            await self.anna.revise(approval.plan_id, approval.digest, "anna's own", REVISED)
            return
        action = "APPROVE" if action == "WAIT" else action
        if action == "REQUEST_CHANGES" and approval.artifact_id:
            if self.has_sent_back:
                action = "APPROVE"
            self.has_sent_back = True
        request = approval_service_pb2.DecideApprovalRequest(
            approval_id=approval.id,
            action=approval_pb2.DecisionAction.Value(f"DECISION_ACTION_{action}"),
            digest=approval.digest,
            feedback=OTHERWISE,
            edited_arguments_json=EDITED if action == "EDIT" and not approval.artifact_id else "",
            edited_artifact=b"as anna wrote it" if action == "EDIT" and approval.artifact_id else b"",
            response_json='"it is done"' if action == "RESPOND" else "",
        )
        if approval.may_remember and action == "APPROVE" and self.scenario.remembers:
            request.remember.constraint = CONSTRAINTS[1]
            request.remember.lifetime.FromSeconds(600)
        is_hers = not approval.terms.requester_excluded and all(v.voter != self.anna.name for v in approval.votes)
        await (self.anna if is_hers else self.boris).do("ApprovalService/DecideApproval", request)


_USUAL = {
    approval_pb2.APPROVAL_KIND_QUESTION: "RESPOND",
    approval_pb2.APPROVAL_KIND_IN_DOUBT: "RETRY",
    approval_pb2.APPROVAL_KIND_FAILURE: "RETRY",
}


def _subject(approval: Any) -> str:
    """What the question is about, as a scenario names it."""
    match approval.kind:
        case approval_pb2.APPROVAL_KIND_TOOL_CALL:
            return str(json.loads(approval.arguments_json).get("what", ""))
        case approval_pb2.APPROVAL_KIND_PLAN:
            return f"version {approval.plan_version}"
        case approval_pb2.APPROVAL_KIND_ARTIFACT:
            name = next(name for name in ("a.txt", "b.txt", "c.txt") if name in approval.preview.title)
            return f"{name} at {approval.gate}"
        case approval_pb2.APPROVAL_KIND_FAILURE:
            title: str = approval.preview.title
            return title.removeprefix("Subtask ").partition(":")[0]
    return ""


# The scenarios of the promise


async def _message(scene: Scene) -> None:
    session = await scene.session()
    await scene.ended(await scene.say(session, "do: plain"))


async def _plan(scene: Scene) -> None:
    session = await scene.session()
    await scene.ended(await scene.say(session, "do: whole", agent=""))


async def _client_tools(scene: Scene) -> None:
    """Two windows are open; each call is executed in one of them."""
    session = await scene.session("open_tab")
    run = await scene.say(session, "do: plain")
    for name in ("one", "two"):
        scene.keep(scene.execute_for_ever(session, run, scene.world.person(name)))
    await scene.ended(run)


async def _cancel(scene: Scene) -> None:
    session = await scene.session()
    run = await scene.say(session, "do: long")
    await scene.ended(run, or_started="mail")
    await scene.cancel(run)
    await scene.ended(run)


# Others, for the places those do not come to


async def _handover(scene: Scene) -> None:
    """The replica is stopped as in a deployment while a step runs."""
    session = await scene.session()
    run = await scene.say(session, "do: long")
    await scene.ended(run, or_started="mail")
    replica = scene.world.replicas[0]
    if replica.is_up:
        await replica.stop()
    if not replica.is_up:
        replica.start()
    await scene.ended(run)


async def _crowd(scene: Scene) -> None:
    """Two replicas at once, and an executor with a single slot: one of them is refused."""
    sessions = [await scene.session(), await scene.session()]
    words = (scene.say(session, f"do: plain {n}", who=scene.at(n)) for n, session in enumerate(sessions))
    for run in await asyncio.gather(*words):
        await scene.ended(run)


async def _hammer(scene: Scene) -> None:
    """So many commands on one session at once that its owner and some of them must wait for its row."""
    session = await scene.session()
    runs = [await scene.say(session, "do: nothing", who=scene.at(0))]
    other = scene.at(1)
    runs += await asyncio.gather(*(scene.say(session, f"do: nothing {n}", who=other) for n in range(12)))
    for run in runs:
        await scene.ended(run)


def _subtask(key: str, *depends_on: str) -> dict[str, Any]:
    words = {"title": f"Do {key}", "instructions": f"do: {key}", "agent": "coder"}
    return {"key": key, "depends_on": list(depends_on), **words}


async def _gates(scene: Scene) -> None:
    """A client's plan: the first leaves two files that pass two gates, the second one that no gate awaits."""
    session = await scene.session()
    first, second = _subtask("first"), _subtask("second", "first")
    first["artifacts"] = [{"name": "a.txt", "media_type": "text/plain"}, {"name": "b.txt", "media_type": "text/plain"}]
    first["gates"] = ["review", "release"]
    second["artifacts"] = [{"name": "c.txt"}]
    drafts: list[Any] = [first, second]
    request = plan_service_pb2.CreatePlanRequest(session_id=session, title="A plan", subtasks=drafts)
    await scene.ended((await scene.insist("PlanService/CreatePlan", request)).plan.run_id)


async def _granted(scene: Scene) -> None:
    """A yes is remembered, serves twice more, is taken back; then people are asked again."""
    session = await scene.session()
    await scene.ended(await scene.say(session, "do: plain"))
    asked = approval_service_pb2.ListGrantsRequest(session_id=session)
    while (listed := await scene.anna.read("ApprovalService/ListGrants", asked)) is None:
        await scene.a_moment()
    for grant in listed.grants:
        if not grant.HasField("revoke_time"):
            revoking = approval_service_pb2.RevokeGrantRequest(grant_id=grant.id, reason="no more")
            await scene.anna.do("ApprovalService/RevokeGrant", revoking)
    await scene.ended(await scene.say(session, "do: again"))


REVISED = {"parallel_limit": 1, "subtasks": [_subtask("first")]}
DIES_BEFORE_START = "dispatch:1:crash"
DIES_WHILE_IT_RUNS = "receive.accepted.after:1:crash"

SCENARIOS = (
    Scenario(
        "message",
        Told({"plain": [["look", "mail"]]}),
        _message,
        preludes=(DIES_BEFORE_START, DIES_WHILE_IT_RUNS),
    ),
    Scenario(
        "plan",
        Told(
            {"first": [["mail"]], "second": [["index"]]},
            plan={"parallel_limit": 2, "subtasks": [_subtask("first"), _subtask("second", "first")]},
        ),
        _plan,
        preludes=("dispatch:3:crash",),
    ),
    Scenario(
        "approvals",
        Told({"plain": [["put", "deploy", "mail", "erase", "deploy"], ["deploy", "put"]]}),
        _message,
        decisions={"plain 0 0": "REJECT", "plain 0 1": "EDIT", "plain 1 0": "RESPOND"},
    ),
    Scenario(
        "votes",
        Told({"plain": [["put"], ["deploy", "put"]]}),
        _message,
        decisions={"plain 1 0": "WAIT", "plain 1 1": "WAIT"},  # the one is refused in time, the other escalated
    ),
    Scenario(
        "review",
        Told(
            {"first": [["mail"]], "second": [["index"]]},
            plan={"parallel_limit": 1, "subtasks": [_subtask("second")]},
            otherwise={"parallel_limit": 2, "subtasks": [_subtask("first"), _subtask("second", "first")]},
        ),
        _plan,
        decisions={"version 1": "REVISE", "version 2": "REQUEST_CHANGES"},
    ),
    Scenario(
        "replan",
        Told(
            {"first": [["mail"]], "second": [["index"]], "third": [["look"]], "fourth": [["mail"]]},
            plan={
                "parallel_limit": 2,
                "subtasks": [_subtask("first"), _subtask("second", "first"), _subtask("third", "second")],
            },
            otherwise={"parallel_limit": 2, "subtasks": [_subtask("fourth", "first"), _subtask("third", "first")]},
            faults={
                "second": [StepFailed("MODEL_FAILED", "it cannot be done so", "HUMAN_REQUIRED")],
                "third": [StepFailed("MODEL_FAILED", "it cannot be done at all", "HUMAN_REQUIRED")],
            },
        ),
        _plan,
        decisions={"second": "REPLAN", "third": "SKIP"},
    ),
    Scenario(
        "grants",
        Told({"plain": [["deploy"], ["deploy", "deploy"]], "again": [["deploy"]]}),
        _granted,
        remembers=True,
    ),
    Scenario(
        "gates",
        Told({"first": [["index"]], "second": [["mail"]]}),
        _gates,
        decisions={"a.txt at review": "EDIT", "b.txt at release": "REQUEST_CHANGES"},
    ),
    Scenario("question", Told({"plain": [["ask_user", "mail"], ["ask_user"]]}), _message),
    Scenario("client tools", Told({"plain": [["open_tab", "look"], ["open_tab"]]}), _client_tools),
    Scenario(
        "retry",
        Told(
            {"plain": [["index"], ["mail"]]},
            faults={
                "plain": [StepFailed("MODEL_FAILED", "it may pass", "RETRYABLE", 2.0)]
                * 6,  # a step is tried five times
                "index": [StepFailed("TOOL_FAILED", "it may pass", "RETRYABLE")],
                "mail": [StepFailed("TOOL_FAILED", "it will not pass", "HUMAN_REQUIRED")],
            },
        ),
        _message,
    ),
    Scenario("cancel", Told({"long": [["mail"]]}, seconds={"mail": 4.0}), _cancel, ends=("CANCELLED", "COMPLETED")),
    Scenario("handover", Told({"long": [["mail"]]}, seconds={"mail": 3.0}), _handover),
    Scenario("crowd", Told({"plain": [["look"]]}), _crowd, replicas=2, slots=1),
    Scenario("hammer", Told(seconds={"": 0.03}), _hammer, replicas=2),
)
