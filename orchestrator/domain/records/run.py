"""A run, and the wish that it pauses."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records.failure import Failure
from orchestrator.domain.records.usage import Budget, Usage
from orchestrator.domain.states import RunState


@dataclass(frozen=True, slots=True)
class Pause:
    """A wish that nothing new starts in a run; it is PAUSED once nothing is in flight."""

    requester: str
    reason: str
    request_time: int


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of durable work in a session."""

    tenant: str
    id: str
    session_id: str
    state: str
    kind: str  # MESSAGE, PLAN (a client's own) or WORKFLOW
    agent: str  # the agent asked for; "auto": routing decides
    goal: str
    message_id: str = ""
    requester: str = ""
    route: str = ""  # "": not routed yet, ATOMIC, COMPLEX
    route_agent: str = ""
    route_reason: str = ""
    plan_id: str = ""  # the current version
    queued_behind_run_id: str = ""
    queue_number: int = 0  # the session's order of runs: 1, 2, 3 …
    final_message_id: str = ""
    failure: Failure = field(default_factory=Failure)
    usage: Usage = field(default_factory=Usage)
    traceparent: str = ""  # of the request that began it (W3C): its steps belong to the same trace
    pause: Pause | None = None  # asked for, and perhaps in force
    cancel_reason: str = ""
    waits_for: str = ""  # RUNS_PER_TENANT: it would go on, and has no room among the tenant's runs
    create_time: int = 0
    start_time: int = 0
    end_time: int = 0
    # what did not go smoothly
    retries: int = 0  # attempts that were followed by another one by themselves
    faults: int = 0  # dispatches that failed in passing
    losses: int = 0  # executors that died under its steps
    # its limits, and the clock that one of them goes by (worktime.py)
    budget: Budget = field(default_factory=Budget)
    work_duration: int = 0  # until the clock was last set going
    work_start_time: int = 0  # when that was; 0: it stands


def is_open(run: Run) -> bool:
    return run.state not in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
