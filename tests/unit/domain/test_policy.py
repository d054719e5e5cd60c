"""Which calls run, ask or are denied; and which paths an agent may write, however the path is spelled."""

import pytest

from orchestrator.domain.catalog import Agent, Policy, Rule, Tool
from orchestrator.domain.policy import Call, Verdict, judge
from tests.unit.domain.build import AGENTS, POLICY, TOOLS

BY_NAME = {agent.name: agent for agent in AGENTS}


def tool(name: str, side_effect: str = "") -> Tool:
    return Tool(name, "", "{}", "sd", side_effect or TOOLS[name])


def verdict(name: str, agent: str = "coder", policy: Policy = POLICY, **arguments: object) -> Verdict:
    return judge(policy, Call(name, arguments, BY_NAME[agent], tool(name)))


def effect_of(side_effect: str) -> str:
    """Where there is no rule at all."""
    return judge(Policy(), Call("x", {}, BY_NAME["coder"], tool("x", side_effect))).effect


@pytest.mark.parametrize(
    ("name", "effect", "rule"),
    [
        ("format_disk", "DENY", "never"),
        ("write_file", "ASK", "changes"),
        ("run_command", "ASK", "changes"),
        ("send_mail", "ALLOW", "trusted"),
        ("read_file", "ALLOW", "default-read"),
    ],
)
def test_rules_and_defaults_decide(name: str, effect: str, rule: str) -> None:
    said = verdict(name, path="notes.md")
    assert (said.effect, said.rule) == (effect, rule)


def test_what_no_rule_names_asks_unless_it_only_reads() -> None:
    assert effect_of("IDEMPOTENT") == "ASK"
    assert effect_of("NON_IDEMPOTENT") == "ASK"
    assert effect_of("READ_ONLY") == "ALLOW"
    assert effect_of("SOMETHING_NEW") == "ASK"


def test_a_tool_nobody_offers_is_denied() -> None:
    unknown = judge(POLICY, Call("no_such", {}, BY_NAME["coder"], None))
    assert (unknown.effect, unknown.rule) == ("DENY", "unknown-tool")
    assert "'no_such'" in unknown.reason


@pytest.mark.parametrize("order", [("DENY", "ASK", "ALLOW"), ("ALLOW", "ASK", "DENY"), ("ASK", "ALLOW", "DENY")])
def test_deny_beats_ask_beats_allow_in_whatever_order_they_stand(order: tuple[str, ...]) -> None:
    rules = tuple(Rule(effect.lower(), effect) for effect in order)
    assert verdict("read_file", policy=Policy(rules=rules)).effect == "DENY"
    assert verdict("read_file", policy=Policy(rules=tuple(r for r in rules if r.effect != "DENY"))).effect == "ASK"


def test_a_rule_matches_by_tool_and_side_effect_and_agent_together() -> None:
    rule = Rule("narrow", "DENY", ("read_*",), ("READ_ONLY",), ("cod*",))
    policy = Policy(rules=(rule,))
    assert verdict("read_file", policy=policy).rule == "narrow"
    assert verdict("read_file", "ask", policy).rule == "default-read"
    assert verdict("send_mail", policy=policy).rule == "default-ask"


def test_the_rules_own_reason_is_told() -> None:
    assert verdict("format_disk").reason == "too dangerous"


def test_an_agent_uses_only_its_tools_whatever_the_policy_allows() -> None:
    denied = verdict("send_mail", "ask")
    assert (denied.effect, denied.rule) == ("DENY", "agent-tools")
    assert not Agent("none", "", "", "").may_use("read_file")


@pytest.mark.parametrize("path", ["notes.md", "docs/plan.md", "docs/deep/er/plan.md", "./notes.md", "docs//plan.md"])
def test_an_agent_may_write_what_its_globs_name(path: str) -> None:
    assert verdict("write_file", "architect", path=path).effect == "ASK"


@pytest.mark.parametrize(
    "path",
    [
        "main.py",
        "notes.md.py",
        "NOTES.MD",
        "../x.md",
        "docs/../../x.md",
        "a/../b.md",
        "/etc/x.md",
        "~/x.md",
        "C:/x.md",
        "..\\x.md",
        "x.md/",
        "",
        ".",
        "a\x00.md",
    ],
)
def test_an_agent_may_not_write_elsewhere_however_the_path_is_spelled(path: str) -> None:
    denied = verdict("write_file", "architect", path=path)
    assert (denied.effect, denied.rule) == ("DENY", "agent-files")
    assert "*.md" in denied.reason


@pytest.mark.parametrize("path", ["../x.md", "a/../b.py", "/etc/passwd"])
def test_not_even_an_agent_that_may_write_everything_leaves_the_workspace(path: str) -> None:
    assert verdict("write_file", "coder", path=path).effect == "DENY"


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("docs/*.md", "docs/a.md", True),
        ("docs/*.md", "docs/deep/a.md", False),
        ("docs/*.md", "docs/../a.md", False),
        ("docs/*.md", "other/docs/a.md", False),
        ("lib/**/*.dart", "lib/main.dart", True),
        ("lib/**/*.dart", "lib/a/b/main.dart", True),
        ("lib/**", "lib/a/b", True),
        ("**/x", "x", True),
        ("*", "a/b/c", True),
        ("a?.[ch]", "deep/ab.c", True),
        ("a?.[ch]", "abc.c", False),
    ],
)
def test_a_glob_means_what_it_means_to_the_executor(glob: str, path: str, fits: bool) -> None:
    assert Agent("a", "", "", "", write_globs=(glob,)).may_write(path) == fits


def test_a_path_that_is_no_text_is_denied() -> None:
    assert verdict("write_file", "architect", path=["main.py"]).effect == "DENY"
    assert verdict("write_file", "architect").effect == "DENY"


def test_a_path_of_a_tool_that_does_not_write_is_not_bounded_by_write_globs() -> None:
    assert verdict("read_file", "ask", path="main.py").effect == "ALLOW"
