"""The things Assent keeps, as frozen dataclasses; each is both the row's content and the domain's view of it.

Field names equal those of the public protobuf resources where a resource has them, so one converter driven by
descriptors serves them all. Times are Unix microseconds (0: not yet), ids UUIDv7 strings (empty: none).
Nothing here decides anything.
"""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.states import (
    ApprovalState,
    AttemptState,
    PlanState,
    RunState,
    SessionState,
    StepState,
    SubtaskState,
)

Key = tuple[str, str]
"""Which session: its tenant and its id."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What model calls consumed. `cost_usd_micros` counts priced calls only; `unpriced_calls` the others."""

    model_calls: int = 0
    tool_calls: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd_micros: int = 0
    unpriced_calls: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
            self.input_tokens + other.input_tokens,
            self.cached_input_tokens + other.cached_input_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cost_usd_micros + other.cost_usd_micros,
            self.unpriced_calls + other.unpriced_calls,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed, in the words of the contract's reasons."""

    reason: str = ""
    message: str = ""
    disposition: str = ""  # RETRYABLE, HUMAN_REQUIRED or FATAL
    retry_after: int = 0  # microseconds, where whoever failed said so


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failed attempt is followed by others; durations in microseconds."""

    max_attempts: int = 3
    first_backoff: int = 5_000_000
    longest_backoff: int = 300_000_000
    factor: float = 2.0
    non_retryable_reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may consume; 0: no limit of that kind. `work_duration` in microseconds."""

    cost_usd_micros: int = 0
    total_tokens: int = 0
    calls: int = 0
    work_duration: int = 0


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where the session's file tools work: `directory` relative to the executor's root `root_id`."""

    root_id: str = ""
    directory: str = ""


PRIORITIES = range(-10, 11)
"""What a session's priority may be; the higher goes first."""


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that the session's client executes itself."""

    name: str
    description: str = ""
    input_schema_json: str = ""  # empty: any object
    time_limit: int = 0  # microseconds; 0: as long as its agent lets a tool take
    on_timeout: str = ""  # FAIL (also when empty), ASK or HALT


@dataclass(frozen=True, slots=True)
class ExpectedArtifact:
    """What a subtask must leave in the workspace."""

    name: str
    media_type: str = ""  # empty: any
    schema: str = ""  # the name of a JSON Schema of the catalog; empty: none
    path: str = ""  # empty: the name
    schema_json: str = ""  # the JSON Schema itself; empty: none


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
    last_hash: str = "0" * 64
    last_event_time: int = 0
    epoch: int = 0
    owner: str = ""  # the owning replica's id; empty: nobody
    runnable: bool = False
    due_time: int = 0  # when the engine must look again even if nothing happens; 0: never
    priority: int = 0  # one of PRIORITIES: who is served first where not all can be
    queue_time: int = 0  # since when its next run waits for room among the tenant's runs; 0: it does not


@dataclass(frozen=True, slots=True)
class Message:
    """What a user or an agent said."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    role: str  # USER or AGENT
    agent: str  # who said it (AGENT), or whom it is addressed to (USER; "auto": let it be routed)
    text: str
    author: str = ""  # the principal, for a user's message
    sequence: int = 0  # of the message_created event: the conversation's order
    create_time: int = 0


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


@dataclass(frozen=True, slots=True)
class Subtask:
    """A node of a plan, done by one agent from its first step to its last."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    plan_id: str
    key: str
    title: str
    instructions: str
    agent: str
    position: int
    depends_on: list[str] = field(default_factory=list)  # keys
    state: str = SubtaskState.PENDING
    attempts: int = 0
    not_before_time: int = 0
    result: str = ""
    failure: Failure = field(default_factory=Failure)
    start_time: int = 0
    end_time: int = 0
    retry_policy: RetryPolicy | None = None  # None: its agent's
    losses: int = 0
    artifacts: list[ExpectedArtifact] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    carried_subtask_id: str = ""  # of an earlier version of the plan, whose result this is
    skip_reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A versioned graph of subtasks; a DRAFT until a person approves exactly this digest."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    version: int
    title: str
    summary: str
    author: str  # an agent's name or a principal
    parallel_limit: int = 1
    state: str = PlanState.DRAFT
    digest: str = ""
    create_time: int = 0
    approve_time: int = 0
    start_time: int = 0
    end_time: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try by one agent: a conversation of steps until a final answer."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    purpose: str  # ROUTING, PLANNING, SUBTASK or ANSWER
    agent: str
    number: int
    subtask_id: str = ""
    state: str = AttemptState.RUNNING
    feedback: str = ""  # what the agent is told about the try before: errors, or a person's words
    result: str = ""
    failure: Failure = field(default_factory=Failure)
    create_time: int = 0
    end_time: int = 0
    losses: int = 0  # executors that died under its steps
    retry_time: int = 0  # failed: when the next attempt begins by itself; 0: none does
    heeds_approval_id: str = ""  # the decision that had it begin, whose words its feedback has; empty: none did


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call as a model's reply proposed it: the exact argument text."""

    call_id: str
    tool: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model call came to."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool call came to; `content` is what the model reads."""

    content: str = ""
    structured_json: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """What keeps a step that is due from being dispatched."""

    reason: str  # NO_EXECUTOR or NO_SLOT
    needs: str  # what an executor must have for it, in words
    since_time: int


@dataclass(frozen=True, slots=True)
class Step:
    """One model call or one tool call: the unit the executor performs, one line of the ledger."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    attempt_id: str
    subtask_id: str
    kind: str  # MODEL or TOOL
    state: str
    agent: str
    ordinal: int  # in its attempt: 1, 2, 3 …
    # model
    model: str = ""
    reply: ModelReply | None = None
    feedback: str = ""  # what the model is told after this reply: its answer did not do, and why
    # tool
    tool: str = ""
    call_id: str = ""
    model_step_id: str = ""  # the reply that proposed the call
    replaces_step_id: str = ""  # the call as it was before a person edited it
    arguments_json: str = ""
    side_effect: str = ""  # READ_ONLY, IDEMPOTENT or NON_IDEMPOTENT
    schema_digest: str = ""
    policy_rule: str = ""  # the rule that decided: allow, ask or deny, and its name
    approval_id: str = ""
    approval_preimage: str = ""
    grant_id: str = ""  # what allowed it in a person's stead
    result: ToolResult | None = None
    # dispatch
    dispatch_number: int = 0  # rises by one with each dispatch, over the step's life
    executor_instance: str = ""
    executor_address: str = ""
    dispatch_time: int = 0  # of the last dispatch
    deadline_time: int = 0
    doubt_number: int = 0  # the last dispatch that nobody knows the end of; what follows it, a person has allowed
    faults: int = 0  # transient faults so far
    refusals: int = 0  # how often an executor did not take it
    losses: int = 0  # how often its executor died, or was silent past the deadline
    not_before_time: int = 0
    waiting_for: WaitingFor | None = None  # said once it has waited for more than a moment
    # a client's tool
    client_id: str = ""  # which client has claimed the call, or handed in its result
    claimer: str = ""  # the principal that client speaks for
    lease_expire_time: int = 0  # until when nobody else may take it
    # outcome
    failure: Failure = field(default_factory=Failure)
    usage: Usage = field(default_factory=Usage)
    latency: int = 0  # microseconds
    provider_request_id: str = ""
    create_time: int = 0
    start_time: int = 0
    end_time: int = 0


@dataclass(frozen=True, slots=True)
class Remember:
    """What a yes is also to mean: later calls whose arguments satisfy the constraint, for a time (microseconds)."""

    constraint: str = ""  # CEL; empty: the very same arguments
    lifetime: int = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's answer to an approval."""

    action: str
    decider: str
    decide_time: int
    digest: str = ""
    feedback: str = ""
    response_json: str = ""  # RESPOND: what the call came to, in this person's words
    edited_arguments_json: str = ""  # EDIT: the exact text that runs instead
    edited_digest: str = ""  # EDIT: SHA-256 of the preimage of the call that runs instead
    new_limit: Budget | None = None  # APPROVE of a BUDGET: what it may consume in all
    grant_id: str = ""  # APPROVE of a TOOL_CALL: the grant it made
    edited_artifact_id: str = ""  # EDIT of an ARTIFACT: what takes its place
    edited_sha256: str = ""  # … and SHA-256 of its bytes
    remember: Remember | None = None  # APPROVE of a TOOL_CALL


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """Who may decide, how many must, and how long it waits (microseconds): what the policy says of a question."""

    roles: list[str] = field(default_factory=list)  # empty: whoever may decide at all
    quorum: int = 1
    requester_excluded: bool = False
    wait: int = 0  # 0: for ever
    on_expiry: str = "NEVER"  # NEVER, HALT, DENY or ESCALATE
    escalation_roles: list[str] = field(default_factory=list)
    remind_every: int = 0  # 0: never


@dataclass(frozen=True, slots=True)
class Vote:
    """One of several answers that are needed."""

    voter: str
    action: str
    vote_time: int
    feedback: str = ""
    new_limit: Budget | None = None  # of a BUDGET: all must mean the same
    remember: Remember | None = None  # of a TOOL_CALL: all must ask for the same


@dataclass(frozen=True, slots=True)
class Preview:
    """What a person is shown, rendered from the exact bytes that will run."""

    title: str = ""
    text: str = ""  # the plan as Markdown, the command line, the arguments …
    path: str = ""  # a file tool's path
    new_text: str = ""  # what a write would leave in the file
    agent: str = ""
    reason: str = ""  # why it is asked, in the policy's or the engine's words
    format: str = ""  # how `text` is to be read: MARKDOWN, DIFF, COMMAND or JSON; empty: as it stands
    agent_words: str = ""  # what the model said when it asked for this: not verified
    truncated: bool = False  # there is more than is shown


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person about one exact thing."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    kind: str  # PLAN, TOOL_CALL, ARTIFACT, QUESTION, BUDGET, IN_DOUBT or FAILURE
    digest: str
    state: str = ApprovalState.PENDING
    preimage: str = ""
    allowed_actions: list[str] = field(default_factory=list)
    plan_id: str = ""
    plan_version: int = 0
    step_id: str = ""
    subtask_id: str = ""
    tool: str = ""
    arguments_json: str = ""
    requester: str = ""
    preview: Preview = field(default_factory=Preview)
    decision: Decision | None = None
    consume_time: int = 0  # when the step it allowed was first dispatched: an approval is used once
    create_time: int = 0
    expire_time: int = 0
    resolve_time: int = 0
    # who may answer, and how long it waits
    terms: ApprovalTerms = field(default_factory=ApprovalTerms)
    votes: list[Vote] = field(default_factory=list)  # oldest first
    reminders: int = 0  # so far
    remind_time: int = 0  # when the next one is due; 0: none is
    # by kind
    may_remember: bool = False  # TOOL_CALL
    response_schema_json: str = ""  # QUESTION: what the answer must satisfy; empty: any JSON
    artifact_id: str = ""  # ARTIFACT
    gate: str = ""  # ARTIFACT: which of its subtask's gates
    policy_rule: str = ""  # the rule that asked
    earlier_approval_id: str = ""  # what expired, or was edited, and this takes the place of
    # settled without a decision
    resolver: str = ""  # who did what left nothing to decide
    resolve_reason: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A remembered "allow" inside one session: a tool as its schema stands, a constraint on arguments, and an end."""

    tenant: str
    id: str
    session_id: str
    tool: str
    schema_digest: str
    constraint: str  # CEL over `arguments` and `arguments_sha256`
    approval_id: str
    creator: str
    create_time: int
    expire_time: int
    revoke_time: int = 0
    revoker: str = ""
    revoke_reason: str = ""
    end_time: int = 0  # when it was found to have ended, revoked or run out; 0: it stands
    uses: int = 0
    policy_rule: str = ""  # the rule that asked: it answers no other
    policy_digest: str = ""  # of the policy as it stood


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file-like output of a subtask, as it was when it was recorded; its bytes are kept by their SHA-256."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    name: str
    media_type: str
    sha256: str
    size_bytes: int
    path: str = ""
    schema_digest: str = ""  # of the JSON Schema it was checked against
    valid: bool = True
    errors: list[str] = field(default_factory=list)
    replaces_artifact_id: str = ""
    editor: str = ""
    create_time: int = 0
    preview: str = ""  # the beginning of its text, for those who decide


Row = Session | Message | Run | Plan | Subtask | Attempt | Step | Approval | Grant | Artifact


def is_open(run: Run) -> bool:
    return run.state not in (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)


def is_done(step: Step) -> bool:
    """Terminal: the step has its one final result."""
    return step.state in _DONE


_DONE = frozenset((StepState.SUCCEEDED, StepState.FAILED, StepState.REJECTED, StepState.EDITED, StepState.CANCELLED))
