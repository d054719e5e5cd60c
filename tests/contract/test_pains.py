"""What people have seen go wrong with decisions in systems of this kind, and the tests that see it go right here."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITH_ORCHESTRATORS = "tests/integration/orchestrator"

# What was seen → file::test, each of which fails when it happens here.
PAINS: dict[str, tuple[str, ...]] = {
    "a plan was stored as approved at birth: the review was skipped, the user never asked": (
        f"{WITH_ORCHESTRATORS}/test_plans.py::"
        "test_an_architects_plan_is_born_draft_and_nothing_of_it_runs_before_an_approve",
        f"{WITH_ORCHESTRATORS}/test_plans.py::"
        "test_a_clients_plan_is_born_draft_and_nothing_of_it_runs_before_an_approve",
    ),
    "after a tool result the session's agent answered instead of the subtask's": (
        f"{WITH_ORCHESTRATORS}/test_plans.py::test_a_subtask_keeps_its_agent_across_approvals_and_results",
        f"{WITH_ORCHESTRATORS}/test_switching.py::test_a_subtask_keeps_its_agent_over_a_switch_between_its_steps",
    ),
    "after a tool approval the plan was made and put up for approval a second time": (
        "tests/unit/domain/test_revising.py::test_after_its_approval_a_plan_is_never_drafted_a_second_time_by_itself",
        f"{WITH_ORCHESTRATORS}/test_plans.py::test_a_request_goes_from_routing_to_completed_through_two_approvals",
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_decided_a_week_later_with_no_client_connected_by_another_replica",
    ),
    "later subtasks ran without waiting for the tool approval of an earlier one": (
        f"{WITH_ORCHESTRATORS}/test_plans.py::test_a_later_subtask_waits_for_the_approval_of_the_one_it_depends_on",
    ),
    "a decision matched by position hit the wrong call; two interrupts had the same id": (
        f"{WITH_ORCHESTRATORS}/test_decisions.py::test_two_calls_with_the_same_arguments_have_digests_of_their_own",
        f"{WITH_ORCHESTRATORS}/test_refused_decisions.py::"
        "test_a_decision_that_must_not_count_changes_nothing_and_is_on_record",
    ),
    "a missing decision counted as approve": (
        f"{WITH_ORCHESTRATORS}/test_refused_decisions.py::"
        "test_a_decision_that_must_not_count_changes_nothing_and_is_on_record",
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_what_waits_costs_rows_only",
    ),
    "a denial was never enforced; a call ran before its rejection": (
        f"{WITH_ORCHESTRATORS}/test_plans.py::test_a_rejected_call_is_read_by_the_model_and_never_reaches_the_executor",
        f"{WITH_ORCHESTRATORS}/test_races.py::"
        "test_of_all_that_is_wanted_at_once_one_thing_happens_and_everybody_learns_which",
    ),
    "arguments were changed after the approval": (
        f"{WITH_ORCHESTRATORS}/test_decisions.py::"
        "test_arguments_are_approved_and_executed_as_exactly_the_bytes_the_model_wrote",
    ),
    "of two parallel calls one was approved and one rejected: the approved one was dropped, the conversation invalid": (
        f"{WITH_ORCHESTRATORS}/test_plans.py::"
        "test_every_mix_of_allowed_approved_and_rejected_calls_gives_each_call_one_result",
        "tests/property/test_mixes.py::test_any_mix_in_any_order",
    ),
    "approval was remembered by the tool's name alone": (
        f"{WITH_ORCHESTRATORS}/test_grants.py::"
        "test_a_constraint_lets_other_arguments_through_and_is_exact_about_large_numbers",
        f"{WITH_ORCHESTRATORS}/test_grants.py::test_a_grant_means_its_own_session_only",
        f"{WITH_ORCHESTRATORS}/test_grants.py::test_after_it_was_revoked_the_call_is_asked_about_again",
    ),
    "a tool changed under a running session": (
        "tests/unit/domain/test_judging.py::test_a_tool_that_has_changed_since_is_asked_about_again",
        "tests/unit/domain/test_judging.py::test_a_yes_to_the_tool_as_it_was_is_none_to_the_tool_as_it_is",
    ),
    "approvals nobody answers piled up; a time-out denied, and then it went on": (
        f"{WITH_ORCHESTRATORS}/test_terms.py::test_what_nobody_answers_in_time_is_refused_with_nobody_there",
        f"{WITH_ORCHESTRATORS}/test_terms.py::test_an_answer_after_its_time_is_too_late_though_no_engine_has_looked",
        f"{WITH_ORCHESTRATORS}/test_terms.py::test_an_escalation_asks_others_and_reminds_them",
    ),
    "the hash of an artifact was over its length and its first bytes": (
        f"{WITH_ORCHESTRATORS}/test_artifacts.py::test_the_hash_of_an_artifact_is_over_all_of_its_bytes",
    ),
    "a resume ran the node again from its start: side effects twice": (
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_decided_after_three_restarts",
        f"{WITH_ORCHESTRATORS}/test_repeats.py::"
        "test_a_repeated_decision_while_the_call_it_allowed_runs_does_not_start_it_again",
    ),
    "the event arrived before the wait was registered: hung for ever": (
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_an_answer_that_comes_before_anybody_waits_for_it_is_not_missed",
    ),
    "parked work timed out, or used up the concurrency limit": (
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_what_waits_costs_rows_only",
        f"{WITH_ORCHESTRATORS}/test_tenant_limit.py::"
        "test_a_run_that_waits_for_a_person_uses_no_room_and_resumes_in_its_turn",
        f"{WITH_ORCHESTRATORS}/test_budgets.py::test_waiting_for_a_person_uses_up_no_time",
    ),
    "a stale signal from an earlier loop unblocked a later approval": (
        f"{WITH_ORCHESTRATORS}/test_refused_decisions.py::test_an_answer_to_an_earlier_question_answers_no_later_one",
    ),
    "a transaction was held open while a person was waited for": (
        f"{WITH_ORCHESTRATORS}/test_plans.py::test_a_waiting_plan_holds_no_task_no_owner_and_no_transaction",
        f"{WITH_ORCHESTRATORS}/test_plans.py::test_a_waiting_tool_call_holds_no_task_no_owner_and_no_transaction",
    ),
    "a cancel left tool calls without a result: every later model call failed": (
        f"{WITH_ORCHESTRATORS}/test_cancelling.py::test_cancelling_while_a_tool_waits_for_approval",
    ),
    "a budget overrun was noticed afterwards": (
        f"{WITH_ORCHESTRATORS}/test_budgets.py::"
        "test_a_run_that_has_used_up_its_time_asks_with_a_step_in_flight_and_goes_on_with_more",
        f"{WITH_ORCHESTRATORS}/test_budgets.py::test_a_plan_brings_limits_of_its_own_and_each_asks_when_it_is_reached",
        f"{WITH_ORCHESTRATORS}/test_budgets.py::test_a_plan_brings_limits_of_its_own_and_each_asks_when_it_is_reached",
    ),
    "nobody could answer later, from another server, without the workflow's id": (
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_decided_a_week_later_with_no_client_connected_by_another_replica",
        f"{WITH_ORCHESTRATORS}/test_whenever.py::test_decided_after_three_restarts",
    ),
    "an artifact's hash was over its length and its first 64 bytes": (
        f"{WITH_ORCHESTRATORS}/test_artifacts.py::test_the_hash_of_an_artifact_is_over_all_of_its_bytes",
        f"{WITH_ORCHESTRATORS}/test_artifacts.py::"
        "test_a_file_that_changes_after_it_was_recorded_does_not_change_the_artifact",
    ),
    "a mail was sent twice": (
        f"{WITH_ORCHESTRATORS}/test_doubts.py::test_a_retry_is_dispatched_once_under_the_next_number",
        f"{WITH_ORCHESTRATORS}/test_doubts.py::test_of_two_answers_at_once_one_wins",
    ),
}


@pytest.mark.parametrize("pain", PAINS)
def test_a_pain_has_a_test(pain: str) -> None:
    for named in PAINS[pain]:
        file, _, test = named.partition("::")
        assert test in _tests_of(ROOT / file), f"{named} is not there"


@cache
def _tests_of(file: Path) -> frozenset[str]:
    """The names of its tests, without those that are marked to be skipped or expected to fail."""
    found = [
        node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    runs = [
        node for node in found if not any("skip" in (m := ast.unparse(d)) or "xfail" in m for d in node.decorator_list)
    ]
    return frozenset(node.name for node in runs)
