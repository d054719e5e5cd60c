"""The plan as a graph: what makes one valid. Pure functions over keys; which subtasks start is subtasks.py's part."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain.errors import Violation
from orchestrator.domain.expected import check_expected
from orchestrator.domain.records import ExpectedArtifact, RetryPolicy
from orchestrator.domain.retries import check_policy

MAX_SUBTASKS = 200
MAX_DEPTH = 32
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_INSTRUCTIONS = 64 * 1024  # bytes
MAX_PLAN = 512 * 1024  # bytes, of all titles and instructions: a plan is shown, stored and approved whole


@dataclass(frozen=True, slots=True)
class SubtaskDraft:
    """A subtask as somebody proposes it, before it has an id."""

    key: str
    title: str
    instructions: str
    agent: str
    depends_on: tuple[str, ...] = field(default=())
    retry_policy: RetryPolicy | None = None  # None: the agent's
    artifacts: tuple[ExpectedArtifact, ...] = ()
    gates: tuple[str, ...] = ()


def check_plan(
    drafts: Sequence[SubtaskDraft], agents: Iterable[str], done: Sequence[SubtaskDraft] = ()
) -> list[Violation]:
    """Everything wrong with a plan's subtasks, each with its field; empty when it is valid.

    What an earlier version has `done` belongs to the plan as it is: others may depend on it, and it may be named again
    only as it was.
    """
    if not drafts:
        return [Violation("subtasks", "a plan needs at least one subtask")]
    count = len({*drafts, *done}) if done else len(drafts)
    if count > MAX_SUBTASKS:
        return [Violation("subtasks", f"has {count} subtasks; a plan may have {MAX_SUBTASKS}")]
    size = sum(len((d.title + d.instructions).encode(errors="replace")) for d in drafts)
    if size > MAX_PLAN:
        return [Violation("subtasks", f"their titles and instructions are {size} bytes; a plan may have {MAX_PLAN}")]
    known_agents = sorted(agents)
    new = [(i, d) for i, d in enumerate(drafts) if d not in done]
    problems = [v for i, d in new for v in _check_fields(f"subtasks[{i}]", d, known_agents)]
    problems += _check_keys(drafts, {d.key: d for d in done})
    if problems:
        return problems
    return _check_order({d.key: d.depends_on for d in (*done, *drafts)})


def _check_fields(path: str, draft: SubtaskDraft, agents: list[str]) -> Iterable[Violation]:
    if not _KEY.fullmatch(draft.key):
        yield Violation(f"{path}.key", "must be 1 to 64 letters, digits, '.', '-' or '_', the first a letter or digit")
    if not draft.title.strip():
        yield Violation(f"{path}.title", "must not be empty")
    if len(draft.instructions.encode(errors="replace")) > MAX_INSTRUCTIONS:
        yield Violation(f"{path}.instructions", f"is over {MAX_INSTRUCTIONS} bytes")
    if draft.agent not in agents:
        yield Violation(f"{path}.agent", f"no agent {draft.agent!r} may do subtasks; these may: {', '.join(agents)}")
    if draft.retry_policy is not None:
        yield from check_policy(draft.retry_policy, f"{path}.retry_policy")
    yield from check_expected(draft.artifacts, draft.gates, path)


def _check_keys(drafts: Sequence[SubtaskDraft], done: Mapping[str, SubtaskDraft]) -> Iterable[Violation]:
    first: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        if draft.key in first:
            yield Violation(f"subtasks[{index}].key", f"{draft.key!r} is already subtasks[{first[draft.key]}]'s key")
        if done.get(draft.key, draft) != draft:
            yield Violation(
                f"subtasks[{index}].key", f"{draft.key!r} is done already: it stays as it was, or is left out"
            )
        first.setdefault(draft.key, index)
    for index, draft in enumerate(drafts):
        path = f"subtasks[{index}].depends_on"
        for key in draft.depends_on:
            if key == draft.key:
                yield Violation(path, f"{key!r} depends on itself")
            elif key not in first and key not in done:
                yield Violation(path, f"no subtask has the key {key!r}")
        if len(set(draft.depends_on)) != len(draft.depends_on):
            yield Violation(path, "names a subtask twice")


def _check_order(graph: Mapping[str, Sequence[str]]) -> list[Violation]:
    depth: dict[str, int] = {}
    waiting = {key: len(needs) for key, needs in graph.items()}
    free = [key for key, count in waiting.items() if count == 0]
    while free:
        key = free.pop()
        depth[key] = 1 + max((depth[need] for need in graph[key]), default=0)
        for other, needs in graph.items():
            if key in needs:
                waiting[other] -= 1
                if waiting[other] == 0:
                    free.append(other)
    if len(depth) < len(graph):
        cycle = _find_cycle({k: v for k, v in graph.items() if k not in depth})
        return [Violation("subtasks", f"the dependencies form a cycle: {' → '.join(cycle)}")]
    if max(depth.values()) > MAX_DEPTH:
        return [Violation("subtasks", f"the longest chain is {max(depth.values())}; {MAX_DEPTH} is allowed")]
    return []


def _find_cycle(rest: Mapping[str, Sequence[str]]) -> list[str]:
    """Each key left has an unmet dependency among the rest, so following one comes round."""
    path = [next(iter(rest))]
    while True:
        following = next(need for need in rest[path[-1]] if need in rest)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
