"""The documents say what is there: settings, metrics, links, RPCs, error reasons, drawn machines, commands."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic_settings import BaseSettings
from typer.core import TyperGroup

from cli.main import commands
from executor.settings import Settings as ExecutorSettings
from gateway.settings import Settings as GatewaySettings
from gen.assent.v1 import error_reason_pb2
from orchestrator.bootstrap import Usages
from orchestrator.domain.asking import ACTIONS
from orchestrator.domain.states import MACHINES
from orchestrator.policy_cases import main as try_policy
from orchestrator.servicers.approvals import Approvals
from orchestrator.servicers.catalogs import Catalogs
from orchestrator.servicers.later import the_rest_later
from orchestrator.servicers.plans import Plans
from orchestrator.servicers.runs import Runs
from orchestrator.servicers.sessions import Sessions
from orchestrator.settings import Settings as OrchestratorSettings
from scripts import draw_machines

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("bench/*.md")]
SETTINGS: tuple[type[BaseSettings], ...] = (OrchestratorSettings, ExecutorSettings, GatewaySettings)

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.M)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_VARIABLE = re.compile(r"ASSENT_[A-Z_]+[A-Z]")
_METRIC = re.compile(r'(Counter|Gauge|Histogram)\(\s*"(assent_\w+)"')
_COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?assent +(.*)$", re.M)


def of_the_command_line() -> Iterator[str]:
    for command in (group(), *all_commands().values()):
        for parameter in command.params:
            names = parameter.envvar or ()
            yield from [names] if isinstance(names, str) else names


def group() -> TyperGroup:
    command = typer.main.get_command(commands)
    assert isinstance(command, TyperGroup)
    return command


def all_commands() -> dict[str, Any]:
    """By what is typed after `assent`, those within a group too."""
    found: dict[str, Any] = {}
    for name, command in group().commands.items():
        inner = command.commands.items() if isinstance(command, TyperGroup) else [("", command)]
        found |= {f"{name} {part}".strip(): each for part, each in inner}
    return found


def test_every_setting_is_in_the_table_and_nothing_else_is() -> None:
    known = {f"ASSENT_{name.upper()}" for settings in SETTINGS for name in settings.model_fields}
    known |= set(of_the_command_line())
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(ASSENT_[A-Z_]+)` \|", operations, re.M)
    assert sorted(table) == sorted(known)


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    known = {f"ASSENT_{name.upper()}" for settings in SETTINGS for name in settings.model_fields}
    known |= set(of_the_command_line())
    known |= set(_VARIABLE.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    named = {(page.name, name) for page in PAGES for name in _VARIABLE.findall(page.read_text(encoding="utf-8"))}
    assert {(page, name) for page, name in named if name not in known} == set()


def test_the_table_of_settings_gives_their_defaults() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `ASSENT_([A-Z_]+)` \| [^|]* \| ([^|]*) \|", operations, re.M))
    for settings in SETTINGS:
        for name, field in settings.model_fields.items():
            default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            default = default.removeprefix(f"{ROOT}/")
            assert default == "" or f"`{default}`" in rows[name.upper()], f"ASSENT_{name.upper()}: {rows[name.upper()]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(_FENCED.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} in {page.name}"
        assert not anchor or anchor in anchors(target), f"{link} in {page.name}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = _HEADING.findall(_FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


SERVICERS = (Sessions, Plans, Runs, Approvals, Catalogs, Usages)


@pytest.mark.parametrize("servicer", SERVICERS, ids=lambda servicer: servicer.__name__)
def test_the_table_of_services_says_what_answers_and_what_comes_later(servicer: type) -> None:
    rpcs = {name: method for name, method in vars(servicer).items() if name[0].isupper()}
    later = {name for name, method in rpcs.items() if method.__module__ == the_rest_later.__module__}
    page = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
    [(works, refused)] = re.findall(rf"^\| {servicer.__name__[:-1]}Service \|([^|]*)\|([^|]*)\|", page, re.M)
    said = set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+|\bConverse\b", works))
    assert said == set(rpcs) - later
    if "everything about" not in refused:
        assert set(re.findall(r"\w+", refused)) == later


def test_every_metric_is_in_the_table_and_nothing_else_is() -> None:
    sources = [path for of in ("rpc", "orchestrator", "executor", "gateway") for path in (ROOT / of).rglob("*.py")]
    made = {name for path in sources for name in _METRIC.findall(path.read_text(encoding="utf-8"))}
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(assent_\w+)` \|", operations, re.M)
    assert sorted(table) == sorted(name + ("_total" if kind == "Counter" else "") for kind, name in made)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists_and_says_what_it_does(page: Path) -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"^(?:\$ )?(?:    )?[^#\n]*\bmake ([a-z][a-z-]*)\b", _fenced(page), re.M))
    assert named <= explained


def _fenced(page: Path) -> str:
    return "\n".join(block for _, block in _FENCED.findall(page.read_text(encoding="utf-8")))


def test_every_error_reason_is_explained() -> None:
    page = (ROOT / "docs" / "grpc.md").read_text(encoding="utf-8")
    reasons = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}
    assert {reason for reason in reasons if f"`{reason}`" not in page} == set()


def test_the_machines_are_drawn_as_they_are() -> None:
    drawn = "\n".join([draw_machines.HEAD, *(draw_machines.draw(machine) for machine in MACHINES)])
    assert draw_machines.PAGE.read_text(encoding="utf-8") == drawn


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_shown_exists(page: Path) -> None:
    known = all_commands()
    for _, block in _FENCED.findall(page.read_text(encoding="utf-8")):
        for line in _COMMAND.findall(block):
            name, *arguments = _without_common_options(line.split("#")[0].split())
            if arguments and f"{name} {arguments[0]}" in known:
                name = f"{name} {arguments.pop(0)}"
            assert name in known, f"assent {name} in {page.name}"
            options = {option for parameter in known[name].params for option in parameter.opts}
            shown = {word for word in arguments if word.startswith("--")}
            assert shown <= options, f"assent {line} in {page.name}"


def _without_common_options(words: list[str]) -> list[str]:
    """From the command's name on; options that stand before it are every command's, and take a value."""
    common = {option for parameter in group().params for option in parameter.opts}
    return _without_common_options(words[2:]) if words[0] in common else words


def test_every_command_is_in_the_page_about_commands() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for name, command in all_commands().items():
        assert f"| `assent {name}" in page
        options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        assert {option for option in options if option not in page} <= {"--help"}, f"assent {name}"


def test_the_policies_that_are_shown_are_read(tmp_path: Path) -> None:
    blocks = [text for _, text in _FENCED.findall((ROOT / "docs" / "agents-and-policy.md").read_text(encoding="utf-8"))]
    (shown,) = [block for block in blocks if "\nrules:\n" in block]
    (cases,) = [block for block in blocks if "\ncases:\n" in block]
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "strict.yaml").write_text(shown)
    (tmp_path / "cases.yaml").write_text(cases)
    assert try_policy([str(tmp_path / "cases.yaml")]) == 0


def test_a_policy_is_tried_as_it_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [text for _, text in _FENCED.findall((ROOT / "docs" / "agents-and-policy.md").read_text(encoding="utf-8"))]
    (shown,) = [block for block in blocks if "\nrules:\n" in block]
    (session,) = [block for block in blocks if block.startswith("$ assent policy test")]
    command, *lines = session.splitlines()
    (tmp_path / "strict.yaml").write_text(shown)
    try_policy([str(tmp_path / "strict.yaml"), *shlex.split(command)[5:]])
    printed = capsys.readouterr().out.splitlines()
    assert printed[1:] == lines[1:]


def test_the_table_of_answers_has_each_that_a_kind_of_approval_takes() -> None:
    page = (ROOT / "docs" / "approvals.md").read_text(encoding="utf-8")
    told: dict[str, list[str]] = {}
    kind = ""
    for named, action in re.findall(r"^\|(?: \*\*([A-Z_]+)\*\*[^|]*)? \| ([A-Z_]+) \|", page, re.M):
        kind = named or kind
        told.setdefault(kind, []).append(action)
    aborted = {kind: [*actions, "ABORT"] for kind, actions in told.items()}
    assert "| every kind | ABORT |" in page
    assert aborted == ACTIONS


def test_every_decision_has_a_number_of_its_own_and_is_listed() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    heads = [(path.name, path.read_text(encoding="utf-8").splitlines()[0]) for path in records]
    assert [int(name[:4]) for name, _ in heads] == list(range(1, len(heads) + 1))
    rows = [f"| {int(name[:4])} | [{head.split('. ', 1)[1]}]({name}) |" for name, head in heads]
    assert all(head.startswith(f"# {int(name[:4])}. ") for name, head in heads)
    assert (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8").splitlines()[-len(rows) :] == rows
