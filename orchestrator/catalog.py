"""Reading the catalog's files: agents, the policy, clients' tools; a mistake is named by file, line and field."""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import SECOND, Agent, Catalog, Policy, Rule, Tool
from orchestrator.domain.client_tools import SOURCE as CLIENT
from orchestrator.domain.digests import sha256
from orchestrator.domain.questions import ASK_USER
from orchestrator.domain.records import RetryPolicy
from orchestrator.domain.retries import check_policy
from orchestrator.domain.schemas import fault_of

M = TypeVar("M", bound="_Strict")


def _micros(value: object) -> object:
    """`90s`, `15m`, `24h` or `7d` as microseconds."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be a whole number of s, m, h or d, such as 15m")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]] * SECOND


Duration = Annotated[int, BeforeValidator(_micros), Field(ge=SECOND, le=30 * 86_400 * SECOND)]


class BadCatalog(Exception):
    """A file of the catalog does not do; the message says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Limits(_Strict):
    max_steps: int = Field(60, ge=1, le=1000)
    max_output_tokens: int = Field(8192, ge=1)
    model_timeout_seconds: float = Field(300, gt=0)
    tool_timeout_seconds: float = Field(120, gt=0)


class _Retries(_Strict):
    max_attempts: int = Field(3, ge=1, le=100)
    first_backoff_seconds: float = Field(5, ge=0, le=86_400)
    longest_backoff_seconds: float = Field(300, ge=0, le=86_400)
    factor: float = Field(2, ge=1, le=100)
    non_retryable_reasons: tuple[Annotated[str, Field(pattern=r"^[A-Z]+(_[A-Z]+)*$")], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := check_policy(self.policy, "retries"):
            raise ValueError("; ".join(f"{p.field}_seconds {p.description}" for p in problems))
        return self

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy(
            self.max_attempts,
            int(self.first_backoff_seconds * SECOND),
            int(self.longest_backoff_seconds * SECOND),
            self.factor,
            list(self.non_retryable_reasons),
        )


class _AgentFile(_Strict):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    role: Literal["ORCHESTRATOR", "ARCHITECT", "CODER", "ASK", "DEBUG", "OTHER"]
    description: str
    instructions: str
    model: str = ""
    tools: tuple[str, ...] = ()
    write_globs: tuple[str, ...] = ()
    limits: _Limits = _Limits()
    retries: _Retries = _Retries()


class _ToolFile(_Strict):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
    description: str = Field(max_length=8192)
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    side_effect: Literal["READ_ONLY", "IDEMPOTENT", "NON_IDEMPOTENT"] = "NON_IDEMPOTENT"
    time_limit: Duration = 0
    on_timeout: Literal["FAIL", "ASK", "HALT"] = "FAIL"


class _RuleFile(_Strict):
    name: str
    effect: Literal["DENY", "ASK", "ALLOW"]
    tools: tuple[str, ...] = ()
    side_effects: tuple[Literal["READ_ONLY", "IDEMPOTENT", "NON_IDEMPOTENT"], ...] = ()
    agents: tuple[str, ...] = ()
    reason: str = ""


class _PolicyFile(_Strict):
    name: str
    rules: tuple[_RuleFile, ...]


def load_catalog(directory: Path) -> Catalog:
    """Agents from agents/*.yaml, the policy from policies/default.yaml, clients' tools from tools/*.yaml.

    Raises BadCatalog.
    """
    catalog = Catalog()
    for path in sorted((directory / "agents").glob("*.yaml")):
        agent = _agent(path)
        if agent.name in catalog.agents:
            raise BadCatalog(f"{path}: there is an agent {agent.name!r} already")
        if agent.name == "auto":
            raise BadCatalog(f"{path}: 'auto' means that routing chooses the agent")
        catalog.agents[agent.name] = agent
    if not catalog.agents:
        raise BadCatalog(f"{directory / 'agents'}: no agent there")
    catalog.policy = _policy(directory / "policies" / "default.yaml")
    for path in sorted((directory / "tools").glob("*.yaml")):
        tool = _tool(path)
        if tool.name in catalog.client_tools or tool.name == ASK_USER.name:
            raise BadCatalog(f"{path}: there is a tool {tool.name!r} already")
        catalog.client_tools[tool.name] = tool
    return catalog


def _agent(path: Path) -> Agent:
    file, digest = _read(path, _AgentFile)
    return Agent(
        file.name,
        file.role,
        file.description,
        file.instructions.strip(),
        file.model,
        file.tools,
        file.write_globs,
        file.limits.max_steps,
        file.limits.max_output_tokens,
        int(file.limits.model_timeout_seconds * SECOND),
        int(file.limits.tool_timeout_seconds * SECOND),
        digest,
        file.retries.policy,
    )


def _tool(path: Path) -> Tool:
    """A tool that clients execute, in any session."""
    file, _ = _read(path, _ToolFile)
    try:
        schema_json = json.dumps(file.input_schema, ensure_ascii=False)
        fault = fault_of(parse_object(schema_json))
    except (TypeError, BadJson) as error:
        raise BadCatalog(f"{path}: input_schema: is no JSON: {error}") from None
    if fault:
        raise BadCatalog(f"{path}: input_schema: {fault}")
    digest, limit = sha256(schema_json), file.time_limit
    return Tool(file.name, file.description, schema_json, digest, file.side_effect, CLIENT, limit, file.on_timeout)


def _policy(path: Path) -> Policy:
    file, digest = _read(path, _PolicyFile)
    rules = tuple(Rule(r.name, r.effect, r.tools, r.side_effects, r.agents, r.reason) for r in file.rules)
    return Policy(file.name, digest, rules)


def _read(path: Path, model: type[M]) -> tuple[M, str]:
    """The file's content and the SHA-256 of its bytes."""
    document: Any = None
    try:
        data = path.read_bytes()
        document = YAML(typ="rt").load(data)
        return model.model_validate(document), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise BadCatalog(f"{path}: {error.strerror}") from None
    except YAMLError as error:
        raise BadCatalog(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadCatalog(f"{path}:{_line(document, first['loc'])}: {field}: {first['msg']}") from None


def _line(document: Any, location: tuple[int | str, ...]) -> int:
    """The line of the innermost part of the location that the file has; 1 where it has none."""
    line = 0
    for part in location:
        if not hasattr(document, "lc"):
            break
        try:
            line = document.lc.key(part)[0] if isinstance(part, str) else document.lc.item(part)[0]
            document = document[part]
        except (KeyError, IndexError, TypeError):
            break
    return line + 1
