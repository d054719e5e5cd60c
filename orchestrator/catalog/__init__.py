"""Reading the catalog's files: agents, policies, clients' tools; a mistake is named by file, line and field."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from orchestrator.catalog.files import BadCatalog, Duration, Strict, read
from orchestrator.catalog.policies import read_policy
from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import SECOND, Agent, Catalog, Tool
from orchestrator.domain.client_tools import SOURCE as CLIENT
from orchestrator.domain.digests import sha256
from orchestrator.domain.questions import ASK_USER
from orchestrator.domain.records import RetryPolicy
from orchestrator.domain.retries import check_policy
from orchestrator.domain.schemas import fault_of

__all__ = ["BadCatalog", "load_catalog"]


class _Limits(Strict):
    max_steps: int = Field(60, ge=1, le=1000)
    max_output_tokens: int = Field(8192, ge=1)
    model_timeout_seconds: float = Field(300, gt=0)
    tool_timeout_seconds: float = Field(120, gt=0)


class _Retries(Strict):
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


class _AgentFile(Strict):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    role: Literal["ORCHESTRATOR", "ARCHITECT", "CODER", "ASK", "DEBUG", "OTHER"]
    description: str
    instructions: str
    model: str = ""
    tools: tuple[str, ...] = ()
    write_globs: tuple[str, ...] = ()
    limits: _Limits = _Limits()
    retries: _Retries = _Retries()


class _ToolFile(Strict):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
    description: str = Field(max_length=8192)
    input_schema: dict[str, Any] = Field(default_factory=lambda: {"type": "object"})
    side_effect: Literal["READ_ONLY", "IDEMPOTENT", "NON_IDEMPOTENT"] = "NON_IDEMPOTENT"
    time_limit: Duration = 0
    on_timeout: Literal["FAIL", "ASK", "HALT"] = "FAIL"


def load_catalog(directory: Path) -> Catalog:
    """Agents from agents/*.yaml, policies from policies/*.yaml, clients' tools from tools/*.yaml.

    Sessions that name no policy have that of policies/default.yaml. Raises BadCatalog.
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
    catalog.policy = read_policy(directory / "policies" / "default.yaml")
    for path in sorted((directory / "policies").glob("*.yaml")):
        policy = read_policy(path)
        if policy.name in catalog.policies:
            raise BadCatalog(f"{path}: there is a policy {policy.name!r} already")
        catalog.policies[policy.name] = policy
    for path in sorted((directory / "tools").glob("*.yaml")):
        tool = _tool(path)
        if tool.name in catalog.client_tools or tool.name == ASK_USER.name:
            raise BadCatalog(f"{path}: there is a tool {tool.name!r} already")
        catalog.client_tools[tool.name] = tool
    return catalog


def _agent(path: Path) -> Agent:
    file, digest = read(path, _AgentFile)
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
    file, _ = read(path, _ToolFile)
    try:
        schema_json = json.dumps(file.input_schema, ensure_ascii=False)
        fault = fault_of(parse_object(schema_json))
    except (TypeError, BadJson) as error:
        raise BadCatalog(f"{path}: input_schema: is no JSON: {error}") from None
    if fault:
        raise BadCatalog(f"{path}: input_schema: {fault}")
    digest, limit = sha256(schema_json), file.time_limit
    return Tool(file.name, file.description, schema_json, digest, file.side_effect, CLIENT, limit, file.on_timeout)
