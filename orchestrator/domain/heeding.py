"""What a next try is told: of the try before it, and of what a person said when they had it made.

Read from the rows alone, by whichever replica begins the attempt; an attempt names the decision it heeds, so that each
is heeded once.
"""

import json

from orchestrator.domain.carrying import done_of, subtasks_of
from orchestrator.domain.records import Approval, Attempt, Plan, Subtask
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import AttemptState
from orchestrator.domain.unfinished import what_is_left

_PLANNING_ANEW = (("PLAN", "REQUEST_CHANGES"), ("FAILURE", "REPLAN"))


def unheeded(snapshot: Snapshot, purpose: str, subtask_id: str) -> Approval | None:
    """The decision that has this work of the active run done again, if no attempt has begun for it yet."""
    heeded = {a.heeds_approval_id for a in snapshot.attempts.values()}
    approvals = [a for a in snapshot.approvals.values() if a.run_id == snapshot.session.active_run_id]
    said = [a for a in approvals if a.id not in heeded and _has_it_done(a, purpose, subtask_id)]
    return max(said, key=lambda a: a.resolve_time, default=None)


def _has_it_done(approval: Approval, purpose: str, subtask_id: str) -> bool:
    if approval.decision is None:
        return False
    said = (approval.kind, approval.decision.action)
    if said in _PLANNING_ANEW:
        return purpose == "PLANNING"
    return said == ("FAILURE", "RETRY") and approval.subtask_id == subtask_id


def in_short(said: Approval | None) -> str:
    """Why the words of the try before no longer count."""
    action = said.decision.action if said and said.decision else ""
    return _IN_SHORT.get(action, "a person had it tried again")


_IN_SHORT = {"REQUEST_CHANGES": "a person asked for changes", "REPLAN": "a person had the work planned anew"}


def feedback_for(snapshot: Snapshot, before: Attempt | None, said: Approval | None) -> str:
    """For the agent of the next try, after `before`; empty for a first one."""
    if said is not None and said.decision is not None and said.decision.action == "REQUEST_CHANGES":
        return _changes_asked(snapshot, before, said)
    if said is not None and said.decision is not None and said.decision.action == "REPLAN":
        return what_is_left(snapshot, said)
    if before is None or before.state != AttemptState.FAILED:
        return ""
    words = f"The try before failed: {before.failure.message}. Go on from where it stopped."
    if said is not None and said.decision is not None and said.decision.feedback:
        words += f" A person had it tried again, and says: {said.decision.feedback}"
    return words


def _changes_asked(snapshot: Snapshot, before: Attempt | None, said: Approval) -> str:
    """An architect has its own draft before it; what somebody else wrote, or changed, it is shown."""
    assert said.decision is not None
    plan = snapshot.plans[said.plan_id]
    lines = [f"A person read your plan and asks for changes: {said.decision.feedback}"]
    if before is None or not _is_of(before, plan):
        lines = [
            f"A person asks for changes to this plan, by {plan.author}: {said.decision.feedback}",
            f"The plan:\n{plan_as_json(plan, subtasks_of(snapshot, plan))}",
        ]
    if any(s.artifacts or s.gates or s.retry_policy for s in subtasks_of(snapshot, plan)):
        lines.append("A subtask that keeps its key keeps the files it must leave, their gates and its retries.")
    lines += what_is_done(done_of(snapshot, plan))
    lines.append("Answer with the whole plan as it shall be, with JSON of the schema only.")
    return "\n\n".join(lines)


def _is_of(attempt: Attempt, plan: Plan) -> bool:
    """Whether the plan is the attempt's answer, as it was: both are written at once."""
    ended = (attempt.state, attempt.agent, attempt.end_time)
    return ended == (AttemptState.SUCCEEDED, plan.author, plan.create_time)


def what_is_done(done: list[Subtask]) -> list[str]:
    """For whoever plans what is left."""
    if not done:
        return []
    keys = ", ".join(subtask.key for subtask in done)
    return [f"These subtasks are done, and in the plan without your naming them; others may depend on them: {keys}."]


def plan_as_json(plan: Plan, subtasks: list[Subtask]) -> str:
    """As an architect would have answered it; what is carried on from an earlier version is left out."""
    body = {
        "title": plan.title,
        "summary": plan.summary,
        "parallel_limit": plan.parallel_limit,
        "subtasks": [
            {
                "key": s.key,
                "title": s.title,
                "instructions": s.instructions,
                "agent": s.agent,
                "depends_on": s.depends_on,
            }
            for s in subtasks
            if not s.carried_subtask_id
        ],
    }
    return json.dumps(body, ensure_ascii=False)
