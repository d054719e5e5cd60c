"""A person's decision and its effect on plan, step, subtask, run and session. Exactly one wins; nothing runs here."""

from collections.abc import Callable

from orchestrator.domain import failing, limits, questions, reviewing, revising
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.control import go_on
from orchestrator.domain.editing import check_edit, edit_call
from orchestrator.domain.ending import cancel_run
from orchestrator.domain.errors import (
    ActionNotAllowed,
    ApprovalAlreadyResolved,
    DigestMismatch,
    InvalidInput,
    Violation,
)
from orchestrator.domain.frozen import replace
from orchestrator.domain.grants import check_remember, make_grant
from orchestrator.domain.records import Approval, Decision, Failure, ToolResult
from orchestrator.domain.results import read_result
from orchestrator.domain.reviewing import check_edited, edit_artifact
from orchestrator.domain.states import ApprovalState
from orchestrator.domain.terms import Decider, check_decider, is_overdue
from orchestrator.domain.transitions import (
    ENGINE,
    finish_step,
    move_plan,
    move_session,
    move_step,
    settle_approval,
)
from orchestrator.domain.voting import check_vote, count_vote, has_voted, is_counted, is_enough


def is_repeat(approval: Approval, decision: Decision) -> bool:
    """The same person saying the same again: gets the same answer, and nothing happens."""
    if has_voted(approval, decision):
        return True
    won = approval.decision
    if won is None:
        return False
    made = replace(won, decide_time=0, edited_digest="", edited_artifact_id="", grant_id="")
    return made == replace(decision, decide_time=0)


def check_decision(approval: Approval, decision: Decision, decider: Decider, author: str, now: int) -> None:
    """Raises what is wrong with the decision: too late, not theirs to make, not one of the actions, about something
    else, or not whole."""
    if approval.state != ApprovalState.PENDING:
        won = approval.decision
        raise ApprovalAlreadyResolved(
            approval.id,
            approval.state,
            won.action if won else "",
            won.decider if won else approval.resolver,
            approval.resolve_time,
        )
    if is_overdue(approval, now):
        raise ApprovalAlreadyResolved(approval.id, ApprovalState.EXPIRED, "", ENGINE, approval.expire_time)
    check_decider(approval, decider, author)
    if decision.action not in approval.allowed_actions:
        raise ActionNotAllowed(approval.id, decision.action, tuple(approval.allowed_actions))
    if decision.digest != approval.digest:
        raise DigestMismatch(approval.id, approval.digest, decision.digest)
    for action, of, part, name in _PARTS:
        needed = decision.action == action and of(approval.kind)
        if needed != bool(getattr(decision, part)):
            if needed:
                words = f"is what {action} needs"
            elif decision.action == action:
                words = f"goes with {action} of another kind of approval"
            else:
                words = f"goes with {action} only"
            raise InvalidInput([Violation(name, words)])
    if decision.action in _SAID and not decision.feedback.strip():
        raise InvalidInput([Violation("feedback", f"is what {decision.action} needs")])
    if decision.response_json:
        read_result(decision.response_json, "response_json")


# What an action needs besides its name, and no other takes: of which kinds, and what a client calls it.
_PARTS: tuple[tuple[str, Callable[[str], bool], str, str], ...] = (
    ("RESPOND", lambda kind: True, "response_json", "response_json"),
    ("EDIT", lambda kind: kind != "ARTIFACT", "edited_arguments_json", "edited_arguments_json"),
    ("EDIT", lambda kind: kind == "ARTIFACT", "edited_sha256", "edited_artifact"),
)
_SAID = ("REQUEST_CHANGES",)  # … and what is nothing without a person's words


def decide(
    change: Change,
    approval: Approval,
    decision: Decision,
    catalog: Catalog,
    roles: frozenset[str] = frozenset(),
    *,
    edited_artifact: bytes = b"",
) -> Approval:
    """Record the decision of somebody who holds these roles, and do what it means, once enough of them have said so.

    `edited_artifact` are the bytes that an EDIT of an artifact has the SHA-256 of. Raises as check_decision,
    check_vote, check_edit and check_edited do.
    """
    plan = change.snapshot.plans.get(approval.plan_id) if approval.kind == "PLAN" else None
    check_decision(approval, decision, Decider(decision.decider, roles), plan.author if plan else "", change.now)
    _check_said(change, approval, decision, catalog, edited_artifact)
    approval = limits.check_new_limit(change, approval, decision)
    check_remember(change, approval, decision)
    check_vote(approval, decision)
    if is_counted(approval, decision.action):
        approval = count_vote(change, approval, decision)
        if not is_enough(approval):
            return approval
    if decision.remember is not None:
        decision = replace(decision, grant_id=change.new_id())
    approval = settle_approval(change, approval, "resolved", decision=decision)
    if decision.action == "ABORT":
        run = change.snapshot.runs[approval.run_id]
        cancel_run(change, run, actor=decision.decider, reason=decision.feedback or "aborted by a decision")
        return approval
    if decision.action == "EDIT" and approval.kind == "ARTIFACT":
        approval = edit_artifact(change, approval, decision, edited_artifact, catalog)
    elif decision.action == "EDIT":
        approval = edit_call(change, approval, decision, catalog)
    else:
        _EFFECTS[approval.kind, decision.action](change, approval, decision)
    go_on(change, approval.run_id, decision.decider)
    return approval


def _check_said(
    change: Change, approval: Approval, decision: Decision, catalog: Catalog, edited_artifact: bytes
) -> None:
    """What is to run instead does, and so does what is to be the result."""
    if decision.action == "EDIT" and approval.kind == "ARTIFACT":
        check_edited(change, approval, edited_artifact, catalog)
    elif decision.action == "EDIT":
        check_edit(change.session, change.snapshot.steps[approval.step_id], decision, catalog)
    questions.check_answer(approval, decision)


def reject(change: Change, approval: Approval, decision: Decision) -> None:
    """What a REJECT of this kind of approval leads to."""
    _EFFECTS[approval.kind, "REJECT"](change, approval, decision)


def _approve_plan(change: Change, approval: Approval, decision: Decision) -> None:
    move_plan(change, change.snapshot.plans[approval.plan_id], "approved", actor=decision.decider)
    move_session(change, "plan_approved", actor=decision.decider)


def _reject_plan(change: Change, approval: Approval, decision: Decision) -> None:
    """The run ends with the reason; a rejected plan is not reworked."""
    reason = decision.feedback or "the plan was rejected"
    plan = change.snapshot.plans[approval.plan_id]
    move_plan(change, plan, "rejected", actor=decision.decider, reason=reason)
    run = change.snapshot.runs[approval.run_id]
    cancel_run(change, run, actor=decision.decider, reason=reason, session_trigger="plan_rejected")


def _approve_call(change: Change, approval: Approval, decision: Decision) -> None:
    move_step(change, change.snapshot.steps[approval.step_id], "approved")
    make_grant(change, approval, decision)


def _reject_call(change: Change, approval: Approval, decision: Decision) -> None:
    """The agent reads the refusal, and why, as the call's result."""
    words = "A person rejected this call; it was not carried out."
    if decision.feedback:
        words += f" They said: {decision.feedback}"
    step = replace(
        change.snapshot.steps[approval.step_id],
        result=ToolResult(words, is_error=True),
        failure=Failure("REJECTED", words, "HUMAN_REQUIRED"),
    )
    finish_step(change, step, "rejected", actor=decision.decider)


def _respond_call(change: Change, approval: Approval, decision: Decision) -> None:
    """What it came to, in a person's words: nothing runs, or, of a call in doubt, it did happen."""
    step = replace(
        change.snapshot.steps[approval.step_id],
        result=read_result(decision.response_json, "response_json"),
        failure=Failure(),
    )
    finish_step(change, step, "responded", actor=decision.decider)


def _retry_doubt(change: Change, approval: Approval, decision: Decision) -> None:
    """It did not happen: done again, once, with this approval; not before the old call is surely over."""
    step = change.snapshot.steps[approval.step_id]
    step = replace(step, approval_id=approval.id, approval_preimage=approval.preimage, failure=Failure())
    move_step(change, step, "retried")


def _reject_doubt(change: Change, approval: Approval, decision: Decision) -> None:
    step = change.snapshot.steps[approval.step_id]
    words = f"It is not known whether this call of {step.tool} took effect. A person gave it up; it was not repeated."
    if decision.feedback:
        words += f" They said: {decision.feedback}"
    finish_step(change, replace(step, result=ToolResult(words, is_error=True)), "given_up", actor=decision.decider)


_EFFECTS = {
    ("PLAN", "APPROVE"): _approve_plan,
    ("PLAN", "REJECT"): _reject_plan,
    ("TOOL_CALL", "APPROVE"): _approve_call,
    ("TOOL_CALL", "REJECT"): _reject_call,
    ("TOOL_CALL", "RESPOND"): _respond_call,
    ("QUESTION", "RESPOND"): _respond_call,
    ("IN_DOUBT", "RESPOND"): _respond_call,
    ("IN_DOUBT", "RETRY"): _retry_doubt,
    ("IN_DOUBT", "REJECT"): _reject_doubt,
    **failing.EFFECTS,
    **limits.EFFECTS,
    **reviewing.EFFECTS,
    **revising.EFFECTS,
}
