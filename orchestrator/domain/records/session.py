"""A session and what its client brings: its workspace and its own tools."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records.usage import Budget
from orchestrator.domain.states import SessionState

Key = tuple[str, str]
"""Which session: its tenant and its id."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the session's file tools work: `directory` relative to the executor's root `root_id`."""

    root_id: str = ""
    directory: str = ""


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the session's client executes itself."""

    name: str
    description: str = ""
    input_schema_json: str = ""  # empty: any object
    time_limit: int = 0  # microseconds; 0: as long as its agent lets a tool take
    on_timeout: str = ""  # FAIL (also when empty), ASK or HALT


FIRST_HASH = "0" * 64
"""What the log of a session follows."""
PRIORITIES = range(-10, 11)
"""What a session's priority may be; the higher goes first."""


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation with a user. The row is lock, version, fence and lease of everything in the session."""

    tenant: str
    id: str
    state: str = SessionState.IDLE
    title: str = ""
    agent: str = "auto"
    labels: dict[str, str] = field(default_factory=dict)
    when_busy: str = "ENQUEUE"  # REJECT, ENQUEUE or INTERRUPT
    workspace: Workspace = field(default_factory=Workspace)
    client_tools: list[ClientTool] = field(default_factory=list)
    creator: str = ""
    create_time: int = 0
    update_time: int = 0
    active_run_id: str = ""
    budget: Budget = field(default_factory=Budget)  # of each of its runs
    policy: str = ""  # the name of the policy that judges its tool calls; empty: default
    settled: bool = True  # nothing moves until somebody acts: what ends a stream with until=SETTLED
    # the columns of the session row that make it lock, version, fence and lease:
    last_sequence: int = 0
    last_hash: str = FIRST_HASH
    last_event_time: int = 0
    epoch: int = 0
    owner: str = ""  # the owning replica's id; empty: nobody
    runnable: bool = False
    due_time: int = 0  # when the engine must look again even if nothing happens; 0: never
    priority: int = 0  # one of PRIORITIES: who is served first where not all can be
    queue_time: int = 0  # since when its next run waits for room among the tenant's runs; 0: it does not
