"""Raising approvals: what a person is asked about a plan, a tool call, a doubt or a failure, and what they see."""

from datetime import UTC, datetime

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.change import Change
from orchestrator.domain.digests import (
    budget_preimage,
    doubt_preimage,
    failure_preimage,
    plan_preimage,
    sha256,
    tool_preimage,
)
from orchestrator.domain.events import ApprovalRequested
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Attempt, Failure, Plan, Preview, Run, Step, Subtask
from orchestrator.domain.retries import in_words, tries_in_a_row
from orchestrator.domain.transitions import move_step

PLAN_ACTIONS = ["APPROVE", "REJECT", "ABORT"]
TOOL_CALL_ACTIONS = ["APPROVE", "EDIT", "REJECT", "RESPOND", "ABORT"]
IN_DOUBT_ACTIONS = ["RESPOND", "RETRY", "REJECT", "ABORT"]
FAILURE_ACTIONS = ["RETRY", "ABORT"]
BUDGET_ACTIONS = ["APPROVE", "REJECT", "ABORT"]


def ask_about_plan(change: Change, plan: Plan) -> Approval:
    subtasks = [s for s in change.snapshot.subtasks.values() if s.plan_id == plan.id]
    preimage = plan_preimage(plan, subtasks)
    return _ask(
        change,
        Approval(
            plan.tenant,
            change.new_id(),
            plan.session_id,
            plan.run_id,
            kind="PLAN",
            digest=sha256(preimage),
            preimage=preimage,
            allowed_actions=PLAN_ACTIONS,
            plan_id=plan.id,
            plan_version=plan.version,
            requester=plan.author,
            preview=Preview(title=f"Plan: {plan.title}", text=_plan_as_markdown(plan, subtasks), agent=plan.author),
        ),
    )


def ask_about_call(change: Change, step: Step, policy_digest: str, rule: str, reason: str) -> Step:
    """The step awaits approval; the digest covers its exact argument bytes."""
    plan = change.snapshot.plan
    preimage = tool_preimage(step, plan.version if plan else 0, policy_digest)
    approval = _ask(
        change,
        Approval(
            step.tenant,
            change.new_id(),
            step.session_id,
            step.run_id,
            kind="TOOL_CALL",
            digest=sha256(preimage),
            preimage=preimage,
            allowed_actions=TOOL_CALL_ACTIONS,
            step_id=step.id,
            subtask_id=step.subtask_id,
            plan_id=plan.id if plan else "",
            plan_version=plan.version if plan else 0,
            tool=step.tool,
            arguments_json=step.arguments_json,
            requester=step.agent,
            preview=_call_preview(step, reason),
        ),
    )
    step = replace(step, approval_id=approval.id, approval_preimage=preimage, policy_rule=rule)
    return move_step(change, step, "asked")


def ask_about_doubt(change: Change, step: Step, why: str) -> Approval:
    """Whether a call that may have happened did: its result, or that it is to be done again, or given up."""
    plan = change.snapshot.plan
    preimage = doubt_preimage(step, plan.version if plan else 0)
    sent = datetime.fromtimestamp(step.dispatch_time // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    reason = (
        f"It may or may not have happened: {why}. It was sent at {sent} to the executor at {step.executor_address} "
        f"(instance {step.executor_instance}). Look before you answer."
    )
    shown = _call_preview(step, reason)
    return _ask(
        change,
        Approval(
            step.tenant,
            change.new_id(),
            step.session_id,
            step.run_id,
            kind="IN_DOUBT",
            digest=sha256(preimage),
            preimage=preimage,
            allowed_actions=IN_DOUBT_ACTIONS,
            step_id=step.id,
            subtask_id=step.subtask_id,
            plan_id=plan.id if plan else "",
            plan_version=plan.version if plan else 0,
            tool=step.tool,
            arguments_json=step.arguments_json,
            requester=step.agent,
            preview=replace(shown, title=f"In doubt: {shown.title}"),
        ),
    )


def ask_about_failure(change: Change, attempt: Attempt, failure: Failure, subtask: Subtask | None) -> Approval:
    preimage = failure_preimage(attempt.tenant, attempt.session_id, attempt.run_id, attempt.id, failure.reason)
    what = f"Subtask {subtask.key}: {subtask.title}" if subtask else _PURPOSES[attempt.purpose]
    tries = tries_in_a_row(change, attempt)
    text = f"{failure.message}\n\nIt was tried {tries} times in a row." if tries > 1 else failure.message
    return _ask(
        change,
        Approval(
            attempt.tenant,
            change.new_id(),
            attempt.session_id,
            attempt.run_id,
            kind="FAILURE",
            digest=sha256(preimage),
            preimage=preimage,
            allowed_actions=FAILURE_ACTIONS,
            subtask_id=attempt.subtask_id,
            plan_id=subtask.plan_id if subtask else "",
            requester=attempt.agent,
            preview=Preview(title=f"{what} failed: {failure.reason}", text=text, agent=attempt.agent),
        ),
    )


def ask_about_budget(change: Change, run: Run, limit_name: str, limit: int, used: str) -> Approval:
    """Whether the run may go on, and how far."""
    preimage = budget_preimage(run, limit_name, limit)
    words = "Nothing new starts. APPROVE with a higher limit and it goes on; REJECT and it has failed."
    return _ask(
        change,
        Approval(
            run.tenant,
            change.new_id(),
            run.session_id,
            run.id,
            kind="BUDGET",
            digest=sha256(preimage),
            preimage=preimage,
            allowed_actions=BUDGET_ACTIONS,
            plan_id=run.plan_id,
            requester=run.requester,
            preview=Preview(title=f"The limit is reached: {limit_name}, {used}", text=words),
        ),
    )


_PURPOSES = {"PLANNING": "Planning", "ANSWER": "Answering", "ROUTING": "Routing"}


def _ask(change: Change, approval: Approval) -> Approval:
    approval = replace(approval, create_time=change.now)
    change.emit(ApprovalRequested(approval))
    return change.put(approval)


def _call_preview(step: Step, reason: str) -> Preview:
    try:
        arguments = parse_object(step.arguments_json)
    except BadJson:
        arguments = {}
    path, content, command = arguments.get("path"), arguments.get("content"), arguments.get("command")
    if step.tool == "write_file" and isinstance(path, str) and isinstance(content, str):
        return Preview(f"Write {path}", step.arguments_json, path, content, step.agent, reason)
    if step.tool == "run_command" and isinstance(command, str):
        return Preview(f"Run: {command}", command, agent=step.agent, reason=reason)
    return Preview(f"Call {step.tool}", step.arguments_json, agent=step.agent, reason=reason)


def _plan_as_markdown(plan: Plan, subtasks: list[Subtask]) -> str:
    lines = [f"# {plan.title}", "", plan.summary, ""]
    for subtask in sorted(subtasks, key=lambda s: s.position):
        after = f" (after {', '.join(subtask.depends_on)})" if subtask.depends_on else ""
        lines += [
            f"{subtask.position}. **{subtask.title}** [{subtask.key}], by {subtask.agent}{after}",
            *(f"   {line}" for line in subtask.instructions.splitlines()),
            *([f"   Retries: {in_words(subtask.retry_policy)}."] if subtask.retry_policy else []),
        ]
    return "\n".join(lines)
