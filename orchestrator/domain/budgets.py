"""The limits of a run's budget as one table: how much each allows, and how much of it is used. Pure; asks nobody.

Working time is used up by the clock (worktime.py); the others by calls, and are looked at before each one starts.
"""

from collections.abc import Callable
from dataclasses import fields

from orchestrator.domain.catalog import SECOND
from orchestrator.domain.change import Change
from orchestrator.domain.frozen import dataclass, replace
from orchestrator.domain.records import Budget, Run
from orchestrator.domain.states import StepState
from orchestrator.domain.worktime import worked

_UNDER_WAY = (StepState.DISPATCHED, StepState.READY)


@dataclass(frozen=True, slots=True)
class Limit:
    """One field of a Budget: how much of it a run has used, and an amount of it in words."""

    name: str
    used: Callable[[Change, Run], int]
    words: Callable[[int], str]

    def of(self, budget: Budget) -> int:
        """How much it allows; 0: there is no such limit."""
        amount: int = getattr(budget, self.name)
        return amount


def in_seconds(micros: int) -> str:
    return f"{micros / SECOND:g} s"


def _time(change: Change, run: Run) -> int:
    return worked(run, change.now)


def _calls(change: Change, run: Run) -> int:
    """What is under way counts: it may not be one call too many."""
    under_way = sum(1 for s in change.snapshot.steps.values() if s.run_id == run.id and s.state in _UNDER_WAY)
    return run.usage.model_calls + run.usage.tool_calls + under_way


def _tokens(change: Change, run: Run) -> int:
    return run.usage.input_tokens + run.usage.output_tokens


LIMITS = {
    limit.name: limit
    for limit in (
        Limit("work_duration", _time, in_seconds),
        Limit("calls", _calls, str),
        Limit("total_tokens", _tokens, str),
    )
}
"""The limits that are kept; a Budget's others are refused where they are asked for."""
_NO_LIMITS = Budget()


def hold_back(change: Change, run_id: str) -> bool:
    """Whether a call that is due may not start, for a limit is reached; the rules then ask about that limit."""
    run = change.snapshot.runs[run_id]
    if run.budget == _NO_LIMITS:
        return False
    for limit in LIMITS.values():
        if 0 < limit.of(run.budget) <= limit.used(change, run):
            change.limit_reached = limit.name
            return True
    return False


def with_defaults(own: Budget, default: Budget) -> Budget:
    """The run's own limits; where it says nothing, the session's."""
    unsaid = {f.name: getattr(default, f.name) for f in fields(Budget) if not getattr(own, f.name)}
    return replace(own, **unsaid)


def budget_in_words(budget: Budget) -> str:
    """For the person who approves it; empty: there is no limit."""
    said = [f"{limit.name} {limit.words(amount)}" for limit in LIMITS.values() if (amount := limit.of(budget))]
    return ", ".join(said)
