"""A question to a person: what is shown, who may answer, and the answer."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records.usage import Budget
from orchestrator.domain.states import ApprovalState


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
