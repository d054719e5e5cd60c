"""What a model sees: built from recorded rows alone, so the same rows always give the same conversation.

Failed and cancelled model calls never enter it; every tool call of a reply is followed by its one result.
"""

from dataclasses import dataclass

from orchestrator.domain.catalog import Agent, Catalog, Tool
from orchestrator.domain.client_tools import offered_tools
from orchestrator.domain.drafts import PLAN_SCHEMA_JSON, ROUTE_SCHEMA_JSON
from orchestrator.domain.records import Attempt, Run, Step, Subtask, ToolCall
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import StepState, SubtaskState

HISTORY_MESSAGES = 40
MOST_BYTES = 8 * 1024 * 1024  # a frame may have twice as much; one that has more would break its executor's stream
FEW_CHARACTERS = MOST_BYTES // 8  # so many take half of that at most: no need to make the conversation to see it fits


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn as the model reads it. Role is SYSTEM, USER, ASSISTANT or TOOL."""

    role: str
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ModelCall:
    """Everything a model step needs."""

    model: str
    agent: str
    purpose: str
    turn: int
    messages: tuple[ChatMessage, ...]
    tools: tuple[Tool, ...]
    output_schema_json: str
    max_output_tokens: int


def model_call(snapshot: Snapshot, step: Step, catalog: Catalog) -> ModelCall:
    attempt = snapshot.attempts[step.attempt_id]
    agent = catalog.agents[step.agent]
    before = [s for s in snapshot.steps_of(attempt) if s.kind == "MODEL" and s.id != step.id]
    return ModelCall(
        model=step.model,
        agent=agent.name,
        purpose=attempt.purpose,
        turn=sum(1 for s in before if s.state == StepState.SUCCEEDED),
        messages=tuple(_messages(snapshot, attempt, agent, catalog)),
        tools=tuple(tool for tool in offered_tools(snapshot.session, catalog).values() if agent.may_use(tool.name)),
        output_schema_json=_SCHEMAS.get(attempt.purpose, ""),
        max_output_tokens=agent.max_output_tokens,
    )


def is_too_long(snapshot: Snapshot, step: Step, catalog: Catalog) -> bool:
    """Whether what the model would read, results that people and clients handed in included, is over MOST_BYTES."""
    if _characters(snapshot) <= FEW_CHARACTERS:
        return False
    call = model_call(snapshot, step, catalog)
    texts = (t for m in call.messages for t in (m.text, *(c.arguments_json for c in m.tool_calls)))
    return sum(len(text.encode(errors="replace")) for text in texts) > MOST_BYTES


def _characters(snapshot: Snapshot) -> int:
    """Of all that may be long and that a conversation of the session can be made of."""
    total = sum(len(message.text) for message in snapshot.messages.values())
    total += sum(len(run.goal) for run in snapshot.runs.values())
    total += sum(len(plan.summary) for plan in snapshot.plans.values())
    total += sum(len(task.instructions) + len(task.result) for task in snapshot.subtasks.values())
    total += sum(len(attempt.feedback) for attempt in snapshot.attempts.values())
    for step in snapshot.steps.values():
        total += len(step.feedback)
        total += len(step.result.content) if step.result else 0
        if step.reply:
            total += len(step.reply.text) + sum(len(call.arguments_json) for call in step.reply.tool_calls)
    return total


_SCHEMAS = {"ROUTING": ROUTE_SCHEMA_JSON, "PLANNING": PLAN_SCHEMA_JSON}


def _tries(snapshot: Snapshot, attempt: Attempt) -> list[Attempt]:
    """What an attempt's conversation is made of: the earlier tries at the same work, then its own."""
    tries = snapshot.tries(attempt.run_id, attempt.purpose, attempt.subtask_id)
    return [a for a in tries if a.number <= attempt.number]


def _messages(snapshot: Snapshot, attempt: Attempt, agent: Agent, catalog: Catalog) -> list[ChatMessage]:
    run = snapshot.runs[attempt.run_id]
    messages = [ChatMessage("SYSTEM", _system(agent, attempt, catalog))]
    if attempt.subtask_id:
        messages += _briefing(snapshot, run, snapshot.subtasks[attempt.subtask_id])
    else:
        messages += _history(snapshot, run)
        messages.append(ChatMessage("USER", run.goal))
    for tried in _tries(snapshot, attempt):
        if tried.feedback:
            messages.append(ChatMessage("USER", tried.feedback))
        messages += _turns(snapshot.steps_of(tried))
    return messages


def _system(agent: Agent, attempt: Attempt, catalog: Catalog) -> str:
    if attempt.purpose not in _SCHEMAS:
        return agent.instructions
    team = "\n".join(f"- {name}: {catalog.agents[name].description}" for name in catalog.subtask_agents())
    return f"{agent.instructions}\n\nThe agents:\n{team}"


def _history(snapshot: Snapshot, run: Run) -> list[ChatMessage]:
    """What was said before this run: also answers given while its own message waited, not what waits behind it."""
    said = sorted(snapshot.messages.values(), key=lambda m: m.sequence)
    own = snapshot.messages.get(run.message_id)
    earlier = [
        m for m in said if m.run_id != run.id and (m.role == "AGENT" or own is None or m.sequence < own.sequence)
    ]
    return [ChatMessage("USER" if m.role == "USER" else "ASSISTANT", m.text) for m in earlier[-HISTORY_MESSAGES:]]


def _briefing(snapshot: Snapshot, run: Run, subtask: Subtask) -> list[ChatMessage]:
    plan = snapshot.plans[subtask.plan_id]
    done = [s for s in snapshot.subtasks.values() if s.key in subtask.depends_on and s.plan_id == plan.id]
    results = "".join(f"\n\n{_outcome(s)}" for s in done if s.result or s.state == SubtaskState.SKIPPED)
    return [
        ChatMessage("USER", f"The goal:\n{run.goal}\n\nThe plan: {plan.title}\n{plan.summary}{results}"),
        ChatMessage("USER", f"Subtask {subtask.key}: {subtask.title}\n\n{subtask.instructions}"),
    ]


def _outcome(subtask: Subtask) -> str:
    """What those who depend on it are told."""
    name = f"{subtask.key} ({subtask.title})"
    if subtask.state != SubtaskState.SKIPPED:
        return f"Result of {name}:\n{subtask.result}"
    why = f", who said: {subtask.skip_reason}" if subtask.skip_reason else ""
    return f"{name} was not done: it failed ({subtask.failure.message}) and was skipped by a person{why}"


def _turns(steps: list[Step]) -> list[ChatMessage]:
    calls = [s for s in steps if s.kind == "TOOL" and s.state != StepState.EDITED]  # another step took its place
    results = {(s.model_step_id, s.call_id): s for s in calls}
    turns: list[ChatMessage] = []
    for step in steps:
        if step.kind != "MODEL" or step.state != StepState.SUCCEEDED or step.reply is None:
            continue
        turns.append(ChatMessage("ASSISTANT", step.reply.text, tuple(step.reply.tool_calls)))
        for call in step.reply.tool_calls:
            turns.append(_tool_turn(call, results.get((step.id, call.call_id))))
        if step.feedback:
            turns.append(ChatMessage("USER", step.feedback))
    return turns


def _tool_turn(call: ToolCall, step: Step | None) -> ChatMessage:
    if step is None or step.result is None:
        return ChatMessage("TOOL", "This call was not carried out.", call_id=call.call_id, is_error=True)
    return ChatMessage("TOOL", step.result.content, call_id=call.call_id, is_error=step.result.is_error)
