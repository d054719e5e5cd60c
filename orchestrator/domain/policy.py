"""Which tool calls may run, which need a person, which never: pure functions over the catalog's rules."""

from collections.abc import Iterator, Mapping
from dataclasses import field
from fnmatch import fnmatchcase
from typing import Any

from orchestrator.domain import conditions
from orchestrator.domain.catalog import Agent, Policy, Rule, Tool
from orchestrator.domain.digests import sha256
from orchestrator.domain.frozen import dataclass
from orchestrator.domain.paths import fits, is_elsewhere, path_arguments
from orchestrator.domain.records import ApprovalTerms

# Tools that leave something at a path; an agent's write globs bound them.
WRITING_TOOLS = frozenset(("write_file",))
NAMES_NO_PATH = "the call names no path"
# What may be remembered where the rule says nothing of it: what may run twice.
_REPEATABLE = ("READ_ONLY", "IDEMPOTENT")


ANY_AGENT = Agent("", "", "", "", tools=("*",), write_globs=("**",))
"""Whoever it is: bounded by the policy alone."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is judged: the call, who makes it, and the labels of the session it is made in."""

    name: str
    arguments: dict[str, Any]
    agent: Agent
    tool: Tool | None  # None: nobody offers it
    arguments_json: str = ""  # their exact text
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def side_effect(self) -> str:
        return self.tool.side_effect if self.tool else "NON_IDEMPOTENT"

    @property
    def variables(self) -> dict[str, Any]:
        """What conditions may name."""
        return {
            "arguments": self.arguments,
            "arguments_sha256": sha256(self.arguments_json),
            "tool": self.name,
            "agent": self.agent.name,
            "side_effect": self.side_effect,
            "session": dict(self.labels),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """DENY, ASK or ALLOW, the rule that said so, and why in words the agent and the person can read.

    Of an ASK also on which `terms` (of any verdict: those a person would be asked on), and whether an answer may be
    remembered.
    """

    effect: str
    rule: str
    reason: str
    terms: ApprovalTerms = field(default_factory=ApprovalTerms)
    may_remember: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What became of one rule: whether it applies to the call, and why it does or does not."""

    rule: str
    applies: bool
    reason: str
    verdict: Verdict | None = None  # what it decides, where it applies


def judge(policy: Policy, call: Call) -> Verdict:
    """What becomes of one call. Deny beats ask beats allow; what no rule names asks unless it only reads."""
    return next(look.verdict for look in explain(policy, call) if look.verdict is not None)


def explain(policy: Policy, call: Call) -> Iterator[Look]:
    """Every rule that is looked at, in order; the last one decides, and only it has a verdict."""
    look = _built_in(call)
    yield look
    if look.applies:
        return
    for effect in ("DENY", "ASK", "ALLOW"):
        for rule in policy.rules:
            if rule.effect != effect:
                continue
            misfit, why = _misfit(rule, call), ""
            if not misfit:
                applies, why = _condition(rule, call)
                misfit = "" if applies else why
            if misfit:
                yield Look(rule.name, False, misfit)
                continue
            terms = rule.terms or policy.terms_of("TOOL_CALL")
            offered = _is_offered(rule.remember, call, terms)
            yield Look(rule.name, True, why, Verdict(effect, rule.name, rule.reason, terms, offered))
            return
    yield _default(policy, call)


def _built_in(call: Call) -> Look:
    """What holds before any policy: the tool is there, and the agent may use it, and there."""
    name, agent = call.name, call.agent
    if call.tool is None:
        return _refusal("unknown-tool", f"there is no tool {name!r}")
    if not agent.may_use(name):
        return _refusal("agent-tools", f"agent {agent.name!r} may not use {name}")
    path = call.arguments.get("path")
    if name in WRITING_TOOLS and not (isinstance(path, str) and agent.may_write(path)):
        may = ", ".join(agent.write_globs) or "nothing"
        words = f"agent {agent.name!r} may not write {path!r}; it may write, inside the workspace: {may}"
        return _refusal("agent-files", words)
    return Look("agent", False, f"agent {agent.name!r} may use {name}")


def _refusal(rule: str, words: str) -> Look:
    return Look(rule, True, words, Verdict("DENY", rule, words))


def _default(policy: Policy, call: Call) -> Look:
    if call.side_effect == "READ_ONLY":
        effect, rule, words = "ALLOW", "default-read", "it only reads"
    else:
        effect, rule, words = "ASK", "default-ask", "it is not known to be read-only"
    terms = policy.terms_of("TOOL_CALL")
    verdict = Verdict(effect, rule, words, terms, _is_offered(None, call, terms))
    return Look(rule, True, f"no rule applies, and {words}", verdict)


def _is_offered(said: bool | None, call: Call, terms: ApprovalTerms) -> bool:
    """As the rule says; says it nothing, where one person decides about what may run twice. Never where several must
    who are not the requester: a grant knows one of them."""
    if terms.quorum > 1 and terms.requester_excluded:
        return False
    return terms.quorum <= 1 and call.side_effect in _REPEATABLE if said is None else said


def _misfit(rule: Rule, call: Call) -> str:
    """What of the rule does not fit the call, its condition aside; empty: all does."""
    if rule.tools and not any(fnmatchcase(call.name, glob) for glob in rule.tools):
        return f"{call.name} is none of its tools"
    if rule.side_effects and call.side_effect not in rule.side_effects:
        return f"it is about {', '.join(rule.side_effects)} tools, and {call.name} is {call.side_effect}"
    if rule.agents and not any(fnmatchcase(call.agent.name, glob) for glob in rule.agents):
        return f"{call.agent.name} is none of its agents"
    return _path_misfit(rule, call.arguments) if rule.paths else ""


def _path_misfit(rule: Rule, arguments: dict[str, Any]) -> str:
    """DENY and ASK are about a call that names one of their paths; ALLOW about one that names no other.

    A path that may lead anywhere is taken for one of those that a DENY or ASK is about, and for none of an ALLOW's.
    """
    paths = path_arguments(arguments)
    if not paths:
        return NAMES_NO_PATH
    if rule.effect == "ALLOW":
        other = next((path for path in paths if not fits(path, rule.paths)), None)
        return f"{other!r} is none of its paths" if other is not None else ""
    one = any(is_elsewhere(path) or fits(path, rule.paths) for path in paths)
    return "" if one else f"{', '.join(map(repr, paths[:3]))}: none of its paths"


def _condition(rule: Rule, call: Call) -> tuple[bool, str]:
    """Whether the rule applies by its condition, and why. One that cannot be evaluated takes the safe side."""
    if not rule.condition:
        return True, "all it names fits"
    try:
        holds = conditions.holds(conditions.compile(rule.condition), call.variables)
    except (conditions.BadCondition, conditions.Unjudged) as error:
        safe = rule.effect != "ALLOW"
        so = "it applies, to be safe" if safe else "it does not apply, to be safe"
        return safe, f"its condition cannot be evaluated: {error}; so {so}"
    return holds, "its condition holds" if holds else "its condition does not hold"
