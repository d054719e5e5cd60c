"""Judging a history by the promises; pure functions from what happened to what is wrong with it, in words."""

from collections.abc import Callable, Iterator

from tests.simulator.checks.artifacts import check_artifacts
from tests.simulator.checks.commands import check_commands
from tests.simulator.checks.control import check_control
from tests.simulator.checks.decisions import check_decisions
from tests.simulator.checks.ends import check_ends
from tests.simulator.checks.fencing import check_fencing
from tests.simulator.checks.grants import check_grants
from tests.simulator.checks.logs import check_logs, check_views
from tests.simulator.checks.machines import check_machines
from tests.simulator.checks.plans import check_plans
from tests.simulator.checks.steps import check_approvals, check_starts
from tests.simulator.history import History

Check = Callable[[History], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    check_logs,
    check_views,
    check_machines,
    check_fencing,
    check_starts,
    check_approvals,
    check_decisions,
    check_plans,
    check_grants,
    check_artifacts,
    check_commands,
    check_control,
    check_ends,
)


def violations(history: History) -> list[str]:
    """Everything that is wrong, each with the check that found it."""
    return [f"{check.__name__.removeprefix('check_')}: {words}" for check in CHECKS for words in check(history)]
