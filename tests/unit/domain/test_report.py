"""What the report of a run says of what did not go smoothly."""

from typing import Any

from orchestrator.domain.records import Decision, Failure, Preview, Vote
from orchestrator.domain.report import make_report
from tests.unit.domain.build import a_plan, a_run, a_step, a_subtask, an_approval


def decided(**fields: Any) -> str:
    return make_report(a_run(), None, a_plan(), [], [], [an_approval(preview=Preview("Run it"), **fields)]).markdown


def test_all_who_said_yes_are_named_and_why_nobody_did() -> None:
    votes = [Vote("anna", "APPROVE", 1), Vote("boris", "APPROVE", 2)]
    yes, no = Decision("APPROVE", "boris", 2), Decision("REJECT", "clara", 3)
    assert "- Run it: **APPROVE** by anna, boris\n" in decided(decision=yes, votes=votes)
    assert "- Run it: **REJECT** by clara\n" in decided(decision=no, votes=votes[:1])
    expired = decided(state="EXPIRED", resolve_reason="nobody answered in time")
    assert "- Run it: EXPIRED (nobody answered in time)\n" in expired


def report(*, subtask: dict[str, Any] | None = None, step: dict[str, Any] | None = None, **run: Any) -> str:
    subtasks, steps = [a_subtask(**(subtask or {}))], [a_step(**(step or {}))]
    return make_report(a_run(**run), None, a_plan(), subtasks, steps, []).markdown


def test_a_run_that_went_smoothly_says_nothing_of_trouble() -> None:
    markdown = report(state="COMPLETED")
    for word in ("By itself", "Quarantined", "It failed", "attempts"):
        assert word not in markdown


def test_retries_faults_and_losses_are_told() -> None:
    markdown = report(retries=1, faults=4, losses=2)
    assert (
        "By itself: 1 attempt was tried again; 4 calls failed in passing; 2 executors were lost under a step."
        in markdown
    )
    assert "2 executors" not in report(retries=1)


def test_what_was_not_done_here_says_why() -> None:
    assert "**SKIPPED**: the old one will do" in report(
        subtask={"state": "SKIPPED", "skip_reason": "the old one will do"}
    )
    carried = report(subtask={"state": "SUCCEEDED", "carried_subtask_id": "k0"})
    assert "**SUCCEEDED**, carried from an earlier version of the plan" in carried


def test_a_subtask_that_took_several_attempts_says_how_many() -> None:
    assert "**SUCCEEDED**, in 3 attempts" in report(subtask={"state": "SUCCEEDED", "attempts": 3})


def test_a_quarantined_step_is_named() -> None:
    lost = Failure("EXECUTOR_LOST", "quarantined", "HUMAN_REQUIRED")
    markdown = report(step={"tool": "read_file", "losses": 3, "state": "FAILED", "failure": lost})
    assert "Quarantined: `read_file` of coder, after 3 lost executors." in markdown
    assert "Quarantined" not in report(step={"losses": 3, "state": "SUCCEEDED"})


def test_why_a_run_failed_is_told() -> None:
    failure = Failure("BUDGET_REACHED", "work_duration: 60 s of 60 s", "HUMAN_REQUIRED")
    assert "It failed: BUDGET_REACHED: work_duration: 60 s of 60 s" in report(state="FAILED", failure=failure)
