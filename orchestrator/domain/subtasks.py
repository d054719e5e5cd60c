"""Carrying out an approved plan: which subtasks may start, what their ends lead to, when the plan is done."""

from orchestrator.domain.asking import ask_about_failure
from orchestrator.domain.attempts import begin_attempt
from orchestrator.domain.carrying import DONE, subtasks_of
from orchestrator.domain.change import Change
from orchestrator.domain.ending import complete_run
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Attempt, Plan, Run, Subtask
from orchestrator.domain.retries import policy_of, schedule_retry
from orchestrator.domain.starting import World
from orchestrator.domain.states import AttemptState, SessionState, SubtaskState
from orchestrator.domain.transitions import move_plan, move_session, move_subtask

_OVER = (*DONE, SubtaskState.CANCELLED)
# A place in the plan's limit is held from the start to the end, waiting for people included: what is half done is not
# put aside for something else, and a decision never finds all places taken.
_HOLDING = (SubtaskState.RUNNING, SubtaskState.VALIDATING, SubtaskState.AWAITING_APPROVAL)


def begin_subtasks(change: Change, plan: Plan) -> bool:
    mine = subtasks_of(change.snapshot, plan)
    states = {s.key: s.state for s in mine}
    free = plan.parallel_limit - sum(1 for s in mine if s.state in _HOLDING)
    began = False
    for subtask in mine:
        if free <= 0 or subtask.state != SubtaskState.PENDING or subtask.not_before_time > change.now:
            continue
        if all(states[key] in DONE for key in subtask.depends_on):
            subtask = move_subtask(change, subtask, "started")
            begin_attempt(change, "SUBTASK", subtask.agent, subtask)
            free -= 1
            began = True
    return began


def conclude_subtask(change: Change, run: Run, attempt: Attempt, world: World) -> None:
    subtask = change.snapshot.subtasks[attempt.subtask_id]
    if attempt.state == AttemptState.SUCCEEDED:
        move_subtask(change, subtask, "succeeded", result=attempt.result)
        return
    if again := schedule_retry(change, attempt, policy_of(world.catalog.agents.get(attempt.agent), subtask)):
        trigger = "retry_scheduled"
        subtask = move_subtask(change, subtask, trigger, failure=attempt.failure, reason=attempt.failure.reason)
        change.put(replace(subtask, not_before_time=again))
        return
    subtask = move_subtask(change, subtask, "failed", failure=attempt.failure, reason=attempt.failure.reason)
    ask_about_failure(change, attempt, attempt.failure, subtask, world.catalog)
    if change.session.state != SessionState.ERROR_HANDLING:
        move_session(change, "subtask_failed", actor=attempt.agent, reason=attempt.failure.message)


def complete_plan(change: Change, run: Run, plan: Plan) -> bool:
    mine = subtasks_of(change.snapshot, plan)
    if not all(s.state in _OVER for s in mine):
        return False
    move_plan(change, plan, "completed")
    lines = [f"{plan.title}: all {len(mine)} subtasks are done."]
    lines += [f"- {s.title}: {_came_to(s)}" for s in mine]
    complete_run(change, run, "\n".join(lines), plan.author)
    return True


def _came_to(subtask: Subtask) -> str:
    if subtask.state == SubtaskState.SKIPPED and subtask.skip_reason:
        return f"skipped: {_first_line(subtask.skip_reason)}"
    return _first_line(subtask.result) or subtask.state.lower()


def _first_line(text: str) -> str:
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= 200 else line[:199] + "…"
