"""When the faults are over all comes to rest, ended or waiting for somebody who was asked; nothing stays open."""

from collections import Counter
from collections.abc import Iterator

from orchestrator.domain.records import Run, is_done, is_open
from orchestrator.domain.states import SUBTASK
from tests.simulator.history import History


def check_ends(history: History) -> Iterator[str]:
    yield from (f"it does not come to rest: {words}" for words in history.unrest)
    yield from (f"a transaction is open: {words}" for words in history.open_transactions)
    yield from (f"a defect: {words}" for words in history.defects)
    yield from (f"the tenant's limit: {words}" for words in history.miscounted)
    yield from (f"at rest, and yet due: {words}" for words in history.not_idle)
    if not history.unrest:
        yield from _waiting(history)
    for run in history.rows.runs:
        if not is_open(run):
            yield from _ended(history, run)
    yield from _results(history)


def _waiting(history: History) -> Iterator[str]:
    """An open run at rest waits: for a person who was asked, for a client's tool, for the run before it, or paused."""
    asked = {a.run_id for a in history.rows.approvals if a.state == "PENDING"}
    asked |= {step.run_id for step in history.rows.steps if step.state == "READY"}
    active = {session.active_run_id: session for session in history.rows.sessions if session.active_run_id}
    held = {session.id for session in active.values()}
    for run in history.rows.runs:
        if not is_open(run) or run.state == "PAUSED":
            continue
        if run.id in active and (run.state != "WAITING" or run.id not in asked):
            yield f"run {run.id} is {run.state} and nobody was asked"
        if run.id not in active and run.session_id not in held:
            yield f"run {run.id} is {run.state} in a session without an active run"
    for session in active.values():
        if session.owner or session.runnable:
            yield f"session {session.id} rests, and is owned by {session.owner!r}, runnable: {session.runnable}"


def _ended(history: History, run: Run) -> Iterator[str]:
    where = f"run {run.id} is {run.state}"
    for step in history.rows.steps:
        if step.run_id == run.id and not is_done(step):
            yield f"{where} and its step {step.id} is {step.state}"
    for attempt in history.rows.attempts:
        if attempt.run_id == run.id and attempt.state == "RUNNING":
            yield f"{where} and its attempt {attempt.id} runs"
    for approval in history.rows.approvals:
        if approval.run_id == run.id and approval.state == "PENDING":
            yield f"{where} and its approval {approval.id} is pending"
    for subtask in history.rows.subtasks:
        if subtask.run_id == run.id and subtask.state not in SUBTASK.terminal:
            yield f"{where} and its subtask {subtask.id} is {subtask.state}"


def _results(history: History) -> Iterator[str]:
    """A call has one line in the ledger, but for edits, and a result when it is over."""
    calls = Counter((s.model_step_id, s.call_id) for s in history.rows.steps if s.model_step_id and s.state != "EDITED")
    for (model_step, call_id), times in calls.items():
        if times > 1:
            yield f"call {call_id} of step {model_step} has {times} results"
    for step in history.rows.steps:
        if step.kind == "TOOL" and is_done(step) and step.state != "EDITED" and step.result is None:
            yield f"step {step.id} is {step.state} without a result"
