"""What a run came to, as people read it: what ran, what it cost, who approved what. Pure text from rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.policy import WRITING_TOOLS
from orchestrator.domain.records import Approval, Artifact, Grant, Message, Plan, Run, Step, Subtask, Usage
from orchestrator.domain.retries import is_quarantined
from orchestrator.domain.states import StepState


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file as a write step left it; `size_bytes` of UTF-8."""

    path: str
    step_id: str
    subtask_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Report:
    run: Run
    final_message: Message | None
    plan: Plan | None
    subtasks: Sequence[Subtask]
    steps: Sequence[Step]
    approvals: Sequence[Approval]
    grants: Sequence[Grant]
    files_written: Sequence[WrittenFile]
    markdown: str
    artifacts: Sequence[Artifact] = ()


def make_report(
    run: Run,
    final_message: Message | None,
    plan: Plan | None,
    subtasks: Sequence[Subtask],
    steps: Sequence[Step],
    approvals: Sequence[Approval],
    grants: Sequence[Grant] = (),
    artifacts: Sequence[Artifact] = (),
) -> Report:
    files = list(files_written(steps))
    lines = [
        f"# {plan.title if plan else run.goal.strip().splitlines()[0][:120]}",
        "",
        f"Run {run.id}: **{run.state}**{_duration(run)}",
        "",
        *_trouble_lines(run, steps),
        *_subtask_lines(subtasks),
        *_step_lines(steps),
        *_decision_lines(approvals),
        *_grant_lines(grants, steps),
        *_artifact_lines(artifacts),
        *_file_lines(files),
        "## Cost",
        "",
        cost(run.usage),
    ]
    if final_message is not None:
        lines += ["", "## Result", "", final_message.text]
    markdown = "\n".join(lines) + "\n"
    return Report(run, final_message, plan, subtasks, steps, approvals, grants, files, markdown, artifacts)


def files_written(steps: Sequence[Step]) -> Iterator[WrittenFile]:
    """The last successful write of each path, in the order of those writes."""
    last: dict[str, WrittenFile] = {}
    for step in steps:
        if step.tool not in WRITING_TOOLS or step.state != StepState.SUCCEEDED:
            continue
        if step.result is None or step.result.is_error:
            continue
        try:
            arguments = parse_object(step.arguments_json)
        except BadJson:
            continue
        path, content = arguments.get("path"), arguments.get("content")
        if isinstance(path, str) and isinstance(content, str):
            last.pop(path, None)
            last[path] = WrittenFile(path, step.id, step.subtask_id, len(content.encode()))
    yield from last.values()


def cost(usage: Usage) -> str:
    """One line: calls, tokens, money; what has no price is said to have none."""
    models = _counted(usage.model_calls, "model call", "model calls")
    tools = _counted(usage.tool_calls, "tool call", "tool calls")
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    money = f"${usage.cost_usd_micros / 1_000_000:.4f}"
    if usage.unpriced_calls:
        money += f" and {_counted(usage.unpriced_calls, 'unpriced call', 'unpriced calls')}"
    return f"{models}, {tools}; {tokens}; {money}"


def _duration(run: Run) -> str:
    return f" after {(run.end_time - run.start_time) / 1e6:.1f} s" if run.end_time and run.start_time else ""


def _trouble_lines(run: Run, steps: Sequence[Step]) -> Iterator[str]:
    """What did not go smoothly; nothing where all did."""
    if run.failure.reason:
        yield from (f"It failed: {run.failure.reason}: {run.failure.message}", "")
    counted = [
        _counted(run.retries, "attempt was tried again", "attempts were tried again"),
        _counted(run.faults, "call failed in passing", "calls failed in passing"),
        _counted(run.losses, "executor was lost under a step", "executors were lost under a step"),
    ]
    if any(counted):
        yield from (f"By itself: {'; '.join(filter(None, counted))}.", "")
    for step in filter(is_quarantined, steps):
        what = f"`{step.tool}`" if step.kind == "TOOL" else "a model call"
        yield from (f"Quarantined: {what} of {step.agent}, after {step.losses} lost executors.", "")


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}" if number else ""


def _subtask_lines(subtasks: Sequence[Subtask]) -> Iterator[str]:
    if subtasks:
        yield from ("## Subtasks", "")
        for s in sorted(subtasks, key=lambda s: s.position):
            yield f"{s.position}. {s.title} [{s.key}], by {s.agent}: **{s.state}**{_attempts(s)}{_of_its_end(s)}"
        yield ""


def _of_its_end(subtask: Subtask) -> str:
    """Why it was not done, or that it was done before this version of the plan."""
    if subtask.skip_reason:
        return f": {subtask.skip_reason}"
    return ", carried from an earlier version of the plan" if subtask.carried_subtask_id else ""


def _attempts(subtask: Subtask) -> str:
    return f", in {subtask.attempts} attempts" if subtask.attempts > 1 else ""


def _step_lines(steps: Sequence[Step]) -> Iterator[str]:
    yield from ("## What ran", "", "| who | what | state | took |", "|---|---|---|---|")
    for s in steps:
        what = f"`{s.tool}`" if s.kind == "TOOL" else f"model {s.model or '(default)'}"
        yield f"| {s.agent} | {what} | {s.state} | {s.latency / 1000:.0f} ms |"
    yield ""


def _decision_lines(approvals: Sequence[Approval]) -> Iterator[str]:
    yield from ("## Who decided", "")
    if not approvals:
        yield "Nothing needed a person."
    for a in approvals:
        if a.decision is None:
            why = f" ({a.resolve_reason})" if a.resolve_reason else ""
            yield f"- {a.preview.title}: {a.state}{why}"
        else:
            said = f" — {a.decision.feedback}" if a.decision.feedback else ""
            others = [v.voter for v in a.votes if v.voter != a.decision.decider and v.action == a.decision.action]
            who = ", ".join([*others, a.decision.decider])
            yield f"- {a.preview.title}: **{a.decision.action}** by {who}{said}"
    yield ""


def _grant_lines(grants: Sequence[Grant], steps: Sequence[Step]) -> Iterator[str]:
    """What a remembered yes allowed in a person's stead."""
    if grants:
        yield from ("## Allowed by a remembered yes", "")
        for g in grants:
            calls = _counted(sum(s.grant_id == g.id for s in steps), "call", "calls")
            yield f"- `{g.tool}`, {calls}: granted by {g.creator}, where `{g.constraint}`"
        yield ""


def _artifact_lines(artifacts: Sequence[Artifact]) -> Iterator[str]:
    if artifacts:
        yield from ("## Artifacts", "")
        for a in artifacts:
            edited = f", edited by {a.editor}" if a.editor else ""
            wrong = "" if a.valid else f" — not valid: {'; '.join(a.errors)}"
            yield f"- {a.name} ({a.media_type}, {a.size_bytes} bytes{edited}), SHA-256 `{a.sha256}`{wrong}"
        yield ""


def _file_lines(files: Sequence[WrittenFile]) -> Iterator[str]:
    if files:
        yield from ("## Files written", "")
        yield from (f"- {f.path} ({f.size_bytes} bytes)" for f in files)
        yield ""
