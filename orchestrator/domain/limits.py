"""What happens when a run has used up what it may: nothing new starts, and a person raises the limit or ends the run.

Which limits there are, and how much of each is used, is `budgets`' part.
"""

from dataclasses import fields

from orchestrator.domain.asking import ask_about_budget
from orchestrator.domain.budgets import LIMITS
from orchestrator.domain.change import Change
from orchestrator.domain.digests import line_of
from orchestrator.domain.ending import fail_run
from orchestrator.domain.errors import InvalidInput, Violation
from orchestrator.domain.events import BudgetReached
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Budget, Decision, Failure, Run


def ask_for_more(change: Change, run: Run, name: str) -> bool:
    """Once for each time the limit is reached. What is in flight goes on, and its outcomes are recorded."""
    if any(a.kind == "BUDGET" and a.run_id == run.id for a in change.snapshot.pending):
        return False
    limit, used = LIMITS[name].of(run.budget), LIMITS[name].used(change, run)
    words = LIMITS[name].words
    approval = ask_about_budget(change, run, name, limit, f"{words(used)} of {words(limit)}")
    change.emit(BudgetReached(run.id, name, limit, used, approval.id))
    return True


def check_new_limit(change: Change, approval: Approval, decision: Decision) -> Approval:
    """A yes to more says how much in all, and nothing else does. Raises InvalidInput.

    The approval without votes for a limit that has been used up since: nobody could join them any more.
    """
    if (approval.kind, decision.action) != ("BUDGET", "APPROVE"):
        if decision.new_limit is not None:
            raise InvalidInput([Violation("new_limit", "goes with APPROVE of a BUDGET only")])
        return approval
    if problems := _problems_of(change, approval, decision.new_limit or Budget()):
        raise InvalidInput(problems)
    outdated = approval.votes and _problems_of(change, approval, approval.votes[0].new_limit or Budget())
    return replace(approval, votes=[]) if outdated else approval


def _problems_of(change: Change, approval: Approval, said: Budget) -> list[Violation]:
    run = change.snapshot.runs[approval.run_id]
    reached, problems = _reached(approval), []
    for limit in LIMITS.values():
        used = limit.used(change, run)
        least = max(limit.of(run.budget), used) if limit.name == reached else used
        if limit.of(said) <= least and (limit.of(said) or limit.name == reached):
            words = f"must be more than the limit and than what was used so far, {limit.words(least)}"
            problems.append(Violation(f"new_limit.{limit.name}", words))
    return problems


def _reached(approval: Approval) -> str:
    """The limit it asks about."""
    return line_of(approval.preimage, "limit")


def _raise_limit(change: Change, approval: Approval, decision: Decision) -> None:
    """What the new limit does not name stays as it is."""
    run = change.snapshot.runs[approval.run_id]
    assert decision.new_limit is not None
    new = {f.name: amount for f in fields(Budget) if (amount := getattr(decision.new_limit, f.name))}
    change.put(replace(run, budget=replace(run.budget, **new)))


def _refuse_more(change: Change, approval: Approval, decision: Decision) -> None:
    run, limit = change.snapshot.runs[approval.run_id], LIMITS[_reached(approval)]
    used, allowed = limit.words(limit.used(change, run)), limit.words(limit.of(run.budget))
    words = f"{limit.name}: {used} of {allowed}, and {decision.decider} allowed no more"
    if decision.feedback:
        words += f": {decision.feedback}"
    fail_run(change, run, Failure("BUDGET_REACHED", words, "HUMAN_REQUIRED"), actor=decision.decider)


EFFECTS = {("BUDGET", "APPROVE"): _raise_limit, ("BUDGET", "REJECT"): _refuse_more}
