"""Raising approvals: what a person is asked about a plan, a call, a doubt, a failure or a limit, and what they see."""

from datetime import UTC, datetime

from orchestrator.domain.budgets import budget_in_words
from orchestrator.domain.carrying import subtasks_of
from orchestrator.domain.catalog import ARCHITECT, SECOND, Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.digests import (
    artifact_preimage,
    budget_preimage,
    doubt_preimage,
    failure_preimage,
    plan_preimage,
    question_preimage,
    sha256,
    tool_preimage,
)
from orchestrator.domain.events import ApprovalRequested
from orchestrator.domain.expected import in_words as expected_in_words
from orchestrator.domain.expected import is_text
from orchestrator.domain.frozen import replace
from orchestrator.domain.policy import Verdict
from orchestrator.domain.records import (
    Approval,
    ApprovalTerms,
    Artifact,
    Attempt,
    Failure,
    Plan,
    Preview,
    Run,
    Step,
    Subtask,
)
from orchestrator.domain.retries import in_words, tries_in_a_row
from orchestrator.domain.showing import call_preview, one_line, presentable
from orchestrator.domain.states import ApprovalState
from orchestrator.domain.terms import on_terms, terms_of_call
from orchestrator.domain.transitions import move_step

ACTIONS = {
    "PLAN": ["APPROVE", "REQUEST_CHANGES", "REJECT", "ABORT"],
    "TOOL_CALL": ["APPROVE", "EDIT", "REJECT", "RESPOND", "ABORT"],
    "QUESTION": ["RESPOND", "ABORT"],
    "IN_DOUBT": ["RESPOND", "RETRY", "REJECT", "ABORT"],
    "BUDGET": ["APPROVE", "REJECT", "ABORT"],
    "FAILURE": ["RETRY", "REPLAN", "SKIP", "ABORT"],
    "ARTIFACT": ["APPROVE", "EDIT", "REQUEST_CHANGES", "REJECT", "ABORT"],
}
"""What each kind of approval may be answered with, as far as that is possible of the one that is asked."""


def ask_about_plan(change: Change, plan: Plan, catalog: Catalog, earlier_approval_id: str = "") -> Approval:
    """Whether exactly this version is carried out; changes are offered where an architect can make them."""
    subtasks = subtasks_of(change.snapshot, plan)
    text = _plan_as_markdown(change, plan, subtasks)
    preview = Preview(title=f"Plan: {plan.title}", text=text, agent=plan.author, format="MARKDOWN")
    goal = change.snapshot.runs[plan.run_id].goal
    approval = _new_approval(change, "PLAN", plan.run_id, plan_preimage(plan, subtasks, goal), preview)
    if catalog.by_role(ARCHITECT) is None:
        approval = _without(approval, "REQUEST_CHANGES")
    approval = replace(approval, earlier_approval_id=earlier_approval_id)
    return _ask(change, replace(approval, plan_id=plan.id, plan_version=plan.version))


def ask_about_call(change: Change, step: Step, verdict: Verdict) -> Step:
    """The step awaits approval, on the verdict's terms; the digest covers its exact argument bytes."""
    preimage = tool_preimage(step, _plan_version(change), change.policy.digest)
    step = replace(step, policy_rule=verdict.rule)
    approval = _new_approval(change, "TOOL_CALL", step.run_id, preimage, _call_preview(change, step, verdict.reason))
    earlier = change.snapshot.approvals.get(step.approval_id)
    approval = replace(
        approval,
        policy_rule=verdict.rule,
        earlier_approval_id=earlier.id if earlier else "",
        may_remember=verdict.may_remember,
    )
    if not step.model_step_id:  # it writes back what a person has edited: that, and nothing else in its stead
        approval = _without(approval, "EDIT", "RESPOND")
    approval = _ask(change, _of_call(change, step, approval), verdict.terms)
    step = replace(step, approval_id=approval.id, approval_preimage=preimage)
    return move_step(change, step, "asked")


def ask_about_question(
    change: Change, step: Step, question: str, options: list[str], answer_schema_json: str, rule: str
) -> Step:
    """The step awaits its answer; the digest covers the exact bytes of the question."""
    shown = [f"{number}. {one_line(option)}" for number, option in enumerate(options, 1)]
    words = _words_beside(change, step)
    first, *more = question.split("\n")
    asked = [first, *(f"> {line}" if options else line for line in more)]  # no line of it can pose as an option
    preview = Preview(one_line(question), "\n".join([*asked, *shown]), agent=step.agent, agent_words=words)
    preimage = question_preimage(step, _plan_version(change))
    approval = _of_call(change, step, _new_approval(change, "QUESTION", step.run_id, preimage, preview))
    approval = _ask(change, replace(approval, response_schema_json=answer_schema_json))
    step = replace(step, approval_id=approval.id, approval_preimage=preimage, policy_rule=rule)
    return move_step(change, step, "asked")


def ask_about_doubt(change: Change, step: Step, why: str) -> Approval:
    """Whether a call that may have happened did: its result, or that it is to be done again, or given up."""
    sent = datetime.fromtimestamp(step.dispatch_time // SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    reason = f"It may or may not have happened: {why}. It was sent at {sent} {_to_whom(step)}. Look before you answer."
    shown = _call_preview(change, step, reason)
    shown = replace(shown, title=f"In doubt: {shown.title}")
    preimage = doubt_preimage(step, _plan_version(change))
    approval = _of_call(change, step, _new_approval(change, "IN_DOUBT", step.run_id, preimage, shown))
    terms = terms_of_call(change.policy, step, change.snapshot.approvals.get(step.approval_id))
    return _ask(change, replace(approval, policy_rule=step.policy_rule), terms)


def _to_whom(step: Step) -> str:
    if step.executor_instance:
        return f"to the executor at {step.executor_address} (instance {step.executor_instance})"
    return f"to a client; {step.client_id} had taken it" if step.client_id else "to clients; none has taken it"


def ask_about_failure(
    change: Change, attempt: Attempt, failure: Failure, subtask: Subtask | None, catalog: Catalog
) -> Approval:
    """What is to be done: planning has no other plan to fall back on, and what is no part of a plan is not skipped."""
    preimage = failure_preimage(attempt.tenant, attempt.session_id, attempt.run_id, attempt.id, failure.reason)
    what = f"Subtask {subtask.key}: {subtask.title}" if subtask else _PURPOSES[attempt.purpose]
    tries = tries_in_a_row(change, attempt)
    text = f"{failure.message}\n\nIt was tried {tries} times in a row." if tries > 1 else failure.message
    preview = Preview(title=f"{what} failed: {failure.reason}", text=text, agent=attempt.agent)
    approval = replace(
        _new_approval(change, "FAILURE", attempt.run_id, preimage, preview),
        subtask_id=attempt.subtask_id,
        plan_id=subtask.plan_id if subtask else "",
    )
    if attempt.purpose == "PLANNING" or catalog.by_role(ARCHITECT) is None:
        approval = _without(approval, "REPLAN")
    return _ask(change, approval if subtask else _without(approval, "SKIP"))


def ask_about_budget(change: Change, run: Run, limit_name: str, limit: int, used: str) -> Approval:
    """Whether the run may go on, and how far."""
    words = "Nothing new starts. APPROVE with a higher limit and it goes on; REJECT and it has failed."
    preview = Preview(title=f"The limit is reached: {limit_name}, {used}", text=words)
    approval = _new_approval(change, "BUDGET", run.id, budget_preimage(run, limit_name, limit), preview)
    return _ask(change, replace(approval, plan_id=run.plan_id))


def ask_about_artifact(change: Change, subtask: Subtask, artifact: Artifact, gate: str) -> Approval:
    """Whether exactly these bytes pass the gate."""
    made = f"edited by {artifact.editor}" if artifact.editor else f"left by {subtask.agent}"
    facts = f"{artifact.media_type}, {artifact.size_bytes} bytes, {made}. SHA-256: {artifact.sha256}"
    shown = Preview(
        f"{gate}: {artifact.name} of {subtask.key}",
        f"{facts}\n\n{artifact.preview}" if artifact.preview else facts,
        artifact.path,
        agent=subtask.agent,
        truncated=len(artifact.preview.encode()) < artifact.size_bytes,
    )
    preimage = artifact_preimage(artifact, _plan_version(change), gate)
    approval = replace(
        _new_approval(change, "ARTIFACT", artifact.run_id, preimage, shown),
        plan_id=subtask.plan_id,
        plan_version=_plan_version(change),
        subtask_id=subtask.id,
        artifact_id=artifact.id,
        gate=gate,
    )
    # Other bytes of one person's hand are not what several have said yes to.
    if not is_text(artifact.media_type) or change.policy.terms_of("ARTIFACT").quorum > 1:
        approval = _without(approval, "EDIT")
    return _ask(change, approval)


_PURPOSES = {"PLANNING": "Planning", "ANSWER": "Answering", "ROUTING": "Routing"}


def _new_approval(change: Change, kind: str, run_id: str, preimage: str, preview: Preview) -> Approval:
    """What every question has; what it is about is still to be named."""
    return Approval(
        change.session.tenant,
        change.new_id(),
        change.session.id,
        run_id,
        kind,
        digest=sha256(preimage),
        preimage=preimage,
        allowed_actions=ACTIONS[kind],
        preview=presentable(preview),
        create_time=change.now,
    )


def _without(approval: Approval, *impossible: str) -> Approval:
    return replace(approval, allowed_actions=[a for a in approval.allowed_actions if a not in impossible])


def _of_call(change: Change, step: Step, approval: Approval) -> Approval:
    plan = change.snapshot.plan
    return replace(
        approval,
        step_id=step.id,
        subtask_id=step.subtask_id,
        plan_id=plan.id if plan else "",
        plan_version=_plan_version(change),
        tool=step.tool,
        arguments_json=step.arguments_json,
    )


def _plan_version(change: Change) -> int:
    return plan.version if (plan := change.snapshot.plan) else 0


def _ask(change: Change, approval: Approval, terms: ApprovalTerms | None = None) -> Approval:
    """On these terms, or those that the policy has for its kind."""
    approval = replace(approval, requester=change.snapshot.runs[approval.run_id].requester)
    approval = on_terms(approval, terms or change.policy.terms_of(approval.kind), change.now)
    change.emit(ApprovalRequested(approval))
    return change.put(approval)


def ask_again(change: Change, earlier: Approval, terms: ApprovalTerms) -> Approval:
    """The same thing, on other terms, where an approval has expired: nobody has answered the new one yet."""
    again = replace(
        earlier,
        id=change.new_id(),
        state=ApprovalState.PENDING,
        decision=None,
        votes=[],
        reminders=0,
        create_time=change.now,
        resolve_time=0,
        earlier_approval_id=earlier.id,
    )
    step = change.snapshot.steps.get(earlier.step_id)
    if step is not None and step.approval_id == earlier.id:
        change.put(replace(step, approval_id=again.id))
    return _ask(change, again, terms)


def _call_preview(change: Change, step: Step, reason: str) -> Preview:
    return call_preview(step, reason, _words_beside(change, step))


def _words_beside(change: Change, step: Step) -> str:
    """What the model said when it made the call."""
    proposal = change.snapshot.steps.get(step.model_step_id)
    return proposal.reply.text if proposal and proposal.reply else ""


def _plan_as_markdown(change: Change, plan: Plan, subtasks: list[Subtask]) -> str:
    """What its author wrote over several lines is quoted: none of it can pose as another subtask, a gate or a limit."""
    lines = [f"# {one_line(plan.title)}", ""]
    if plan.summary:
        lines += [*(f"> {line}" for line in plan.summary.split("\n")), ""]
    if plan.parallel_limit > 1:
        lines += [f"Up to {plan.parallel_limit} subtasks at the same time.", ""]
    if limits := budget_in_words(change.snapshot.runs[plan.run_id].budget):
        lines += [f"The run's limits: {limits}.", ""]
    for subtask in subtasks:
        after = f" (after {', '.join(subtask.depends_on)})" if subtask.depends_on else ""
        title = f"{subtask.position}. **{one_line(subtask.title)}** [{subtask.key}]"
        lines += [
            f"{title}, by {subtask.agent}{after}{_carried(subtask)}",
            *(f"   > {line}" for line in subtask.instructions.split("\n")),
            *([f"   Retries: {in_words(subtask.retry_policy)}."] if subtask.retry_policy else []),
            *(f"   Leaves {one_line(expected_in_words(each))}." for each in subtask.artifacts),
            *([f"   Gates: {', '.join(subtask.gates)}."] if subtask.gates else []),
        ]
    goal = change.snapshot.runs[plan.run_id].goal
    if goal != plan.title:  # last: it may be a long message, and is not to push the plan out of what is shown
        lines += ["", "The goal, as the agents are told it:", *(f"> {line}" for line in goal.split("\n"))]
    return "\n".join(lines)


def _carried(subtask: Subtask) -> str:
    """What is done already is approved as done: it does not run again."""
    if not subtask.carried_subtask_id:
        return ""
    why = f": {one_line(subtask.skip_reason)}" if subtask.skip_reason else ""
    return f" ({subtask.state} already, in an earlier version{why})"
