"""Any clients, in any order, against a small model: what the API answers, and where it leaves sessions and runs.

The model is a page of Python that knows no store, no engine and no event; a real orchestrator on a real database,
over gRPC, has to agree with it after every operation. What models and tools do is fixed: answer at once, or, where a
message says so, call a tool that a person must approve first.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import hypothesis
import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from gen.assent.v1 import (
    approval_pb2,
    approval_service_pb2,
    plan_service_pb2,
    run_service_pb2,
    session_pb2,
    session_service_pb2,
)
from orchestrator.domain.events import chain_hash
from orchestrator.domain.records import FIRST_HASH
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, Log, state, subtask, words
from tests.integration.orchestrator.plays import PLAN
from tests.integration.orchestrator.replica import Replicas, tell_callers_apart
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor
from tests.postgres import Databases

T = TypeVar("T")

DEEP = hypothesis.settings.get_current_profile_name() == "deep"
# Without shrinking: a failure is a story of some twenty operations, and making it shorter takes minutes.
SETTINGS = hypothesis.settings(
    max_examples=400 if DEEP else 50, stateful_step_count=60 if DEEP else 30, phases=[hypothesis.Phase.generate]
)
LIMIT_SECONDS = 60.0
ENDED = ("COMPLETED", "CANCELLED")
CALLING = "Please call a tool."
ANSWERS = {"EDIT": "TOOL_CALL", "RESPOND": "TOOL_CALL", "REQUEST_CHANGES": "PLAN"}
"""What only one kind of question takes, besides those that all take."""


# The model


@dataclass
class RunModel:
    """A run as a client may know it. `asks` is what a person will still be asked: PLAN, TOOL_CALL."""

    id: str
    asks: list[str]
    state: str = "CREATED"
    has_asked: bool = False
    pause_asked: bool = False
    plan_id: str = ""  # of its newest version, where a client has written it


@dataclass
class SessionModel:
    """A session's runs in the order they came; the first that is open is the active one."""

    id: str
    when_busy: str
    runs: list[RunModel] = field(default_factory=list)
    closed: bool = False

    @property
    def open_runs(self) -> list[RunModel]:
        return [run for run in self.runs if run.state not in ENDED]

    @property
    def paused_runs(self) -> list[RunModel]:
        return [run for run in self.open_runs if run.state == "PAUSED" or run.pause_asked]

    @property
    def question(self) -> str:
        """What is asked now, if anything is."""
        return next((run.asks[0] for run in self.open_runs[:1] if run.has_asked), "")

    def refuses_work(self) -> str:
        if self.closed:
            return "WRONG_STATE"
        return "SESSION_BUSY" if self.when_busy == "REJECT" and self.open_runs else ""

    def enter(self, run: RunModel) -> None:
        if self.when_busy == "INTERRUPT":
            self.end_all()
        self.runs.append(run)
        self.go_on()

    def end_all(self) -> None:
        for run in self.open_runs:
            run.state = "CANCELLED"

    def go_on(self) -> None:
        """Each open run comes as far as it can by itself; the next one's turn comes when it ends."""
        while (run := next(iter(self.open_runs), None)) is not None and run.state != "PAUSED":
            run.has_asked |= run.asks[:1] == ["PLAN"]  # comes with the run's turn
            if run.pause_asked:
                run.state, run.pause_asked = "PAUSED", False
            elif run.asks:
                run.state, run.has_asked = "WAITING", True
                return
            else:
                run.state = "COMPLETED"

    def decide(self, action: str) -> None:
        run = self.open_runs[0]
        if action == "ABORT" or (action, run.asks[0]) == ("REJECT", "PLAN"):
            run.state = "CANCELLED"
        else:
            run.asks, run.has_asked = (["PLAN"] if action == "REQUEST_CHANGES" else run.asks[1:]), False
            if run.state == "WAITING":
                run.state = "RUNNING"
        self.go_on()

    def revise(self, run: RunModel, calling: bool) -> str:
        """Another draft takes the place of the one that nobody has approved."""
        if run.state in ENDED or run.asks[:1] != ["PLAN"]:
            return "WRONG_STATE"
        run.asks = ["PLAN", "TOOL_CALL"] if calling else ["PLAN"]
        return ""

    def pause(self, run: RunModel) -> str:
        if run.state in (*ENDED, "PAUSED"):
            return "WRONG_STATE"
        if run.state == "CREATED":
            run.pause_asked = True
        else:
            run.state = "PAUSED"
        return ""

    def resume(self, run: RunModel) -> str:
        if run.state == "PAUSED":
            run.state = "RUNNING"
            self.go_on()
        elif run.pause_asked:
            run.pause_asked = False
        else:
            return "WRONG_STATE"
        return ""

    def cancel(self, run: RunModel) -> str:
        if run.state in ENDED:
            return "WRONG_STATE"
        run.state = "CANCELLED"
        self.go_on()
        return ""

    def close(self) -> str:
        if self.closed:
            return "WRONG_STATE"
        self.end_all()
        self.closed = True
        return ""


# The machine


@dataclass
class Clients:
    """The orchestrator under test, spoken to from Hypothesis' thread."""

    client: Client
    loop: asyncio.AbstractEventLoop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT_SECONDS)


@dataclass
class Said:
    """A command that was answered, to be repeated word for word."""

    rpc: Any
    request: Message
    answer: Message


class AnyClients(RuleBasedStateMachine):
    """What clients do, to a few sessions; after each operation the API must say what the model says."""

    clients: Clients

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[SessionModel] = []
        self.said: list[Said] = []
        self.resolved: list[tuple[approval_pb2.Approval, str]] = []

    # Sessions and work

    @initialize(several=st.lists(st.sampled_from(["ENQUEUE", "INTERRUPT", "REJECT"]), min_size=1, max_size=2))
    def create(self, several: list[str]) -> None:
        for when_busy in several:
            settings = session_pb2.SessionSettings(when_busy=session_pb2.WhenBusy.Value(f"WHEN_BUSY_{when_busy}"))
            request = session_service_pb2.CreateSessionRequest(title="any", settings=settings)
            answer = self._command(self._api.sessions.CreateSession, request)
            self.sessions.append(SessionModel(answer.session.id, when_busy))

    @rule(data=st.data(), calling=st.booleans())
    def say(self, data: st.DataObject, calling: bool) -> None:
        session = self._any_session(data)
        text = CALLING if calling else "Just talk."
        request = session_service_pb2.SendMessageRequest(session_id=session.id, text=text, agent="coder")
        answer = self._command(self._api.sessions.SendMessage, request, refused=session.refuses_work())
        if answer is not None:
            session.enter(RunModel(answer.run.id, ["TOOL_CALL"] if calling else []))
        self._agree(session)

    @rule(data=st.data(), calling=st.booleans())
    def submit(self, data: st.DataObject, calling: bool) -> None:
        session = self._any_session(data)
        first = subtask("first")
        first.instructions = CALLING if calling else "Do it."
        request = plan_service_pb2.CreatePlanRequest(
            session_id=session.id, title="A plan", subtasks=[first, subtask("second", "first")]
        )
        answer = self._command(self._api.plans.CreatePlan, request, refused=session.refuses_work())
        if answer is not None:
            asks = ["PLAN", "TOOL_CALL"] if calling else ["PLAN"]
            session.enter(RunModel(answer.plan.run_id, asks, plan_id=answer.plan.id))
        self._agree(session)

    @rule(data=st.data(), calling=st.booleans())
    @precondition(lambda self: any(run.plan_id for s in self.sessions for run in s.runs))
    def revise(self, data: st.DataObject, calling: bool) -> None:
        """Also of a plan that waits for its turn; not of one that somebody has approved, or whose run is over."""
        planned = [(s, run) for s in self.sessions for run in s.runs if run.plan_id]
        session, run = self._one_of(data, planned)
        asked = self._question(session) if session.question and session.open_runs[0] is run else None
        only = subtask("other")
        only.instructions = CALLING if calling else "Do it."
        request = plan_service_pb2.RevisePlanRequest(plan_id=run.plan_id, title="Another plan", subtasks=[only])
        answer = self._command(self._api.plans.RevisePlan, request, refused=session.revise(run, calling))
        if answer is not None:
            run.plan_id = answer.plan.id
            if asked is not None:
                self.resolved.append((asked, "SUPERSEDED"))
        self._agree(session)

    # Decisions

    @rule(data=st.data(), action=st.sampled_from([*["APPROVE"] * 3, *ANSWERS, "REJECT", "ABORT"]))
    @precondition(lambda self: any(s.question for s in self.sessions))
    def decide(self, data: st.DataObject, action: str) -> None:
        session = self._one_of(data, [s for s in self.sessions if s.question])
        if ANSWERS.get(action, session.question) != session.question:
            action = "APPROVE"
        approval = self._question(session)
        self._command(self._api.approvals.DecideApproval, _decision(approval, action))
        if action == "REQUEST_CHANGES":
            session.open_runs[0].plan_id = ""  # the architect's now
        session.decide(action)
        self.resolved.append((approval, action))
        self._agree(session)

    @rule(data=st.data(), wrong=st.sampled_from(["DIGEST_MISMATCH", "APPROVAL_NOT_FOUND", "ACTION_NOT_ALLOWED"]))
    @precondition(lambda self: any(s.question for s in self.sessions))
    def decide_wrongly(self, data: st.DataObject, wrong: str) -> None:
        """About something else, as a stranger, or in a way that the question does not take."""
        session = self._one_of(data, [s for s in self.sessions if s.question])
        request = _decision(self._question(session), "RETRY" if wrong == "ACTION_NOT_ALLOWED" else "APPROVE")
        if wrong == "DIGEST_MISMATCH":
            request.digest = "0" * 64
        by = self._api.acting_as("eve", tenant="elsewhere") if wrong == "APPROVAL_NOT_FOUND" else self._api
        self._command(by.approvals.DecideApproval, request, refused=wrong, by=by)
        self._agree(session)

    @rule(data=st.data(), action=st.sampled_from(["APPROVE", "REJECT", "ABORT"]))
    @precondition(lambda self: self.resolved)
    def decide_too_late(self, data: st.DataObject, action: str) -> None:
        """The same person saying the same again is answered as before; anything else has lost."""
        approval, won = self._one_of(data, self.resolved)
        refused = "" if action == won else "APPROVAL_ALREADY_RESOLVED"
        self._command(self._api.approvals.DecideApproval, _decision(approval, action), refused=refused)

    # Control

    @rule(data=st.data())
    @precondition(lambda self: any(s.open_runs for s in self.sessions))
    def pause(self, data: st.DataObject) -> None:
        session = self._one_of(data, [s for s in self.sessions if s.open_runs])
        self._steer(session, self._one_of(data, session.open_runs), "pause")

    @rule(data=st.data())
    @precondition(lambda self: any(s.paused_runs for s in self.sessions))
    def resume(self, data: st.DataObject) -> None:
        session = self._one_of(data, [s for s in self.sessions if s.paused_runs])
        self._steer(session, self._one_of(data, session.paused_runs), "resume")

    @rule(data=st.data(), what=st.sampled_from(["cancel", "cancel", "pause", "resume"]))
    @precondition(lambda self: any(s.runs for s in self.sessions))
    def steer_any(self, data: st.DataObject, what: str) -> None:
        session = self._one_of(data, [s for s in self.sessions if s.runs])
        self._steer(session, self._one_of(data, session.runs), what)

    @rule(data=st.data())
    @precondition(lambda self: len(self.said) > 12)
    def close(self, data: st.DataObject) -> None:
        session = self._any_session(data)
        refused = session.close()
        request = session_service_pb2.CloseSessionRequest(session_id=session.id)
        self._command(self._api.sessions.CloseSession, request, refused=refused)
        self._agree(session)

    @rule(data=st.data())
    @precondition(lambda self: self.said)
    def repeat(self, data: st.DataObject) -> None:
        """A command whose answer was lost, say: the same answer, and nothing happens."""
        said = self._one_of(data, self.said)
        assert self.clients.do(self._api.call(said.rpc, said.request)) == said.answer
        for session in self.sessions:
            self._agree(session)

    def teardown(self) -> None:
        for session in self.sessions:
            self._agree(session)

    # Inside

    @property
    def _api(self) -> Client:
        return self.clients.client

    def _one_of(self, data: st.DataObject, things: list[T]) -> T:
        return things[data.draw(st.integers(0, len(things) - 1))]

    def _any_session(self, data: st.DataObject) -> SessionModel:
        return self._one_of(data, self.sessions)

    def _command(self, rpc: Any, request: Any, *, refused: str = "", by: Client | None = None) -> Any:
        """The answer; None where the model says, and the API agrees, that it is refused for this reason."""
        request.request_id = str(uuid.uuid4())
        answer = self.clients.do(_answered(by or self._api, rpc, request))
        reason = answer.reason if isinstance(answer, Problem) else ""
        assert reason == refused, f"{answer}; the model says {refused or 'yes'}"
        if isinstance(answer, Problem):
            return None
        self.said.append(Said(rpc, request, answer))
        return answer

    def _steer(self, session: SessionModel, run: RunModel, what: str) -> None:
        refused = getattr(session, what)(run)
        rpc = getattr(self._api.runs, f"{what.title()}Run")
        request = getattr(run_service_pb2, f"{what.title()}RunRequest")(run_id=run.id, reason="to see")
        self._command(rpc, request, refused=refused)
        self._agree(session)

    def _question(self, session: SessionModel) -> approval_pb2.Approval:
        (approval,) = self.clients.do(self._api.pending(session.id))
        return approval

    def _agree(self, session: SessionModel) -> None:
        seen = self.clients.do(_look(self._api, session.id))
        assert seen.runs == {run.id: run.state for run in session.runs}
        assert seen.asked == ([session.question] if session.question else [])
        assert (seen.state == "CLOSED") == session.closed
        assert_chained(seen.log)


@dataclass
class Seen:
    """What the API says of a session at rest."""

    state: str
    runs: dict[str, str]
    asked: list[str]
    log: Log


async def _look(client: Client, session_id: str) -> Seen:
    await client.settled(session_id)
    request = run_service_pb2.ListRunsRequest(session_id=session_id, page_size=500)
    session, listed, pending, log = await asyncio.gather(
        client.get_session(session_id),
        client.call(client.runs.ListRuns, request),
        client.pending(session_id),
        client.events(session_id),
    )
    runs = {run.id: state(run) for run in listed.runs}
    return Seen(state(session), runs, [words(approval)["kind"] for approval in pending], log)


async def _answered(client: Client, rpc: Any, request: Message) -> Any:
    try:
        return await client.call(rpc, request)
    except Problem as problem:
        return problem


def _decision(approval: approval_pb2.Approval, action: str) -> approval_service_pb2.DecideApprovalRequest:
    return approval_service_pb2.DecideApprovalRequest(
        approval_id=approval.id,
        action=approval_pb2.DecisionAction.Value(f"DECISION_ACTION_{action}"),
        digest=approval.digest,
        feedback="Otherwise, please." if action == "REQUEST_CHANGES" else "",
        edited_arguments_json='{"edited": true}' if action == "EDIT" else "",
        response_json='"so it is"' if action == "RESPOND" else "",
    )


def assert_chained(log: Log) -> None:
    """Numbered without gaps, and each event's hash follows from the one before."""
    assert log.sequences == list(range(1, len(log) + 1))
    before = FIRST_HASH
    for event in log:
        time = event.event_time.ToMicroseconds()
        assert event.hash == chain_hash(before, event.sequence, time, event.payload_json)
        before = event.hash


def act(act: Act) -> None:
    """What models and tools do."""
    if not act.purpose:
        act.returns("done")
    elif act.purpose == "PLANNING":
        act.says_json(PLAN)
    elif act.start.model.turn == 0 and CALLING in act.last_text:
        act.says("I call.", ("send_mail", "{}"))
    else:
        act.says("done")


@pytest.fixture
async def clients(
    databases: Databases, template_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[type[RuleBasedStateMachine]]:
    tell_callers_apart(monkeypatch)
    executor = ScriptedExecutor(act)
    await executor.start()
    async with databases.database(template=template_url) as url:
        replicas = Replicas(url, executor.address)
        client = (await replicas.start()).client
        await executor.joined()
        spoken_to = Clients(client, asyncio.get_running_loop())
        yield type("AnyClients", (AnyClients,), {"clients": spoken_to})
        await replicas.stop()
    await executor.stop()


async def test_the_api_does_what_the_model_says(clients: type[RuleBasedStateMachine]) -> None:
    await asyncio.to_thread(run_state_machine_as_test, clients, settings=SETTINGS)
