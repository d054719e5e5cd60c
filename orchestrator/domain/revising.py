"""A draft's next version: written by a person, or asked of the architect. The version before is SUPERSEDED whole.

A version's graph never changes, so nobody can approve what they have not seen: a new version has its own digest.
"""

from orchestrator.domain.asking import ask_about_plan
from orchestrator.domain.carrying import as_draft, done_of, subtasks_of
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.drafts import PlanDraft, faults_of
from orchestrator.domain.errors import InvalidPlan, StaleVersion, WrongState
from orchestrator.domain.frozen import replace
from orchestrator.domain.planning import store_draft
from orchestrator.domain.records import Approval, Decision, Plan
from orchestrator.domain.states import PLAN, SUBTASK
from orchestrator.domain.transitions import move_plan, move_session, move_subtask, settle_approval


def revise_plan(
    change: Change, plan: Plan, draft: PlanDraft, goal: str, digest: str, author: str, catalog: Catalog
) -> Plan:
    """The draft as somebody has edited it: a new version that is asked about in the place of the old one.

    What of it is done already stays. Of a queued run the new version waits, as the old one did, for its turn. Raises
    StaleVersion when `digest` is not the newest version's, WrongState for what is no draft, InvalidPlan.
    """
    check_newest(change, plan, digest)
    done = done_of(change.snapshot, plan)
    if problems := faults_of(draft, catalog, [as_draft(subtask) for subtask in done]):
        raise InvalidPlan(problems)
    asked = _supersede(change, plan, author, f"revised by {author}")
    run = change.snapshot.runs[plan.run_id]
    if goal:
        run = change.put(replace(run, goal=goal))
    revised = store_draft(change, run, draft, author, done)
    if change.session.active_run_id == run.id:
        ask_about_plan(change, revised, catalog, asked)
        move_session(change, "plan_revised", actor=author)
    return revised


def check_newest(change: Change, plan: Plan, digest: str) -> None:
    """Raises StaleVersion, or WrongState."""
    newest = max((p for p in change.snapshot.plans.values() if p.run_id == plan.run_id), key=lambda p: p.version)
    if digest and digest != newest.digest:
        raise StaleVersion("plan", newest.id, newest.version, newest.digest)
    if plan.state not in DRAFTS:
        raise WrongState("plan", plan.id, plan.state, "revised", DRAFTS)


DRAFTS = PLAN.accepting("superseded")


def _supersede(change: Change, plan: Plan, actor: str, reason: str) -> str:
    """The id of the question about it, if it was still asked."""
    move_plan(change, plan, "superseded", actor=actor, reason=reason)
    for subtask in subtasks_of(change.snapshot, plan):
        if subtask.state not in SUBTASK.terminal:
            move_subtask(change, subtask, "cancelled", actor=actor, reason=reason)
    asked = ""
    for approval in change.snapshot.pending:
        if approval.plan_id == plan.id and approval.kind == "PLAN":
            asked = settle_approval(change, approval, "superseded", actor=actor, reason=reason).id
    return asked


def _request_changes(change: Change, approval: Approval, decision: Decision) -> None:
    """The architect drafts the next version, with what was said; there may be a next one of that, too."""
    plan = change.snapshot.plans[approval.plan_id]
    _supersede(change, plan, decision.decider, decision.feedback)
    move_session(change, "changes_requested", actor=decision.decider, reason=decision.feedback)


EFFECTS = {("PLAN", "REQUEST_CHANGES"): _request_changes}
