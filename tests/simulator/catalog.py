"""The agents, tools and rules of the simulated world: one tool of each side-effect class, asked about or not."""

from orchestrator.domain.catalog import ARCHITECT, ROUTER, SECOND, Agent, Catalog, Policy, Rule
from orchestrator.domain.records import ApprovalTerms

# Name → side-effect class. What asks a person is named in POLICY.
TOOLS = {
    "look": "READ_ONLY",
    "glance": "READ_ONLY",  # answers at once
    "index": "IDEMPOTENT",
    "put": "IDEMPOTENT",  # asks
    "mail": "NON_IDEMPOTENT",
    "deploy": "NON_IDEMPOTENT",  # asks
    "erase": "NON_IDEMPOTENT",  # denied
    "write_file": "IDEMPOTENT",  # no model calls it: it writes back what people edit
}
# The session's own, and what a client's silence leads to; what no rule names asks, as the second does.
CLIENT_TOOLS = {"tab": "FAIL", "ide": "FAIL", "page": "ASK", "desk": "HALT"}
CLIENT_SECONDS = 4
ASKING = frozenset(("put", "deploy"))
MODEL_SECONDS, TOOL_SECONDS = 6, 5

LEAD, DIRECTOR = "lead", "director"
ROLES = {"anna": frozenset((LEAD, DIRECTOR)), "boris": frozenset((LEAD, DIRECTOR))}
"""Who holds which; everybody else holds none."""

CONSTRAINTS = ("", *['arguments.what != ""'] * 3, 'arguments.what.endsWith("1")')
"""What people who remember a yes may say of the arguments; the empty one means the same again."""

QUESTION_SCHEMA = {"type": "object", "properties": {"content": {"enum": ["yes", "no"]}}, "required": ["content"]}
ANSWERS = ('{"content": "yes"}', '{"content": "no"}', '{"content": "perhaps"}', "[1, 1e400]")
"""What people answer to questions; the last two do not fit, and are refused."""

_TWO = ApprovalTerms(
    [LEAD], quorum=2, wait=20 * SECOND, on_expiry="ESCALATE", escalation_roles=[DIRECTOR], remind_every=8 * SECOND
)
_SOON = ApprovalTerms([LEAD], wait=8 * SECOND, on_expiry="DENY", remind_every=3 * SECOND)
_PLANS = ApprovalTerms([LEAD], requester_excluded=True, wait=15 * SECOND, on_expiry="HALT")

POLICY = Policy(
    "world",
    "world-digest",
    (
        Rule("never", "DENY", ("erase",), reason="nobody may"),
        Rule("two", "ASK", ("put",), reason="it changes something", terms=_TWO),
        Rule("soon", "ASK", ("deploy",), reason="it changes everything", terms=_SOON, remember=True),
        Rule("trusted", "ALLOW", ("mail", "index", "tab", "page", "desk")),
    ),
    terms={"PLAN": _PLANS},
)


def _agent(name: str, role: str, *tools: str) -> Agent:
    model, tool = MODEL_SECONDS * SECOND, TOOL_SECONDS * SECOND
    words = f"the {name}", "Do your part."
    return Agent(
        name, role, *words, tools=tools, write_globs=("**",), max_steps=20, model_timeout=model, tool_timeout=tool
    )


def new_catalog() -> Catalog:
    """A replica's own; its tools come from the executors."""
    agents = (
        _agent("router", ROUTER),
        _agent("architect", ARCHITECT, "look"),
        _agent("coder", "CODER", "*"),
        _agent("ask", "ASK", "look", "glance"),
    )
    return Catalog({agent.name: agent for agent in agents}, POLICY)
