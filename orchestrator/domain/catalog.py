"""What the catalog and the executors offer to a run: agents, the policy's rules, tools. Data only."""

from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from orchestrator.domain.paths import fits
from orchestrator.domain.records import ApprovalTerms, RetryPolicy, Session

SECOND = 1_000_000

# What an agent's role makes it fit for.
ROUTER, ARCHITECT = "ORCHESTRATOR", "ARCHITECT"
_NOT_FOR_SUBTASKS = (ROUTER, ARCHITECT)


@dataclass(frozen=True, slots=True)
class Agent:
    """A named, versioned configuration. `tools` and `write_globs` are glob patterns; no pattern: nothing."""

    name: str
    role: str
    description: str
    instructions: str
    model: str = ""  # empty: the executor's default
    tools: tuple[str, ...] = ()
    write_globs: tuple[str, ...] = ()
    max_steps: int = 60  # model and tool calls in one attempt
    max_output_tokens: int = 8192
    model_timeout: int = 300 * SECOND
    tool_timeout: int = 120 * SECOND
    digest: str = ""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)

    def may_use(self, tool: str) -> bool:
        return any(fnmatchcase(tool, pattern) for pattern in self.tools)

    def may_write(self, path: str) -> bool:
        return fits(path, self.write_globs)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a policy; an empty tuple matches everything."""

    name: str
    effect: str  # DENY, ASK or ALLOW
    tools: tuple[str, ...] = ()
    side_effects: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    reason: str = ""
    paths: tuple[str, ...] = ()  # glob patterns; it applies when the call names a path that fits one
    condition: str = ""  # CEL over the call
    terms: ApprovalTerms | None = None  # ASK: None: the policy's for TOOL_CALLs
    remember: bool | None = None  # ASK: whether a grant is offered; None: only where the call may run twice


@dataclass(frozen=True, slots=True)
class Policy:
    """Named, versioned rules; `terms` by the kind of approval, for those that no rule speaks of."""

    name: str = "none"
    digest: str = ""
    rules: tuple[Rule, ...] = ()
    description: str = ""
    terms: dict[str, ApprovalTerms] = field(default_factory=dict)

    def terms_of(self, kind: str) -> ApprovalTerms:
        return self.terms.get(kind, _ANYONE)


_ANYONE = ApprovalTerms()
_GONE = Policy(rules=(Rule("policy-gone", "ASK", reason="the session's policy is not in the catalog now"),))


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that an executor or a client performs, or the orchestrator itself."""

    name: str
    description: str
    input_schema_json: str
    schema_digest: str
    side_effect: str  # READ_ONLY, IDEMPOTENT or NON_IDEMPOTENT
    source: str = "builtin"
    time_limit: int = 0  # of a client's: microseconds; 0: as long as its agent lets a tool take
    on_timeout: str = ""  # of a client's: FAIL (also when empty), ASK or HALT


@dataclass(slots=True)
class Catalog:
    """What runs may use now. `tools` grows as executors connect; `client_tools` clients perform, in any session."""

    agents: dict[str, Agent] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)  # of sessions that name none
    policies: dict[str, Policy] = field(default_factory=dict)  # by name, the default included
    tools: dict[str, Tool] = field(default_factory=dict)
    client_tools: dict[str, Tool] = field(default_factory=dict)

    def subtask_agents(self) -> list[str]:
        """The names of agents a plan may give subtasks to."""
        return [agent.name for agent in self.agents.values() if agent.role not in _NOT_FOR_SUBTASKS]

    def policy_of(self, session: Session) -> Policy:
        """What judges the session's calls: where the policy it names is there no more, everything asks, on the
        default's terms."""
        return self.policy_named(session.policy) or replace(_GONE, name=session.policy, terms=self.policy.terms)

    def policy_named(self, name: str) -> Policy | None:
        """None: there is none. An empty name is the default's."""
        return self.policy if name in ("", self.policy.name) else self.policies.get(name)

    def by_role(self, role: str) -> Agent | None:
        return next((agent for agent in self.agents.values() if agent.role == role), None)
