"""A policy's file: its rules, and on which terms people are asked. Every mistake is found before anything is judged."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from orchestrator.catalog.files import Duration, Strict, read
from orchestrator.domain import conditions
from orchestrator.domain.catalog import Policy, Rule
from orchestrator.domain.records import ApprovalTerms

Glob = Annotated[str, Field(min_length=1, max_length=256)]
Role = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$")]
Kind = Literal["PLAN", "TOOL_CALL", "ARTIFACT", "QUESTION", "BUDGET", "IN_DOUBT", "FAILURE"]

# Of these one answer is enough: there is nothing that several could say together.
_ONE_DECIDES = ("QUESTION", "FAILURE")


class Terms(Strict):
    """Who may decide, how many must, and how long it waits."""

    roles: tuple[Role, ...] = ()
    quorum: int = Field(1, ge=1, le=100)
    requester: Literal["allowed", "excluded"] = "allowed"
    wait: Duration | None = None
    on_expiry: Literal["HALT", "DENY", "ESCALATE", "NEVER"] | None = None
    escalate_to: tuple[Role, ...] = ()
    remind_every: Duration | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.wait is None and self.on_expiry not in (None, "NEVER"):
            raise ValueError(f"on_expiry: {self.on_expiry} needs wait: it says when")
        if self.wait is not None and self.on_expiry == "NEVER":
            raise ValueError("wait means nothing with on_expiry: NEVER")
        if (self.on_expiry == "ESCALATE") != bool(self.escalate_to):
            raise ValueError("on_expiry: ESCALATE and escalate_to go together")
        return self

    @property
    def terms(self) -> ApprovalTerms:
        """What waits, and says not what happens then, halts."""
        return ApprovalTerms(
            list(self.roles),
            self.quorum,
            self.requester == "excluded",
            self.wait or 0,
            self.on_expiry or ("HALT" if self.wait else "NEVER"),
            list(self.escalate_to),
            self.remind_every or 0,
        )


class RuleFile(Terms):
    """A rule says with whose yes itself: the fields of terms stand beside its others."""

    name: str = Field(min_length=1, max_length=64)
    effect: Literal["DENY", "ASK", "ALLOW"]
    tools: tuple[Glob, ...] = ()
    side_effects: tuple[Literal["READ_ONLY", "IDEMPOTENT", "NON_IDEMPOTENT"], ...] = ()
    agents: tuple[Glob, ...] = ()
    paths: tuple[Glob, ...] = ()
    condition: str = ""
    reason: str = Field("", max_length=1024)
    remember: bool | None = None

    @field_validator("condition")
    @classmethod
    def _compiles(cls, text: str) -> str:
        if text:
            conditions.compile(text)
        return text

    @model_validator(mode="after")
    def _asks(self) -> Self:
        given = self.model_fields_set & {*Terms.model_fields, "remember"}
        if given and self.effect != "ASK":
            raise ValueError(f"{', '.join(sorted(given))}: nobody is asked where a rule says {self.effect}")
        if self.remember and self.quorum > 1 and self.requester == "excluded":
            raise ValueError("remember: a grant knows one person, not several others; it cannot be offered here")
        return self

    @property
    def rule(self) -> Rule:
        says_whose = bool(self.model_fields_set & set(Terms.model_fields))
        return Rule(
            self.name,
            self.effect,
            self.tools,
            self.side_effects,
            self.agents,
            self.reason,
            self.paths,
            self.condition,
            self.terms if says_whose else None,
            self.remember,
        )


class PolicyFile(Strict):
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    description: str = ""
    terms: dict[Kind, Terms] = Field(default_factory=dict)
    rules: tuple[RuleFile, ...]

    @field_validator("terms")
    @classmethod
    def _one_is_enough(cls, terms: dict[Kind, Terms]) -> dict[Kind, Terms]:
        for kind in _ONE_DECIDES:
            if kind in terms and terms[kind].quorum > 1:
                raise ValueError(f"{kind}: one answer is enough; quorum must be 1")
        return terms

    @field_validator("rules")
    @classmethod
    def _are_told_apart(cls, rules: tuple[RuleFile, ...]) -> tuple[RuleFile, ...]:
        names = [rule.name for rule in rules]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"there are two rules {twice!r}")
        return rules


def read_policy(path: Path) -> Policy:
    """Raises BadCatalog."""
    file, digest = read(path, PolicyFile)
    terms = {str(kind): said.terms for kind, said in file.terms.items()}
    return Policy(file.name, digest, tuple(r.rule for r in file.rules), file.description.strip(), terms)
