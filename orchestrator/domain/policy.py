"""Which tool calls may run, which need a person, which never: pure functions over the catalog's rules."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from orchestrator.domain.catalog import Agent, Policy, Rule, Tool

# Tools that leave something at a path; an agent's write globs bound them.
WRITING_TOOLS = frozenset(("write_file",))


@dataclass(frozen=True, slots=True)
class Verdict:
    """DENY, ASK or ALLOW, the rule that said so, and why in words the agent and the person can read."""

    effect: str
    rule: str
    reason: str


def judge(policy: Policy, agent: Agent, tool: Tool | None, name: str, arguments: dict[str, Any]) -> Verdict:
    """What becomes of one call. Deny beats ask beats allow; what no rule names asks unless it only reads."""
    if tool is None:
        return Verdict("DENY", "unknown-tool", f"there is no tool {name!r}")
    if not agent.may_use(name):
        return Verdict("DENY", "agent-tools", f"agent {agent.name!r} may not use {name}")
    path = arguments.get("path")
    if name in WRITING_TOOLS and not (isinstance(path, str) and agent.may_write(path)):
        may = ", ".join(agent.write_globs) or "nothing"
        words = f"agent {agent.name!r} may not write {path!r}; it may write, inside the workspace: {may}"
        return Verdict("DENY", "agent-files", words)
    for effect in ("DENY", "ASK", "ALLOW"):
        for rule in policy.rules:
            if rule.effect == effect and _matches(rule, agent, tool):
                return Verdict(effect, rule.name, rule.reason)
    if tool.side_effect == "READ_ONLY":
        return Verdict("ALLOW", "default-read", "it only reads")
    return Verdict("ASK", "default-ask", "it is not known to be read-only")


def _matches(rule: Rule, agent: Agent, tool: Tool) -> bool:
    return (
        (not rule.tools or any(fnmatchcase(tool.name, pattern) for pattern in rule.tools))
        and (not rule.side_effects or tool.side_effect in rule.side_effects)
        and (not rule.agents or any(fnmatchcase(agent.name, pattern) for pattern in rule.agents))
    )
