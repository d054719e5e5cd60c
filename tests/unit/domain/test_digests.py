"""A digest changes with anything a person approved, and an approval is a yes to one step's exact bytes, once."""

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.digests import allows, failure_preimage, plan_preimage, sha256, tool_preimage
from orchestrator.domain.records import Approval, Decision, RetryPolicy, Step
from tests.unit.domain.build import a_plan, a_step, a_subtask, an_approval

GOAL = "make it"


def lines(preimage: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in preimage.splitlines())


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"session_id": "other"},
        {"run_id": "other"},
        {"id": "other"},
        {"version": 2},
        {"title": "other"},
        {"summary": "other"},
        {"parallel_limit": 2},
    ],
    ids=str,
)
def test_any_changed_field_of_a_plan_changes_its_digest(changed: dict[str, Any]) -> None:
    subtasks = [a_subtask()]
    assert plan_preimage(a_plan(), subtasks, GOAL) != plan_preimage(a_plan(**changed), subtasks, GOAL)


def test_a_retry_policy_is_part_of_what_is_approved_down_to_each_number() -> None:
    policies = [
        None,
        RetryPolicy(),
        RetryPolicy(max_attempts=4),
        RetryPolicy(first_backoff=1),
        RetryPolicy(longest_backoff=1),
        RetryPolicy(factor=1.5),
        RetryPolicy(non_retryable_reasons=["MODEL_ERROR"]),
    ]
    preimages = {plan_preimage(a_plan(), [a_subtask(retry_policy=policy)], GOAL) for policy in policies}
    assert len(preimages) == len(policies)


@pytest.mark.parametrize("field", ["key", "title", "instructions", "agent", "depends_on"])
def test_any_changed_field_of_a_subtask_changes_the_plans_digest(field: str) -> None:
    other = a_subtask(**{field: ["b"] if field == "depends_on" else "other"})
    assert plan_preimage(a_plan(), [a_subtask()], GOAL) != plan_preimage(a_plan(), [other], GOAL)


def test_the_goal_that_agents_are_told_is_part_of_what_is_approved() -> None:
    plan = a_plan(title="Make it")
    preimages = {plan_preimage(plan, [a_subtask()], goal) for goal in ("make it", "break it", "", plan.title)}
    assert len(preimages) == 4


def test_a_plan_that_is_its_own_goal_has_the_digest_it_had_before_goals_were_part_of_it() -> None:
    plan = a_plan(version=1)
    digest = sha256(plan_preimage(plan, [a_subtask()], plan.title))
    assert digest == "02a7c0c0e2c85770ec611c60db66b659738cd6a2e63d7a2584525fce71bf4623"


def test_the_order_of_subtasks_is_part_of_the_plan_and_the_order_of_rows_is_not() -> None:
    a, b = a_subtask(key="a", position=1), a_subtask(key="b", position=2)
    swapped = [replace(a, position=2), replace(b, position=1)]
    assert plan_preimage(a_plan(), [a, b], GOAL) == plan_preimage(a_plan(), [b, a], GOAL)
    assert plan_preimage(a_plan(), [a, b], GOAL) != plan_preimage(a_plan(), swapped, GOAL)


def test_what_happens_to_a_plan_does_not_change_its_digest() -> None:
    done = a_plan(state="COMPLETED", approve_time=5, end_time=9, digest="d")
    ran = a_subtask(state="SUCCEEDED", attempts=2, result="done")
    assert plan_preimage(a_plan(), [a_subtask()], GOAL) == plan_preimage(done, [ran], GOAL)


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"session_id": "other"},
        {"run_id": "other"},
        {"id": "other"},
        {"tool": "other"},
        {"schema_digest": "other"},
        {"arguments_json": "{ }"},
    ],
    ids=str,
)
def test_any_changed_field_of_a_call_changes_its_digest(changed: dict[str, Any]) -> None:
    assert tool_preimage(a_step(), 1, "pd") != tool_preimage(a_step(**changed), 1, "pd")


def test_the_plans_version_and_the_policy_are_part_of_a_calls_digest() -> None:
    preimage = tool_preimage(a_step(), 1, "pd")
    assert preimage not in (tool_preimage(a_step(), 2, "pd"), tool_preimage(a_step(), 1, "other"))


def test_a_calls_preimage_names_the_step_the_tool_and_the_hash_of_the_exact_bytes() -> None:
    step = a_step(arguments_json='{"id": 1234567890123456789}')
    said = lines(tool_preimage(step, 3, "pd"))
    assert (said["step"], said["tool"], said["plan_version"], said["policy"]) == ("x1", "write_file", "3", "pd")
    assert said["arguments_sha256"] == sha256('{"id": 1234567890123456789}')


def test_a_failures_digest_names_the_attempt() -> None:
    assert failure_preimage("t", "s", "r", "a1", "X") != failure_preimage("t", "s", "r", "a2", "X")


# --- allows


def approved(**fields: Any) -> tuple[Approval, Step]:
    step = a_step(arguments_json='{"path":"a"}')
    preimage = tool_preimage(step, 1, "pd")
    step = replace(step, approval_id="v1", approval_preimage=preimage)
    digest = sha256(preimage)
    approval = an_approval(
        state="RESOLVED",
        digest=digest,
        preimage=preimage,
        step_id=step.id,
        arguments_json=step.arguments_json,
        decision=Decision("APPROVE", "anna", 1, digest),
    )
    return replace(approval, **fields), step


def test_an_approval_allows_its_step() -> None:
    assert allows(*approved())


@pytest.mark.parametrize("action", ["REJECT", "EDIT", "RESPOND", "ABORT", "RETRY", ""])
def test_no_other_answer_than_approve_allows(action: str) -> None:
    approval, step = approved()
    assert not allows(replace(approval, decision=Decision(action, "anna", 1, approval.digest)), step)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "PLAN"},
        {"step_id": "another"},
        {"decision": None},
        {"digest": "another"},
        {"arguments_json": '{"path": "a"}'},
        {"consume_time": 7},
        {"decision": Decision("APPROVE", "anna", 1, "another")},
        {"decision": Decision("APPROVE", "anna", 1, "")},
    ],
    ids=str,
)
def test_an_approval_of_anything_else_or_used_up_does_not_allow(fields: dict[str, Any]) -> None:
    assert not allows(*approved(**fields))


def test_an_approval_does_not_allow_other_bytes_than_were_shown() -> None:
    approval, step = approved()
    assert not allows(approval, replace(step, arguments_json='{"path":"b"}'))
    assert not allows(approval, replace(step, approval_preimage=step.approval_preimage + " "))


def test_after_a_doubt_the_first_approval_allows_nothing_more_whether_it_was_used_or_not() -> None:
    approval, step = approved()
    in_doubt = replace(step, dispatch_number=1, doubt_number=1)
    assert not allows(approval, in_doubt)
    assert not allows(replace(approval, consume_time=7), in_doubt)


@pytest.mark.parametrize("action", ["RETRY", "REJECT", "RESPOND", "ABORT", "APPROVE"])
def test_of_the_answers_to_a_doubt_only_retry_allows_and_only_after_that_doubt(action: str) -> None:
    approval, step = approved(kind="IN_DOUBT")
    approval = replace(approval, decision=Decision(action, "anna", 1, approval.digest))
    assert allows(approval, replace(step, dispatch_number=1, doubt_number=1)) is (action == "RETRY")
    assert not allows(approval, step)


def test_what_a_retry_allowed_and_never_started_is_the_same_use() -> None:
    approval, step = approved(kind="IN_DOUBT", consume_time=7)
    approval = replace(approval, decision=Decision("RETRY", "anna", 1, approval.digest))
    assert allows(approval, replace(step, dispatch_number=2, doubt_number=1))
    assert not allows(approval, replace(step, dispatch_number=2, doubt_number=2))
