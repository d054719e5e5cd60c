"""The tool calls of one reply: proposed, judged, started, each to its one result."""

from itertools import count
from typing import Any

from orchestrator.domain import questions
from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.budgets import hold_back
from orchestrator.domain.catalog import Tool
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import hand_to_client, is_clients, offered_tools, unfit
from orchestrator.domain.frozen import replace
from orchestrator.domain.judging import ask_unless_granted, judge_again, judge_step, without_approval
from orchestrator.domain.policy import Verdict
from orchestrator.domain.records import Attempt, Failure, ModelReply, Step, ToolResult
from orchestrator.domain.starting import World, start
from orchestrator.domain.states import StepState
from orchestrator.domain.terms import covers
from orchestrator.domain.transitions import finish_step, move_step


def new_step(change: Change, attempt: Attempt, kind: str, state: StepState, ordinal: int) -> Step:
    return Step(
        attempt.tenant,
        change.new_id(),
        attempt.session_id,
        attempt.run_id,
        attempt.id,
        attempt.subtask_id,
        kind,
        state,
        attempt.agent,
        ordinal,
        create_time=change.now,
    )


def propose(change: Change, attempt: Attempt, model: Step, ordinal: int, world: World) -> None:
    """One PROPOSED step a call of the reply, in its order, from `ordinal` on."""
    assert model.reply is not None
    tools = offered_tools(change.session, world.catalog)
    for offset, call in enumerate(model.reply.tool_calls):
        tool = tools.get(call.tool)
        step = new_step(change, attempt, "TOOL", StepState.PROPOSED, ordinal + offset)
        change.put(
            replace(
                step,
                tool=call.tool,
                call_id=call.call_id,
                model_step_id=model.id,
                arguments_json=call.arguments_json,
                side_effect=tool.side_effect if tool else "NON_IDEMPOTENT",
                schema_digest=tool.schema_digest if tool else "",
            )
        )


def advance_call(change: Change, call: Step, world: World) -> bool:
    """True when something was done."""
    if call.state == StepState.PROPOSED:
        _judge(change, call, world)
    elif call.state == StepState.APPROVED:
        if judge_again(change, call, world.catalog):
            return True
        if not is_clients(change.session, world.catalog, call.tool):
            return start(change, call, world)
        if hold_back(change, call.run_id):
            return False
        hand_to_client(change, call, world.catalog)
    else:
        return False
    return True


def _judge(change: Change, step: Step, world: World) -> None:
    agent = world.catalog.agents.get(step.agent)
    if agent is None:
        words = f"Not allowed: there is no agent {step.agent!r} now."
        _refuse(change, step, "agent-gone", Failure("AGENT_NOT_FOUND", words, "HUMAN_REQUIRED"))
        return
    try:
        arguments = parse_object(step.arguments_json)
    except BadJson as error:
        words = f"The arguments do not do: the text {error}."
        _refuse(change, step, "arguments", Failure("TOOL_ARGUMENTS_INVALID", words, "FATAL"))
        return
    tool = offered_tools(change.session, world.catalog).get(step.tool)
    verdict = judge_step(change, step, arguments, agent, tool)
    if verdict.effect == "DENY" or tool is None:
        reason = "TOOL_DENIED" if tool else "TOOL_UNKNOWN"
        _refuse(change, step, verdict.rule, Failure(reason, f"Not allowed: {verdict.reason}.", "FATAL"))
    elif problems := _problems(change, tool, arguments):
        words = "The arguments do not do:\n" + "\n".join(f"- {problem}" for problem in problems)
        _refuse(change, step, "arguments", Failure("TOOL_ARGUMENTS_INVALID", words, "FATAL"))
    elif tool is questions.ASK_USER:
        questions.ask(change, step, arguments, verdict.rule)
    elif verdict.effect == "ASK" and not _is_answered(change, step, verdict):
        ask_unless_granted(change, step, verdict)
    else:
        allowed = step if _is_answered(change, step, verdict) else without_approval(step)
        move_step(change, replace(allowed, policy_rule=verdict.rule), "allowed")


def _is_answered(change: Change, step: Step, verdict: Verdict) -> bool:
    """With their edit a person has said yes to it; where several must, or others, they are asked about it."""
    edited = change.snapshot.approvals.get(step.approval_id) if step.replaces_step_id else None
    if edited is None or edited.terms.quorum > 1:
        return False
    return verdict.effect != "ASK" or verdict.rule == edited.policy_rule or covers(edited.terms, verdict.terms)


def _problems(change: Change, tool: Tool, arguments: dict[str, Any]) -> list[str]:
    """Nobody is asked about a call that its tool would refuse."""
    problems = unfit(change.session, tool, arguments)
    return problems or (questions.faults_of(arguments) if tool is questions.ASK_USER else [])


def _refuse(change: Change, step: Step, rule: str, failure: Failure) -> None:
    """The model reads why, and goes on."""
    result = ToolResult(failure.message, is_error=True)
    finish_step(change, replace(step, policy_rule=rule, result=result, failure=failure), "rejected")


def tidy_reply(reply: ModelReply) -> ModelReply:
    """Call ids made unique within the reply: providers repeat and omit them."""
    taken = {call.call_id for call in reply.tool_calls}
    if "" not in taken and len(taken) == len(reply.tool_calls):
        return reply
    seen: set[str] = set()
    calls = []
    for call in reply.tool_calls:
        call_id = call.call_id
        if not call_id or call_id in seen:
            call_id = next(name for n in count(2) if (name := f"{call_id or 'call'}-{n}") not in taken)
        taken.add(call_id)
        seen.add(call_id)
        calls.append(replace(call, call_id=call_id))
    return replace(reply, tool_calls=calls)
