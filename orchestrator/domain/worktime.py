"""The clock of a run's own time, as pure functions over the run.

It goes while the run is RUNNING or RESUMED, also while that waits for a retry's time or for an executor. It stands
while the run is queued, also for room among the tenant's runs, waits for a person or a client, or is paused.
"""

from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Run
from orchestrator.domain.states import RunState

_WORKING = (RunState.RUNNING, RunState.RESUMED)


def turned(run: Run, to: str, now: int) -> Run:
    """The run as it enters state `to`, with its clock set going or stopped."""
    if to in _WORKING:
        return replace(run, state=to, work_start_time=run.work_start_time or now)
    return replace(run, state=to, work_duration=worked(run, now), work_start_time=0)


def stopped(run: Run, now: int) -> Run:
    """The run with its clock standing, in whatever state: when it waits its turn."""
    return replace(run, work_duration=worked(run, now), work_start_time=0)


def worked(run: Run, now: int) -> int:
    """How long it has worked, until now."""
    return run.work_duration + (max(0, now - run.work_start_time) if run.work_start_time else 0)


def is_used_up(run: Run, now: int) -> bool:
    """Whether it has worked as long as it may."""
    return 0 < run.budget.work_duration <= worked(run, now)


def end_of_work(run: Run) -> int:
    """When its time is used up if its clock goes on; 0: never, or the clock stands."""
    if not run.work_start_time or not run.budget.work_duration:
        return 0
    return run.work_start_time + run.budget.work_duration - run.work_duration
