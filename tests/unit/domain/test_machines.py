"""Every machine against the design's tables, written down here a second time: every state with every trigger."""

from enum import StrEnum

import pytest

from orchestrator.domain import states
from orchestrator.domain.errors import WrongState
from orchestrator.domain.states import Machine

# from | trigger | to
SESSION = """
IDLE COMPLETED | message_received | CLASSIFY
IDLE COMPLETED | message_to_agent | EXECUTION
IDLE COMPLETED | message_to_architect | PLAN_REQUIRED
IDLE COMPLETED | plan_submitted | PLAN_REVIEW
IDLE COMPLETED | workflow_started | PLAN_EXECUTION
CLASSIFY | is_atomic | EXECUTION
CLASSIFY | is_complex | PLAN_REQUIRED
CLASSIFY | classify_failed | IDLE
PLAN_REQUIRED | routed_to_architect | ARCHITECT_PLANNING
ARCHITECT_PLANNING | plan_drafted | PLAN_REVIEW
ARCHITECT_PLANNING | planning_failed | ERROR_HANDLING
PLAN_REVIEW | plan_approved | PLAN_EXECUTION
PLAN_REVIEW | plan_rejected | IDLE
PLAN_REVIEW | changes_requested | ARCHITECT_PLANNING
PLAN_REVIEW | plan_revised | PLAN_REVIEW
PLAN_EXECUTION EXECUTION | run_completed | COMPLETED
PLAN_EXECUTION EXECUTION | subtask_failed | ERROR_HANDLING
ERROR_HANDLING | planning_retried | ARCHITECT_PLANNING
ERROR_HANDLING | subtasks_resumed | PLAN_EXECUTION
ERROR_HANDLING | execution_resumed | EXECUTION
ERROR_HANDLING | replan | ARCHITECT_PLANNING
CLASSIFY PLAN_REQUIRED ARCHITECT_PLANNING PLAN_REVIEW PLAN_EXECUTION EXECUTION ERROR_HANDLING | run_cancelled | IDLE
CLASSIFY PLAN_REQUIRED ARCHITECT_PLANNING PLAN_REVIEW PLAN_EXECUTION EXECUTION ERROR_HANDLING | run_failed | IDLE
IDLE COMPLETED CLASSIFY PLAN_REQUIRED ARCHITECT_PLANNING PLAN_REVIEW | closed | CLOSED
PLAN_EXECUTION EXECUTION ERROR_HANDLING | closed | CLOSED
"""
RUN = """
CREATED | started | RUNNING
RUNNING RESUMED | waiting | WAITING
WAITING PAUSED | resumed | RESUMED
RESUMED | running | RUNNING
CREATED | pause_requested | CREATED
CREATED | pause_withdrawn | CREATED
RUNNING | pause_requested | RUNNING
RUNNING | pause_withdrawn | RUNNING
RUNNING WAITING RESUMED | paused | PAUSED
CREATED RUNNING WAITING RESUMED PAUSED | completed | COMPLETED
CREATED RUNNING WAITING RESUMED PAUSED | failed | FAILED
CREATED RUNNING WAITING RESUMED PAUSED | cancelled | CANCELLED
"""
PLAN = """
DRAFT | approved | APPROVED
DRAFT | rejected | REJECTED
DRAFT | superseded | SUPERSEDED
APPROVED | started | IN_PROGRESS
IN_PROGRESS | completed | COMPLETED
IN_PROGRESS | failed | FAILED
IN_PROGRESS | replanned | SUPERSEDED
DRAFT APPROVED IN_PROGRESS | cancelled | CANCELLED
"""
SUBTASK = """
PENDING | started | RUNNING
RUNNING | answered | VALIDATING
RUNNING VALIDATING | gate_asked | AWAITING_APPROVAL
RUNNING VALIDATING AWAITING_APPROVAL | succeeded | SUCCEEDED
VALIDATING AWAITING_APPROVAL | changes_requested | RUNNING
RUNNING | retry_scheduled | PENDING
RUNNING VALIDATING AWAITING_APPROVAL | failed | FAILED
FAILED | retried | PENDING
FAILED | skipped | SKIPPED
PENDING RUNNING VALIDATING AWAITING_APPROVAL FAILED | cancelled | CANCELLED
"""
ATTEMPT = """
RUNNING | succeeded | SUCCEEDED
RUNNING | failed | FAILED
RUNNING | cancelled | CANCELLED
"""
MODEL_STEP = """
PENDING | dispatched | DISPATCHED
DISPATCHED | lost | PENDING
DISPATCHED | refused | PENDING
DISPATCHED | unknown | PENDING
DISPATCHED | transient | PENDING
DISPATCHED | succeeded | SUCCEEDED
DISPATCHED | failed | FAILED
PENDING DISPATCHED | cancelled | CANCELLED
"""
TOOL_STEP = """
PROPOSED APPROVED | asked | AWAITING_APPROVAL
PROPOSED | allowed | APPROVED
PROPOSED APPROVED | handed_to_client | READY
PROPOSED AWAITING_APPROVAL APPROVED | rejected | REJECTED
AWAITING_APPROVAL | approved | APPROVED
AWAITING_APPROVAL | edited | EDITED
AWAITING_APPROVAL IN_DOUBT | responded | SUCCEEDED
APPROVED | dispatched | DISPATCHED
READY DISPATCHED | succeeded | SUCCEEDED
READY DISPATCHED | failed | FAILED
DISPATCHED | refused | APPROVED
DISPATCHED | unknown | APPROVED
DISPATCHED | lost | APPROVED
DISPATCHED | transient | APPROVED
READY DISPATCHED | doubted | IN_DOUBT
IN_DOUBT | retried | APPROVED
IN_DOUBT | given_up | FAILED
PROPOSED AWAITING_APPROVAL APPROVED READY DISPATCHED IN_DOUBT | cancelled | CANCELLED
"""
APPROVAL = """
PENDING | resolved | RESOLVED
PENDING | expired | EXPIRED
PENDING | cancelled | CANCELLED
PENDING | superseded | SUPERSEDED
"""
ENDS = {"COMPLETED", "FAILED", "CANCELLED"}
STEP_ENDS = {"SUCCEEDED", "FAILED", "REJECTED", "EDITED", "CANCELLED"}

CASES: list[tuple[Machine, type[StrEnum], str, set[str]]] = [
    (states.SESSION, states.SessionState, SESSION, {"CLOSED"}),
    (states.RUN, states.RunState, RUN, ENDS),
    (states.PLAN, states.PlanState, PLAN, ENDS | {"REJECTED", "SUPERSEDED"}),
    (states.SUBTASK, states.SubtaskState, SUBTASK, {"SUCCEEDED", "SKIPPED", "CANCELLED"}),
    (states.ATTEMPT, states.AttemptState, ATTEMPT, {"SUCCEEDED", "FAILED", "CANCELLED"}),
    (states.MODEL_STEP, states.StepState, MODEL_STEP, {"SUCCEEDED", "FAILED", "CANCELLED"}),
    (states.TOOL_STEP, states.StepState, TOOL_STEP, STEP_ENDS),
    (states.APPROVAL, states.ApprovalState, APPROVAL, {"RESOLVED", "EXPIRED", "CANCELLED", "SUPERSEDED"}),
]
each_machine = pytest.mark.parametrize(
    ("machine", "enum", "written", "ends"), CASES, ids=[case[0].name for case in CASES]
)


def transitions(written: str) -> dict[tuple[str, str], str]:
    table: dict[tuple[str, str], str] = {}
    for line in written.strip().splitlines():
        sources, trigger, to = (part.strip() for part in line.split("|"))
        table |= {(source, trigger): to for source in sources.split()}
    return table


PAIRS = [
    pytest.param(machine, state.value, trigger, written, id=f"{machine.name}-{state.value}-{trigger}")
    for machine, enum, written, _ in CASES
    for state in enum
    for trigger in dict.fromkeys(trigger for _, trigger in transitions(written))
]


@pytest.mark.parametrize(("machine", "state", "trigger", "written"), PAIRS)
def test_each_state_with_each_trigger_leads_where_the_design_says_or_is_refused(
    machine: Machine, state: str, trigger: str, written: str
) -> None:
    table = transitions(written)
    if (state, trigger) in table:
        assert machine.advance("x1", state, trigger) == table[state, trigger]
        return
    with pytest.raises(WrongState) as refused:
        machine.advance("x1", state, trigger)
    assert (refused.value.machine, refused.value.id) == (machine.name, "x1")
    assert (refused.value.state, refused.value.trigger) == (state, trigger)
    assert set(refused.value.accepting) == {source for source, by in table if by == trigger}


@each_machine
def test_the_machine_has_no_transition_that_the_design_does_not_name(
    machine: Machine, enum: type[StrEnum], written: str, ends: set[str]
) -> None:
    assert dict(machine.table) == transitions(written)


@each_machine
def test_terminal_states_are_the_designs(machine: Machine, enum: type[StrEnum], written: str, ends: set[str]) -> None:
    assert machine.terminal == ends


@each_machine
def test_every_state_of_the_machine_is_one_of_its_enum(
    machine: Machine, enum: type[StrEnum], written: str, ends: set[str]
) -> None:
    assert set(machine.states) <= {state.value for state in enum}
    assert set(machine.triggers) == {trigger for _, trigger in transitions(written)}


@pytest.mark.parametrize(("machine", "enum"), [case[:2] for case in CASES if "step" not in case[0].name])
def test_no_state_is_out_of_reach(machine: Machine, enum: type[StrEnum]) -> None:
    assert set(machine.states) == {state.value for state in enum}


def test_steps_of_both_kinds_together_use_every_step_state() -> None:
    assert {*states.MODEL_STEP.states, *states.TOOL_STEP.states} == {state.value for state in states.StepState}


def test_an_unknown_trigger_is_refused_and_says_that_nothing_would_do() -> None:
    with pytest.raises(WrongState) as refused:
        states.RUN.advance("r1", "RUNNING", "exploded")
    assert refused.value.accepting == ()
    assert "possible in: none" in str(refused.value)


def test_a_refusal_reads_as_a_sentence_with_the_state_and_the_states_that_would_do() -> None:
    with pytest.raises(WrongState) as refused:
        states.PLAN.advance("p1", "REJECTED", "approved")
    assert str(refused.value) == "plan p1 is REJECTED; approved is possible in: DRAFT"
