"""`assent policy test`: one call explained rule by rule, or a file of cases checked."""

import shutil
from pathlib import Path

import pytest

from executor.tools.toolbox import BUILT_IN
from orchestrator.catalog.policies import read_policy
from orchestrator.policy_cases import DIFFERS, OK, SHIPPED_TOOLS, WRONG, main
from orchestrator.settings import SHIPPED_CATALOG

STRICT = """
name: strict
terms:
  TOOL_CALL: {roles: [lead], wait: 90m, on_expiry: DENY}
rules:
  - name: deploys
    effect: ASK
    tools: [run_command]
    condition: arguments.command.contains("deploy") && session.env == "live"
    reason: it deploys
    roles: [release-manager, sre]
    quorum: 2
    requester: excluded
    wait: 2h
    on_expiry: ESCALATE
    escalate_to: [director]
    remind_every: 30m
  - {name: infra, effect: DENY, paths: ["infra/**"], reason: infra is closed}
"""
CASES = """
policy: policies/strict.yaml
cases:
  - {name: infra is closed, tool: write_file, arguments: {path: infra/a}, expect: DENY, rule: infra}
  - {tool: read_file, arguments: {path: README.md}, expect: ALLOW}
  - {tool: run_command, arguments: '{"command":  "make deploy"}', labels: {env: live}, agent: coder, expect: ASK}
  - {tool: show_page, side_effect: READ_ONLY, expect: ALLOW, rule: default-read}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    (tmp_path / "catalog" / "policies" / "strict.yaml").write_text(STRICT)
    (tmp_path / "catalog" / "cases.yaml").write_text(CASES)
    return tmp_path / "catalog"


def test_a_call_is_explained_rule_by_rule(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--tool=run_command", '--arguments={"command": "make deploy"}', "--agent=coder", "--label=env=live"]
    assert main([str(directory / "policies" / "strict.yaml"), *call]) == OK
    said = capsys.readouterr().out.splitlines()
    assert said[1] == 'coder calls run_command, which is NON_IDEMPOTENT: {"command": "make deploy"}'
    assert said[2:] == [
        "  agent    no       agent 'coder' may use run_command",
        "  infra    no       the call names no path",
        "  deploys  applies  its condition holds",
        "ASK by deploys: it deploys",
        "  decides: whoever is release-manager or sre, but not who asked for the run; 2 of them must say yes",
        "  waits: 2h, then ESCALATE to director",
        "  reminds: every 30m",
        "  the answer may not be remembered",
        "note: the call names no path, so infra does not see which files it changes: "
        "that is for a condition to say, or for the tool",
    ]


def test_nothing_is_noted_of_paths_where_the_call_names_one_or_only_reads(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = str(directory / "policies" / "strict.yaml")
    for call in (["--tool=write_file", '--arguments={"path": "a"}'], ["--tool=list_files"]):
        assert main([policy, *call]) == OK
    assert "note:" not in capsys.readouterr().out


def test_what_no_rule_speaks_of_has_the_policys_terms(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(directory / "policies" / "strict.yaml"), "--tool=write_file", '--arguments={"path": "a"}']) == OK
    said = capsys.readouterr().out
    assert "ASK by default-ask" in said
    assert "whoever is lead" in said
    assert "waits: 90m, then DENY" in said


def test_cases_that_are_as_expected_end_well(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(directory / "cases.yaml")]) == OK
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ok       infra is closed: DENY by infra"
    assert said[-1] == "4 cases of policy strict: all as expected"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("expect: DENY, rule: infra", "expect: ASK", "infra is closed: DENY by infra; expected ASK"),
        ("rule: infra", "rule: deploys", "infra is closed: DENY by infra; expected DENY by deploys"),
        ("labels: {env: live}", "labels: {env: test}", "3. run_command: ASK by default-ask; expected ASK by deploys"),
    ],
)
def test_a_case_that_differs_is_explained_and_ends_badly(
    directory: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, told: str
) -> None:
    cases = CASES.replace("agent: coder, expect: ASK", "agent: coder, expect: ASK, rule: deploys")
    (directory / "cases.yaml").write_text(cases.replace(old, new))
    assert main([str(directory / "cases.yaml")]) == DIFFERS
    said = capsys.readouterr().out
    assert f"DIFFERS  {told}" in said
    assert "4 cases of policy strict: 1 differ" in said


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("expect: ALLOW}", "}", "cases.yaml:5: cases.1.expect"),
        ("expect: ALLOW}", "expect: PERHAPS}", "cases.yaml:5: cases.1.expect"),
        ("tool: read_file,", "tool: read_file, colour: red,", "cases.yaml:5: cases.1.colour"),
        ("{path: README.md}", "'[1]'", "cases.yaml:5: cases.1: arguments: is not an object"),
        ("{path: README.md}", "{path: 2026-01-01}", "cases.yaml:5: cases.1: arguments"),
        ("agent: coder", "agent: nobody", "no agent 'nobody'; there are: architect"),
        ("policies/strict.yaml", "policies/lenient.yaml", "lenient.yaml: No such file"),
    ],
)
def test_a_wrong_file_is_no_case_that_differs(
    directory: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, told: str
) -> None:
    assert old in CASES
    (directory / "cases.yaml").write_text(CASES.replace(old, new, 1))
    assert main([str(directory / "cases.yaml")]) == WRONG
    assert told in capsys.readouterr().err


def test_a_policy_without_a_call_is_asked_for_one(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(directory / "policies" / "strict.yaml")]) == WRONG
    assert "say with --tool which call to try" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--arguments={", "--side-effect=RISKY", "--agent=nobody"])
def test_a_wrong_call_is_told(directory: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    assert main([str(directory / "policies" / "strict.yaml"), "--tool=read_file", wrong]) == WRONG
    assert wrong.removeprefix("--").partition("=")[0].replace("-", "_").rstrip("s") in capsys.readouterr().err


def test_what_is_known_of_the_shipped_tools_is_what_executors_say() -> None:
    said = {name: tool.side_effect.name for name, tool in BUILT_IN.items() if not name.startswith("noop")}
    assert said == SHIPPED_TOOLS


def test_the_shipped_cases_are_as_expected_and_name_every_rule_of_their_policy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shipped = sorted((SHIPPED_CATALOG / "cases").glob("*.yaml"))
    assert [path.name for path in shipped] == ["careful.yaml"]
    for path in shipped:
        assert main([str(path)]) == OK
        said = capsys.readouterr().out
        policy = read_policy(SHIPPED_CATALOG / "policies" / path.name)
        assert {rule.name for rule in policy.rules} <= {line.rpartition(" by ")[2] for line in said.splitlines()}


def test_the_careful_policy_lets_nothing_be_decided_by_silence() -> None:
    policy = read_policy(SHIPPED_CATALOG / "policies" / "careful.yaml")
    terms = [*policy.terms.values(), *(rule.terms for rule in policy.rules if rule.terms is not None)]
    assert {said.on_expiry for said in terms} == {"HALT"}
    (two,) = [rule.terms for rule in policy.rules if rule.terms is not None]
    assert (two.roles, two.quorum, two.requester_excluded) == (["release-manager"], 2, True)
    assert policy.terms_of("PLAN").roles == ["lead"]
