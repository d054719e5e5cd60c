"""What routing and planning must answer: the JSON Schemas given to the model, and reading its answer strictly.

A model's answer is never trusted: what does not fit comes back as words it can act on.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from orchestrator.domain.arguments import BadJson, parse_strictly
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.errors import Violation
from orchestrator.domain.graph import MAX_SUBTASKS, SubtaskDraft, check_plan

MAX_PARALLEL = 64

ROUTE_SCHEMA = {
    "type": "object",
    "properties": {
        "complexity": {
            "enum": ["atomic", "complex"],
            "description": "complex: needs a plan of several subtasks",
        },
        "agent": {"type": "string", "description": "who does an atomic request"},
        "reason": {"type": "string"},
    },
    "required": ["complexity", "agent", "reason"],
}
PLAN_SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 200},
        "summary": {"type": "string", "maxLength": 10_000},
        "parallel_limit": {"type": "integer", "minimum": 1, "maximum": MAX_PARALLEL},
        "subtasks": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_SUBTASKS,
            "items": {
                "type": "object",
                "properties": {
                    "key": {"type": "string", "description": "short and unique: letters, digits, - or _"},
                    "title": {"type": "string"},
                    "instructions": {"type": "string", "description": "all the agent needs to know"},
                    "agent": {"type": "string"},
                    "depends_on": {"type": "array", "items": {"type": "string"}, "description": "keys"},
                },
                "required": ["key", "title", "instructions", "agent", "depends_on"],
            },
        },
    },
    "required": ["title", "summary", "subtasks"],
}
ROUTE_SCHEMA_JSON = json.dumps(ROUTE_SCHEMA, ensure_ascii=False)
PLAN_SCHEMA_JSON = json.dumps(PLAN_SCHEMA, ensure_ascii=False)
_ROUTE = Draft202012Validator(ROUTE_SCHEMA)
_PLAN = Draft202012Validator(PLAN_SCHEMA)


class Unfit(ValueError):
    """The answer does not do; `violations` say why, for the model to read."""

    def __init__(self, violations: list[Violation]):
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations))
        self.violations = violations


@dataclass(frozen=True, slots=True)
class Route:
    complexity: str  # ATOMIC or COMPLEX
    agent: str
    reason: str


@dataclass(frozen=True, slots=True)
class PlanDraft:
    """A plan as an architect or a client proposes it."""

    title: str
    summary: str
    subtasks: tuple[SubtaskDraft, ...]
    parallel_limit: int = 1


# How often an answer that does not do goes back to the model, by the attempt's purpose.
CORRECTIONS = {"ROUTING": 1, "PLANNING": 2}


def faults_of(draft: PlanDraft, catalog: Catalog, done: Sequence[SubtaskDraft] = ()) -> list[Violation]:
    """Everything wrong with a plan that somebody sends, beside what an earlier version has done."""
    problems = check_plan(draft.subtasks, catalog.subtask_agents(), done)
    if draft.parallel_limit < 1:
        problems.append(Violation("parallel_limit", "must be at least 1, or nothing of the plan could start"))
    return problems


def check_answer(purpose: str, text: str, catalog: Catalog, done: Sequence[SubtaskDraft] = ()) -> list[Violation]:
    """What is wrong with an attempt's final answer; only routing and planning have a form to keep."""
    try:
        if purpose == "ROUTING":
            read_route(text, catalog)
        elif purpose == "PLANNING":
            read_plan(text, catalog, done)
    except Unfit as unfit:
        return unfit.violations
    return []


def read_route(text: str, catalog: Catalog) -> Route:
    """Raises Unfit."""
    value = _read(text, _ROUTE)
    complexity, agent = value["complexity"].upper(), value["agent"]
    if complexity == "ATOMIC" and agent not in catalog.subtask_agents():
        raise Unfit([Violation("agent", f"must be one of: {', '.join(catalog.subtask_agents())}")])
    return Route(complexity, agent, value["reason"])


def read_plan(text: str, catalog: Catalog, done: Sequence[SubtaskDraft] = ()) -> PlanDraft:
    """The plan beside what an earlier version has done. Raises Unfit."""
    value = _read(text, _PLAN)
    subtasks = tuple(
        SubtaskDraft(s["key"], s["title"], s["instructions"], s["agent"], tuple(s["depends_on"]))
        for s in value["subtasks"]
    )
    if problems := check_plan(subtasks, catalog.subtask_agents(), done):
        raise Unfit(problems)
    return PlanDraft(value["title"], value["summary"], subtasks, int(value.get("parallel_limit", 1)))


def route_by_words(goal: str, catalog: Catalog) -> Route:
    """The rule of thumb when the routing model fails: making something takes a plan, a question does not."""
    if catalog.by_role("ARCHITECT") and _MAKING.search(goal):
        return Route("COMPLEX", "architect", "the request asks to make or change something")
    agents = catalog.subtask_agents()
    agent = "ask" if "ask" in agents else agents[0] if agents else ""
    return Route("ATOMIC", agent, "nothing in the request asks to make or change something")


_MAKING = re.compile(
    r"\b(create|build|implement|make|write|add|refactor|migrate|generate|fix|develop|set ?up)\b"
    r"|созда|сдела|постро|реализ|напи[шс]|добав|разработ|исправ|перепи|настро",
    re.IGNORECASE,
)
_FENCE = re.compile(r"^\s*```(?:json)?\s*\n(.*)\n\s*```\s*$", re.DOTALL)


def _read(text: str, schema: Draft202012Validator) -> dict[str, Any]:
    fenced = _FENCE.match(text)
    try:
        value = parse_strictly(fenced.group(1) if fenced else text)
    except BadJson as error:
        raise Unfit([Violation("answer", str(error))]) from None
    problems = sorted(schema.iter_errors(value), key=lambda e: list(map(str, e.absolute_path)))
    if problems:
        raise Unfit([Violation(e.json_path.removeprefix("$.") or "answer", e.message[:300]) for e in problems[:20]])
    result: dict[str, Any] = value
    return result
