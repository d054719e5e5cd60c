"""The rules of one attempt: which model call or tool call is due, and when its agent has answered.

`advance_attempt` does one thing at a time until nothing is due; it never waits and never calls out.
"""

from orchestrator.domain.artifacts import is_exhausted
from orchestrator.domain.calls import advance_call, new_step, propose
from orchestrator.domain.carrying import as_draft, done_of
from orchestrator.domain.change import Change
from orchestrator.domain.drafts import CORRECTIONS, check_answer
from orchestrator.domain.errors import Violation
from orchestrator.domain.events import AttemptSuperseded
from orchestrator.domain.frozen import replace
from orchestrator.domain.gates import bring_on
from orchestrator.domain.heeding import feedback_for, in_short, unheeded
from orchestrator.domain.records import Attempt, Failure, Step, Subtask, is_done
from orchestrator.domain.retries import is_quarantined
from orchestrator.domain.starting import World, start
from orchestrator.domain.states import AttemptState, StepState
from orchestrator.domain.transcript import MOST_BYTES, is_too_long
from orchestrator.domain.transitions import end_attempt


def begin_attempt(change: Change, purpose: str, agent: str, subtask: Subtask | None = None) -> Attempt:
    run = change.snapshot.run
    assert run is not None
    subtask_id = subtask.id if subtask else ""
    earlier = change.snapshot.tries(run.id, purpose, subtask_id)
    said = unheeded(change.snapshot, purpose, subtask_id)
    if earlier and not earlier[-1].retry_time:  # a person's doing; one that follows by itself has been told before
        change.emit(AttemptSuperseded(run.id, subtask_id, earlier[-1].id, in_short(said)))
    return change.put(
        Attempt(
            run.tenant,
            change.new_id(),
            run.session_id,
            run.id,
            purpose,
            agent,
            number=len(earlier) + 1,
            subtask_id=subtask_id,
            feedback=feedback_for(change.snapshot, earlier[-1] if earlier else None, said),
            create_time=change.now,
            heeds_approval_id=said.id if said else "",
        )
    )


def begin_unless_open(change: Change, purpose: str, agent: str) -> bool:
    """A new try unless one runs, or one failed and awaits its time or a person. True when one began."""
    run = change.snapshot.run
    assert run is not None
    tries = change.snapshot.tries(run.id, purpose, "")
    running = bool(tries) and (tries[-1].state == AttemptState.RUNNING or tries[-1].retry_time > change.now)
    asked = any(a.kind == "FAILURE" and not a.subtask_id for a in change.snapshot.pending)
    if running or asked:
        return False
    begin_attempt(change, purpose, agent)
    return True


def advance_attempt(change: Change, attempt: Attempt, world: World) -> bool:
    """True when something was done; call again until False. An ended attempt carries its result or failure."""
    steps = change.snapshot.steps_of(attempt)
    model = next((s for s in reversed(steps) if s.kind == "MODEL"), None)
    if model is None:
        return _next_model_step(change, attempt, steps, world)
    if model.state == StepState.PENDING:
        return start(change, model, world)
    if model.state == StepState.DISPATCHED:
        return False
    if model.state != StepState.SUCCEEDED or model.reply is None:
        end_attempt(change, attempt, "failed", failure=model.failure)
        return True
    if not model.reply.tool_calls:
        return _answered(change, attempt, model, steps, world)
    calls = [s for s in steps if s.model_step_id == model.id]
    if not calls:
        propose(change, attempt, model, len(steps) + 1, world)
        return True
    return _advance_calls(change, attempt, calls, steps, world)


def _advance_calls(change: Change, attempt: Attempt, calls: list[Step], steps: list[Step], world: World) -> bool:
    progressed = [advance_call(change, call, world) for call in calls]
    if any(progressed) or not all(is_done(call) for call in calls):
        return any(progressed)
    if hopeless := next(filter(is_quarantined, calls), None):
        end_attempt(change, attempt, "failed", failure=hopeless.failure)
        return True
    return _next_model_step(change, attempt, steps, world)


def _answered(change: Change, attempt: Attempt, model: Step, steps: list[Step], world: World) -> bool:
    """A final answer ends the attempt; one that does not do goes back to the model, which reads why."""
    assert model.reply is not None
    if (brought_on := bring_on(change, attempt, model, world)) is not None:
        return brought_on
    if model.feedback:  # about its files
        return _go_back(change, attempt, model, steps, world)
    done = [as_draft(subtask) for subtask in done_of(change.snapshot, change.snapshot.plan)]
    problems = check_answer(attempt.purpose, model.reply.text, world.catalog, done)
    if not problems:
        end_attempt(change, attempt, "succeeded", result=model.reply.text)
        return True
    if sum(1 for s in steps if s.feedback) >= CORRECTIONS[attempt.purpose]:
        words = "; ".join(f"{v.field}: {v.description}" for v in problems)
        reason = "INVALID_PLAN" if attempt.purpose == "PLANNING" else "MODEL_OUTPUT_INVALID"
        end_attempt(change, attempt, "failed", failure=Failure(reason, words[:2000], "HUMAN_REQUIRED"))
        return True
    change.put(replace(model, feedback=_correction(problems)))
    return _next_model_step(change, attempt, steps, world)


def _go_back(change: Change, attempt: Attempt, model: Step, steps: list[Step], world: World) -> bool:
    """The model has been told what is wrong with what it left."""
    if not is_exhausted(change, attempt, steps):
        return _next_model_step(change, attempt, steps, world)
    end_attempt(change, attempt, "failed", failure=Failure("ARTIFACT_INVALID", model.feedback[:2000], "HUMAN_REQUIRED"))
    return True


def _correction(problems: list[Violation]) -> str:
    lines = "\n".join(f"- {v.field}: {v.description}" for v in problems)
    return f"Your answer does not do:\n{lines}\nAnswer again, with JSON of the schema only."


def _next_model_step(change: Change, attempt: Attempt, steps: list[Step], world: World) -> bool:
    agent = world.catalog.agents.get(attempt.agent)
    if agent is None:
        failure = Failure("AGENT_NOT_FOUND", f"the catalog has no agent {attempt.agent!r}", "HUMAN_REQUIRED")
        end_attempt(change, attempt, "failed", failure=failure)
        return True
    if len(steps) >= agent.max_steps:
        failure = Failure("LIMIT_EXCEEDED", f"the attempt took {len(steps)} steps without an answer", "HUMAN_REQUIRED")
        end_attempt(change, attempt, "failed", failure=failure)
        return True
    step = replace(new_step(change, attempt, "MODEL", StepState.PENDING, len(steps) + 1), model=agent.model)
    if is_too_long(change.snapshot, step, world.catalog):
        words = f"the conversation is over {MOST_BYTES} bytes: no model is sent so much"
        end_attempt(change, attempt, "failed", failure=Failure("LIMIT_EXCEEDED", words, "HUMAN_REQUIRED"))
        return True
    start(change, change.put(step), world)
    return True
