"""What happens when a run has used up what it may: nothing new starts, and a person raises the limit or ends the run.

Today there is one limit, of working time; the others of a Budget are refused where they are asked for.
"""

from orchestrator.domain.asking import ask_about_budget
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.change import Change
from orchestrator.domain.ending import fail_run
from orchestrator.domain.errors import InvalidInput, Violation
from orchestrator.domain.events import BudgetReached
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Decision, Failure, Run
from orchestrator.domain.states import ApprovalState
from orchestrator.domain.worktime import worked


def ask_for_more(change: Change, run: Run) -> bool:
    """Once for each time the limit is reached. What is in flight goes on, and its outcomes are recorded."""
    if any(
        a.kind == "BUDGET" and a.run_id == run.id and a.state == ApprovalState.PENDING
        for a in change.snapshot.approvals.values()
    ):
        return False
    limit, used = run.budget.work_duration, worked(run, change.now)
    approval = ask_about_budget(change, run, "work_duration", limit, f"{in_seconds(used)} of {in_seconds(limit)}")
    change.emit(BudgetReached(run.id, "work_duration", limit, used, approval.id))
    return True


def check_new_limit(run: Run, approval: Approval, decision: Decision, now: int) -> None:
    """A yes to more says how much in all, and nothing else does. Raises InvalidInput."""
    if (approval.kind, decision.action) != ("BUDGET", "APPROVE"):
        if decision.new_limit is not None:
            raise InvalidInput([Violation("new_limit", "goes with APPROVE of a BUDGET only")])
        return
    limit = decision.new_limit.work_duration if decision.new_limit is not None else 0
    least = max(run.budget.work_duration, worked(run, now))
    if limit <= least:
        words = f"must be longer than the limit and than what was worked so far, {in_seconds(least)}"
        raise InvalidInput([Violation("new_limit.work_duration", words)])


def in_seconds(micros: int) -> str:
    return f"{micros / SECOND:g} s"


def _raise_limit(change: Change, approval: Approval, decision: Decision) -> None:
    run = change.snapshot.runs[approval.run_id]
    assert decision.new_limit is not None
    change.put(replace(run, budget=replace(run.budget, work_duration=decision.new_limit.work_duration)))


def _refuse_more(change: Change, approval: Approval, decision: Decision) -> None:
    run = change.snapshot.runs[approval.run_id]
    used, limit = in_seconds(worked(run, change.now)), in_seconds(run.budget.work_duration)
    words = f"work_duration: {used} of {limit}, and {decision.decider} allowed no more"
    if decision.feedback:
        words += f": {decision.feedback}"
    fail_run(change, run, Failure("BUDGET_REACHED", words, "HUMAN_REQUIRED"), actor=decision.decider)


EFFECTS = {("BUDGET", "APPROVE"): _raise_limit, ("BUDGET", "REJECT"): _refuse_more}
