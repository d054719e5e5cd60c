"""The client: a closed loop of workflows over one gRPC channel, each checked to have done its steps in order.

A workflow is one message to the agent `bench` in a session of its slot: model, noop, model, noop, model.
"""

import asyncio
import time
from dataclasses import dataclass, field
from itertools import pairwise

from google.protobuf.timestamp_pb2 import Timestamp

from gen.assent.v1 import approval_pb2, event_pb2, run_pb2, step_pb2
from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1.session_service_pb2_grpc import SessionServiceStub

STEPS = ["MODEL", "TOOL", "MODEL", "TOOL", "MODEL"]
ASKED_BEFORE = 3  # the approval sits after this many steps
WORKFLOWS = ("straight", "approval")
_GOALS = {"straight": "straight", "approval": "with approval"}


class Wrong(AssertionError):
    """A workflow did not do what it should."""


@dataclass(slots=True)
class Timings:
    """Of one run, in microseconds; and how many change sets its workflows were written in."""

    workflows: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    resumes: list[float] = field(default_factory=list)
    seconds: float = 0.0
    change_sets: int = 0


class _Workflow:
    """What one workflow's events said, in their order."""

    def __init__(self, workload: str) -> None:
        self.workload = workload
        self.sequence = 0
        self.approval: approval_pb2.Approval | None = None
        self.decided = 0.0
        self.ended: list[tuple[str, float]] = []  # kind and time of each step
        self.started: list[str] = []
        self.state = 0
        self.times: set[float] = set()  # one for each change set: its events have one time

    def take(self, event: event_pb2.SessionEvent) -> None:
        if event.sequence:
            if self.sequence and event.sequence != self.sequence + 1:
                raise Wrong(f"event {event.sequence} follows {self.sequence}")
            self.sequence = event.sequence
            self.times.add(_micros(event.event_time))
        match event.WhichOneof("payload"):
            case "step_started":
                self.started.append(event.step_started.step_id)
            case "step_finished":
                finished = event.step_finished
                if finished.state != step_pb2.STEP_STATE_SUCCEEDED or finished.step_id != self.started[-1]:
                    raise Wrong(f"not a success of the step that was started: {event}")
                kind = step_pb2.StepKind.Name(finished.kind).removeprefix("STEP_KIND_")
                self.ended.append((kind, _micros(event.event_time)))
            case "approval_requested":
                self.approval = event.approval_requested.approval
            case "run_finished":
                self.state = event.run_finished.state

    def check(self) -> None:
        if [kind for kind, _ in self.ended] != STEPS or self.state != run_pb2.RUN_STATE_COMPLETED:
            raise Wrong(f"{self.workload}: steps {self.ended}, run state {self.state}")
        if len(set(self.started)) != len(STEPS):
            raise Wrong(f"{self.workload}: a step was started twice")
        if (self.workload == "approval") != bool(self.decided):
            raise Wrong(f"{self.workload}: asked {self.approval}")


class Driver:
    """Runs workflows; `per_session` messages go to one session before the next is created."""

    def __init__(self, sessions: SessionServiceStub, *, per_session: int) -> None:
        self._sessions = sessions
        self._per_session = per_session

    async def run(self, workload: str, concurrency: int, seconds: float) -> Timings:
        """`concurrency` slots, each starting its next workflow when its last one ended."""
        timings = Timings()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._slot(workload, began + seconds, timings))
        timings.seconds = time.perf_counter() - began
        return timings

    async def _slot(self, workload: str, until: float, timings: Timings) -> None:
        count, session_id = 0, ""
        while time.perf_counter() < until:
            began = time.perf_counter()
            if count % self._per_session == 0:
                created = await self._sessions.CreateSession(pb.CreateSessionRequest(agent="bench"))
                session_id = created.session.id
                timings.change_sets += 1
            count += 1
            workflow = await self.workflow(workload, session_id)
            timings.workflows.append((time.perf_counter() - began) * 1e6)
            workflow.check()
            timings.change_sets += len(workflow.times)
            times = [at for _, at in workflow.ended]
            gaps = [later - earlier for earlier, later in pairwise(times)]
            if workload == "approval":
                timings.resumes.append(times[ASKED_BEFORE] - workflow.decided)
                del gaps[ASKED_BEFORE - 1]
            timings.steps += gaps

    async def workflow(self, workload: str, session_id: str) -> _Workflow:
        """One message, and the decision where it asks for one; what was seen of it."""
        workflow = _Workflow(workload)
        said = pb.UserMessage(text=_GOALS[workload])
        await self._converse(workflow, pb.ConverseRequest(session_id=session_id, omit_deltas=True, user_message=said))
        if workflow.approval is not None:
            decision = pb.DecisionInput(
                approval_id=workflow.approval.id,
                action=approval_pb2.DECISION_ACTION_APPROVE,
                digest=workflow.approval.digest,
            )
            workflow.decided = time.time() * 1e6
            request = pb.ConverseRequest(session_id=session_id, omit_deltas=True, tool_decision=decision)
            await self._converse(workflow, request)
        return workflow

    async def _converse(self, workflow: _Workflow, request: pb.ConverseRequest) -> None:
        """Until it settles: it is done, or waits for an answer."""
        async for response in self._sessions.Converse(request):
            for event in response.events:
                workflow.take(event)


def _micros(time_: Timestamp) -> float:
    return time_.seconds * 1e6 + time_.nanos / 1e3
