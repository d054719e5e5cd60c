"""Folding what executors report into the ledger: by step id and dispatch number, each outcome once.

What is already recorded, or belongs to an earlier dispatch, changes nothing.
"""

from dataclasses import field

from orchestrator.domain.asking import ask_about_doubt
from orchestrator.domain.calls import tidy_reply
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.change import Change
from orchestrator.domain.frozen import dataclass, replace
from orchestrator.domain.records import Failure, ModelReply, Step, ToolResult, Usage
from orchestrator.domain.retries import DISPATCHES, MAX_LOSSES, backoff, capped, is_retryable
from orchestrator.domain.starting import OVERDUE_GRACE
from orchestrator.domain.states import StepState
from orchestrator.domain.transitions import finish_step

MAX_REPLY = 500_000  # characters: a reply becomes a message, an event and part of every later call
MAX_CALLS = 128  # in one reply: each becomes a step, perhaps a question, and is read with every look at the session
FIRST_REFUSED_WAIT = SECOND // 20
LONGEST_REFUSED_WAIT = 30 * SECOND
LONGEST_WAIT_FOR_A_SLOT = 2 * SECOND
_NO_ROOM = ("NO_SLOT", "DRAINING")  # says nothing about the step, and may be over with the next outcome


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one dispatch of a step.

    `kind` is SUCCEEDED (with `reply` or `result`), FAILED (with `failure`), REFUSED or UNKNOWN (it never started), or
    LOST (the executor instance is gone). RUNNING, which overrules LOST, is never folded.
    """

    step_id: str
    dispatch_number: int
    kind: str
    reply: ModelReply | None = None
    result: ToolResult | None = None
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    latency: int = 0
    provider_request_id: str = ""
    failure: Failure = field(default_factory=Failure)
    effect_possible: bool = False  # FAILED, but it may have done something all the same
    retry_after: int = 0


def fold(change: Change, outcome: Outcome) -> bool:
    """Whether it changed anything."""
    step = change.snapshot.steps.get(outcome.step_id)
    if step is None or step.state != StepState.DISPATCHED or step.dispatch_number != outcome.dispatch_number:
        return False
    _FOLDS[outcome.kind](change, step, outcome)
    return True


def _succeeded(change: Change, step: Step, outcome: Outcome) -> None:
    if unusable := _unusable(step, outcome):
        _failed(change, step, replace(outcome, failure=unusable))
        return
    step = replace(
        step,
        reply=tidy_reply(outcome.reply) if outcome.reply else None,
        result=outcome.result,
        model=outcome.model or step.model,
        latency=outcome.latency,
        provider_request_id=outcome.provider_request_id,
        failure=Failure(),
    )
    _finish(change, step, outcome, "succeeded")


def _unusable(step: Step, outcome: Outcome) -> Failure | None:
    """Why what an executor calls a success is none."""
    if (outcome.reply if step.kind == "MODEL" else outcome.result) is None:
        reason = "MODEL_OUTPUT_INVALID" if step.kind == "MODEL" else "TOOL_FAILED"
        return Failure(reason, "the executor reported success without a result", "HUMAN_REQUIRED")
    if outcome.reply is not None and (size := len(outcome.reply.text)) > MAX_REPLY:
        words = f"the reply has {size} characters; {MAX_REPLY} are allowed"
        return Failure("MODEL_OUTPUT_INVALID", words, "HUMAN_REQUIRED")
    if outcome.reply is not None and (number := len(outcome.reply.tool_calls)) > MAX_CALLS:
        words = f"the reply has {number} tool calls; {MAX_CALLS} are allowed"
        return Failure("MODEL_OUTPUT_INVALID", words, "HUMAN_REQUIRED")
    return None


def _failed(change: Change, step: Step, outcome: Outcome) -> None:
    failure = replace(outcome.failure, retry_after=capped(outcome.retry_after))
    step = replace(step, failure=failure, latency=outcome.latency, model=outcome.model or step.model)
    if _is_transient(step, outcome.failure):
        step = _later(replace(step, faults=step.faults + 1), change.now, step.faults + 1, outcome.retry_after)
        _finish(change, step, outcome, "transient")
        _count(change, step, faults=1)
        return
    if outcome.effect_possible and not _may_repeat(step):
        _doubt(change, step, outcome, outcome.failure.message)
        return
    if step.kind == "TOOL":
        step = replace(step, result=ToolResult(f"The call failed: {outcome.failure.message}", is_error=True))
    _finish(change, step, outcome, "failed")


def _refused(change: Change, step: Step, outcome: Outcome) -> None:
    """It never started: the same use of the same approval, again a little later each time."""
    longest = LONGEST_WAIT_FOR_A_SLOT if outcome.failure.reason in _NO_ROOM else LONGEST_REFUSED_WAIT
    wait = outcome.retry_after or min(FIRST_REFUSED_WAIT << min(step.refusals, 16), longest)
    step = replace(step, failure=outcome.failure, refusals=step.refusals + 1, not_before_time=change.now + wait)
    _finish(change, step, outcome, "refused")


def _unknown(change: Change, step: Step, outcome: Outcome) -> None:
    _finish(change, step, outcome, "unknown")


def _lost(change: Change, step: Step, outcome: Outcome) -> None:
    """What may be repeated is, at once and then later, but not for ever: it may be what kills its executors."""
    failure = Failure("EXECUTOR_LOST", f"executor {step.executor_instance} was lost", "RETRYABLE")
    step = replace(step, losses=step.losses + 1, failure=failure)
    _count(change, step, losses=1)
    if not _may_repeat(step):
        _doubt(change, step, outcome, "the executor was lost while it ran")
    elif step.losses >= MAX_LOSSES:
        words = f"quarantined: {step.losses} executors were lost while they had it, so it may be what kills them"
        _failed(change, step, replace(outcome, failure=Failure("EXECUTOR_LOST", words, "HUMAN_REQUIRED")))
    else:
        again = step if step.losses == 1 else _later(step, change.now, step.losses - 1, 0)
        _finish(change, again, outcome, "lost")


def _doubt(change: Change, step: Step, outcome: Outcome, why: str) -> None:
    """It must not happen twice, and nobody knows whether it happened once: a person says. Should they have it done
    again, it is not before this call is surely over."""
    message = f"{step.tool} may have taken effect, and nobody knows: {why}"
    step = replace(
        step,
        failure=Failure("IN_DOUBT", message, "HUMAN_REQUIRED"),
        doubt_number=step.dispatch_number,
        not_before_time=step.deadline_time + OVERDUE_GRACE,
    )
    _finish(change, step, outcome, "doubted")
    ask_about_doubt(change, change.snapshot.steps[step.id], why)


def _is_transient(step: Step, failure: Failure) -> bool:
    return _may_repeat(step) and is_retryable(failure, DISPATCHES) and step.faults + 1 < DISPATCHES.max_attempts


def _later(step: Step, now: int, number: int, retry_after: int) -> Step:
    """Not before what was asked for, or else a backoff that grows with `number`."""
    return replace(step, not_before_time=now + (capped(retry_after) or backoff(DISPATCHES, number, step.id)))


def _count(change: Change, step: Step, *, faults: int = 0, losses: int = 0) -> None:
    """What its attempt, its subtask and its run have been through."""
    if losses and (attempt := change.snapshot.attempts.get(step.attempt_id)):
        change.put(replace(attempt, losses=attempt.losses + losses))
    if losses and (subtask := change.snapshot.subtasks.get(step.subtask_id)):
        change.put(replace(subtask, losses=subtask.losses + losses))
    if run := change.snapshot.runs.get(step.run_id):
        change.put(replace(run, faults=run.faults + faults, losses=run.losses + losses))


def _may_repeat(step: Step) -> bool:
    """A class nobody has named counts as one that must not happen twice."""
    return step.kind == "MODEL" or step.side_effect in ("READ_ONLY", "IDEMPOTENT")


_FOLDS = {
    "SUCCEEDED": _succeeded,
    "FAILED": _failed,
    "REFUSED": _refused,
    "UNKNOWN": _unknown,
    "LOST": _lost,
}


def _finish(change: Change, step: Step, outcome: Outcome, trigger: str) -> None:
    """The step's usage is the sum over its dispatches; the run's is kept with it."""
    ran = outcome.kind in ("SUCCEEDED", "FAILED")
    spent = replace(
        outcome.usage,
        model_calls=int(ran and step.kind == "MODEL"),
        tool_calls=int(ran and step.kind == "TOOL"),
    )
    finish_step(change, replace(step, usage=step.usage + spent), trigger)
    run = change.snapshot.runs.get(step.run_id)
    if run is not None and ran:
        change.put(replace(run, usage=run.usage + spent))
