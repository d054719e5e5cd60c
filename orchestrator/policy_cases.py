"""Trying a policy on calls that nobody makes: `assent policy test`. Reads files, prints, and touches nothing else."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from orchestrator.catalog import BadCatalog, load_catalog
from orchestrator.catalog.files import Strict, read
from orchestrator.catalog.policies import read_policy
from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import SECOND, Agent, Catalog, Policy, Tool
from orchestrator.domain.client_tools import common_tools
from orchestrator.domain.policy import ANY_AGENT, NAMES_NO_PATH, Call, Look, Verdict, explain
from orchestrator.domain.records import ApprovalTerms
from orchestrator.settings import SHIPPED_CATALOG

Effect = Literal["DENY", "ASK", "ALLOW"]
SideEffect = Literal["READ_ONLY", "IDEMPOTENT", "NON_IDEMPOTENT"]
SHIPPED_TOOLS = {
    "read_file": "READ_ONLY",
    "list_files": "READ_ONLY",
    "search_files": "READ_ONLY",
    "write_file": "IDEMPOTENT",
    "run_command": "NON_IDEMPOTENT",
}
"""What executors say of the tools that come with Assent: none is asked here."""

OK, DIFFERS, WRONG = 0, 1, 2


class Case(Strict):
    """A call, and what the policy shall say of it."""

    name: str = ""
    tool: str = Field(min_length=1)
    arguments: dict[str, Any] | str = Field(default_factory=dict)  # text: exactly these bytes
    agent: str = ""
    side_effect: SideEffect | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    expect: Effect | None = None
    rule: str | None = None

    @property
    def arguments_json(self) -> str:
        said = self.arguments
        return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)

    @model_validator(mode="after")
    def _is_json(self) -> Self:
        try:
            parse_object(self.arguments_json)
        except (BadJson, TypeError) as error:
            raise ValueError(f"arguments: {error}") from None
        return self


class ExpectingCase(Case):
    expect: Effect


class CasesFile(Strict):
    """`policy` is a path, seen from the file's directory."""

    policy: str
    cases: tuple[ExpectingCase, ...] = Field(min_length=1)


def main(arguments: Sequence[str]) -> int:
    """0: as expected; 1: a case differs; 2: the command line or a file is wrong."""
    said = _parser().parse_args(arguments)
    try:
        if said.tool is not None:
            return _one_call(said)
        return _cases(Path(said.file), said.catalog_dir)
    except BadCatalog as error:
        sys.stderr.write(f"{error}\n")
    except ValueError as error:
        sys.stderr.write(f"{_told(error)}\n")
    return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m orchestrator policy")
    parser.add_argument("file", help="a policy, or cases for one")
    parser.add_argument("--tool")
    parser.add_argument("--arguments", default="{}")
    parser.add_argument("--agent", default="")
    parser.add_argument("--side-effect", dest="side_effect")
    parser.add_argument("--label", action="append", default=[])
    parser.add_argument("--catalog-dir", type=Path, dest="catalog_dir")
    return parser


def _one_call(said: argparse.Namespace) -> int:
    labels = dict(label.partition("=")[::2] for label in said.label)
    case = Case(
        tool=said.tool,
        arguments=said.arguments,
        agent=said.agent,
        side_effect=said.side_effect,
        labels=labels,
    )
    path = Path(said.file)
    policy = read_policy(path)
    call = _call(case, _catalog_of(path, said.catalog_dir))
    _print(f"policy {policy.name}, {policy.digest[:12]}")
    _print(f"{call.agent.name or 'any agent'} calls {call.name}, which is {call.side_effect}: {case.arguments_json}")
    looks = list(explain(policy, call))
    _print_looks(looks)
    _print_verdict(_verdict(looks))
    _note_what_is_not_seen(policy, call, looks)
    return OK


def _cases(path: Path, catalog_dir: Path | None) -> int:
    file = _read_cases(path)
    policy_path = path.parent / file.policy
    policy, catalog = read_policy(policy_path), _catalog_of(policy_path, catalog_dir)
    wrong = [case for number, case in enumerate(file.cases, 1) if not _is_as_expected(number, case, policy, catalog)]
    _print(f"{len(file.cases)} cases of policy {policy.name}: {f'{len(wrong)} differ' if wrong else 'all as expected'}")
    return DIFFERS if wrong else OK


def _read_cases(path: Path) -> CasesFile:
    try:
        return read(path, CasesFile)[0]
    except BadCatalog:
        _refuse_policy(path)
        raise


def _refuse_policy(path: Path) -> None:
    """Says what is missing, where the file is a policy and not cases for one."""
    try:
        policy = read_policy(path)
    except BadCatalog:
        return
    raise BadCatalog(f"{path} is the policy {policy.name!r}: say with --tool which call to try")


def _is_as_expected(number: int, case: Case, policy: Policy, catalog: Catalog) -> bool:
    looks = list(explain(policy, _call(case, catalog)))
    verdict, name = _verdict(looks), case.name or f"{number}. {case.tool}"
    told = f"{name}: {verdict.effect} by {verdict.rule}"
    if verdict.effect == case.expect and case.rule in (None, verdict.rule):
        _print(f"ok       {told}")
        return True
    by = f" by {case.rule}" if case.rule else ""
    _print(f"DIFFERS  {told}; expected {case.expect}{by}")
    _print_looks(looks)
    return False


def _catalog_of(policy: Path, said: Path | None) -> Catalog:
    """The one that was named, or that the policy is part of, or the shipped one: for its agents and its tools."""
    own = policy.absolute().parent.parent
    return load_catalog(said or (own if (own / "agents").is_dir() else SHIPPED_CATALOG))


def _call(case: Case, catalog: Catalog) -> Call:
    agent: Agent | None = catalog.agents.get(case.agent) if case.agent else ANY_AGENT
    if agent is None:
        raise BadCatalog(f"no agent {case.agent!r}; there are: {', '.join(catalog.agents)}")
    known = common_tools(catalog).get(case.tool)
    side_effect = case.side_effect or (known.side_effect if known else SHIPPED_TOOLS.get(case.tool, "NON_IDEMPOTENT"))
    text = case.arguments_json
    return Call(case.tool, parse_object(text), agent, Tool(case.tool, "", "", "", side_effect), text, case.labels)


def _verdict(looks: Sequence[Look]) -> Verdict:
    verdict = looks[-1].verdict
    assert verdict is not None
    return verdict


def _print_looks(looks: Sequence[Look]) -> None:
    width = max(len(look.rule) for look in looks)
    for look in looks:
        _print(f"  {look.rule:{width}}  {'applies' if look.applies else 'no     '}  {look.reason}")


def _print_verdict(verdict: Verdict) -> None:
    because = f": {verdict.reason}" if verdict.reason else ""
    _print(f"{verdict.effect} by {verdict.rule}{because}")
    if verdict.effect == "ASK":
        for line in _in_words(verdict.terms):
            _print(f"  {line}")
        _print(f"  the answer may {'' if verdict.may_remember else 'not '}be remembered")


def _note_what_is_not_seen(policy: Policy, call: Call, looks: Sequence[Look]) -> None:
    """A command may change the files that a rule guards: whoever wrote the rule may think that it binds that, too."""
    guarding = {rule.name for rule in policy.rules if rule.effect != "ALLOW" and call.side_effect != "READ_ONLY"}
    blind = [look.rule for look in looks if look.rule in guarding and look.reason == NAMES_NO_PATH]
    if blind:
        which = f"{', '.join(blind)} {'does' if len(blind) == 1 else 'do'} not see which files it changes"
        _print(f"note: the call names no path, so {which}: that is for a condition to say, or for the tool")


def _in_words(terms: ApprovalTerms) -> list[str]:
    who = f"whoever is {' or '.join(terms.roles)}" if terms.roles else "whoever may decide at all"
    but = ", but not who asked for the run" if terms.requester_excluded else ""
    many = f"{terms.quorum} of them must say yes" if terms.quorum > 1 else "one is enough"
    lines = [f"decides: {who}{but}; {many}"]
    if not terms.wait:
        lines.append("waits: until somebody answers")
    else:
        escalated = f" to {' or '.join(terms.escalation_roles)}" if terms.on_expiry == "ESCALATE" else ""
        lines.append(f"waits: {_span(terms.wait)}, then {terms.on_expiry}{escalated}")
    if terms.remind_every:
        lines.append(f"reminds: every {_span(terms.remind_every)}")
    return lines


def _span(micros: int) -> str:
    seconds = micros // SECOND
    for unit, letter in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds % unit == 0:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def _told(error: ValueError) -> str:
    """What is wrong with the call on the command line."""
    problems: Sequence[Mapping[str, Any]] = getattr(error, "errors", list)()
    words = [f"{'.'.join(map(str, p['loc']))} {p['msg']}".strip().removeprefix("Value error, ") for p in problems]
    return "; ".join(words) or str(error)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
