"""The agents, tools and rules of the simulated world: one tool of each side-effect class, asked about or not."""

from orchestrator.domain.catalog import ARCHITECT, ROUTER, SECOND, Agent, Catalog, Policy, Rule

# Name → side-effect class. What asks a person is named in POLICY.
TOOLS = {
    "look": "READ_ONLY",
    "glance": "READ_ONLY",  # answers at once
    "index": "IDEMPOTENT",
    "put": "IDEMPOTENT",  # asks
    "mail": "NON_IDEMPOTENT",
    "deploy": "NON_IDEMPOTENT",  # asks
    "erase": "NON_IDEMPOTENT",  # denied
}
CLIENT_TOOLS = ("tab", "ide")  # the session's own; what no rule names asks, as the second does
ASKING = frozenset(("put", "deploy"))
MODEL_SECONDS, TOOL_SECONDS = 6, 5

POLICY = Policy(
    "world",
    "world-digest",
    (
        Rule("never", "DENY", ("erase",), reason="nobody may"),
        Rule("ask", "ASK", tuple(sorted(ASKING)), reason="it changes something"),
        Rule("trusted", "ALLOW", ("mail", "index", "tab")),
    ),
)


def _agent(name: str, role: str, *tools: str) -> Agent:
    model, tool = MODEL_SECONDS * SECOND, TOOL_SECONDS * SECOND
    words = f"the {name}", "Do your part."
    return Agent(name, role, *words, tools=tools, max_steps=20, model_timeout=model, tool_timeout=tool)


def new_catalog() -> Catalog:
    """A replica's own; its tools come from the executors."""
    agents = (
        _agent("router", ROUTER),
        _agent("architect", ARCHITECT, "look"),
        _agent("coder", "CODER", "*"),
        _agent("ask", "ASK", "look", "glance"),
    )
    return Catalog({agent.name: agent for agent in agents}, POLICY)
