"""A catalog's policies: read whole, or refused with file, line and field."""

import shutil
from pathlib import Path

import pytest

from orchestrator.catalog import BadCatalog, load_catalog
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.records import ApprovalTerms
from orchestrator.settings import SHIPPED_CATALOG

HOUR = 3600 * SECOND
STRICT = """name: strict
description: Nobody deploys alone.
terms:
  PLAN: {roles: [lead], requester: excluded, wait: 24h, on_expiry: HALT, remind_every: 4h}
  QUESTION: {wait: 7d}
rules:
  - name: deploys-need-two
    effect: ASK
    tools: [run_command]
    side_effects: [NON_IDEMPOTENT]
    agents: ["cod*"]
    paths: ["infra/**"]
    condition: |
      arguments.command.contains("deploy")
    reason: it deploys
    roles: [release-manager]
    quorum: 2
    requester: excluded
    wait: 2h
    on_expiry: ESCALATE
    escalate_to: [director]
    remind_every: 30m
    remember: false
  - name: no-force
    effect: DENY
    condition: has(arguments.force) && arguments.force
  - name: reading
    effect: ALLOW
    side_effects: [READ_ONLY]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    return tmp_path / "catalog"


def with_policy(directory: Path, text: str, name: str = "strict.yaml") -> Path:
    (directory / "policies" / name).write_text(text)
    return directory


def test_a_policy_says_what_its_file_says(directory: Path) -> None:
    catalog = load_catalog(with_policy(directory, STRICT))
    strict = catalog.policies["strict"]
    assert (strict.name, strict.description, len(strict.digest)) == ("strict", "Nobody deploys alone.", 64)
    assert strict.terms == {
        "PLAN": ApprovalTerms(["lead"], 1, True, 24 * HOUR, "HALT", [], 4 * HOUR),
        "QUESTION": ApprovalTerms(wait=7 * 24 * HOUR, on_expiry="HALT"),
    }
    deploys, no_force, reading = strict.rules
    assert deploys.terms == ApprovalTerms(["release-manager"], 2, True, 2 * HOUR, "ESCALATE", ["director"], HOUR // 2)
    assert (deploys.tools, deploys.agents, deploys.paths) == (("run_command",), ("cod*",), ("infra/**",))
    assert (deploys.condition.strip(), deploys.remember) == ('arguments.command.contains("deploy")', False)
    assert (no_force.effect, no_force.terms, no_force.remember) == ("DENY", None, None)
    assert (reading.effect, reading.side_effects) == ("ALLOW", ("READ_ONLY",))


def test_sessions_that_name_none_have_the_default(directory: Path) -> None:
    catalog = load_catalog(with_policy(directory, STRICT))
    assert sorted(catalog.policies) == ["careful", "default", "strict"]
    assert catalog.policy is not None
    assert catalog.policy.name == "default"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: strict", "name: Strict One", "strict.yaml:1: name"),
        ("  PLAN:", "  PLANS:", "strict.yaml:4: terms.PLANS"),
        ("  QUESTION: {wait: 7d}", "  QUESTION: {quorum: 2}", "strict.yaml:3: terms: QUESTION: one answer is enough"),
        ("effect: ASK", "effect: MAYBE", "strict.yaml:8: rules.0.effect"),
        ("tools: [run_command]", 'tools: [""]', "strict.yaml:9: rules.0.tools.0"),
        ("[NON_IDEMPOTENT]", "[RISKY]", "strict.yaml:10: rules.0.side_effects.0"),
        ('.contains("deploy")', '.contains("deploy"', "strict.yaml:13: rules.0.condition: line 2, column 1"),
        (".contains(", ".has(", "no function 'has'"),
        ("arguments.command", "argument.command", "no name 'argument'"),
        ("quorum: 2", "quorum: 0", "strict.yaml:17: rules.0.quorum"),
        ("requester: excluded\n    wait", "requester: never\n    wait", "strict.yaml:18: rules.0.requester"),
        ("wait: 2h", "wait: 2 hours", "strict.yaml:19: rules.0.wait: must be a whole number"),
        ("on_expiry: ESCALATE", "on_expiry: SHRUG", "strict.yaml:20: rules.0.on_expiry"),
        ("on_expiry: ESCALATE", "on_expiry: DENY", "strict.yaml:7: rules.0: on_expiry: ESCALATE and escalate_to go"),
        ("    escalate_to: [director]\n", "", "strict.yaml:7: rules.0: on_expiry: ESCALATE and escalate_to go"),
        ("    wait: 2h\n", "", "strict.yaml:7: rules.0: on_expiry: ESCALATE needs wait"),
        ("wait: 24h, on_expiry: HALT", "wait: 24h, on_expiry: NEVER", "strict.yaml:4: terms.PLAN: wait means nothing"),
        ("escalate_to: [director]", 'escalate_to: ["*"]', "strict.yaml:21: rules.0.escalate_to.0"),
        ("remember: false", "remember: true", "strict.yaml:7: rules.0: remember: a grant knows one person"),
        ("effect: DENY", "effect: DENY\n    roles: [lead]", "strict.yaml:24: rules.1: roles: nobody is asked"),
        ("effect: ALLOW", "effect: ALLOW\n    remember: true", "strict.yaml:27: rules.2: remember: nobody is asked"),
        ("name: no-force", "name: reading", "strict.yaml:6: rules: there are two rules 'reading'"),
        ("reason: it deploys", "because: it deploys", "strict.yaml:15: rules.0.because"),
    ],
)
def test_a_mistake_is_named_with_its_file_line_and_field(directory: Path, old: str, new: str, words: str) -> None:
    assert old in STRICT
    with pytest.raises(BadCatalog) as refused:
        load_catalog(with_policy(directory, STRICT.replace(old, new, 1)))
    assert words in str(refused.value)


def test_of_two_policies_of_one_name_the_second_is_refused(directory: Path) -> None:
    with_policy(directory, STRICT)
    with pytest.raises(BadCatalog, match=r"two\.yaml: there is a policy 'strict' already"):
        load_catalog(with_policy(directory, STRICT, "two.yaml"))


def test_there_is_always_a_default(directory: Path) -> None:
    (directory / "policies" / "default.yaml").unlink()
    with pytest.raises(BadCatalog, match=r"default\.yaml"):
        load_catalog(with_policy(directory, STRICT))
