"""Judging a session's calls by its policy: when they are proposed, and once more when they are about to begin.

The rules themselves are in `policy`. Between a yes and the first dispatch a day may lie, and another catalog.
"""

from typing import Any

from orchestrator.domain.arguments import parse_object
from orchestrator.domain.asking import ask_about_call
from orchestrator.domain.catalog import Agent, Catalog, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import offered_tools, unfit
from orchestrator.domain.frozen import replace
from orchestrator.domain.grants import use_grant
from orchestrator.domain.policy import Call, Verdict, judge
from orchestrator.domain.records import Failure, Step, ToolResult
from orchestrator.domain.transitions import finish_step, move_step


def judge_step(change: Change, step: Step, arguments: dict[str, Any], agent: Agent, tool: Tool | None) -> Verdict:
    """What becomes of the call now; `arguments` are the step's, parsed."""
    change.judged.add(step.id)
    call = Call(step.tool, arguments, agent, tool, step.arguments_json, change.session.labels)
    return judge(change.policy, call)


def ask_unless_granted(change: Change, step: Step, verdict: Verdict) -> Step:
    """A grant answers in a person's stead, where the rule offers that for this call."""
    granted = _granted(change, step, verdict)
    if granted is None:
        return ask_about_call(change, step, verdict)
    return move_step(change, without_approval(granted), "allowed")


def without_approval(step: Step) -> Step:
    """The call as nobody has answered for it: it goes by what allows it now, and by no edit that was not enough."""
    return replace(step, approval_id="", approval_preimage="")


def _granted(change: Change, step: Step, verdict: Verdict) -> Step | None:
    step = replace(step, policy_rule=verdict.rule)
    return use_grant(change, step, change.policy) if verdict.may_remember else None


def judge_again(change: Change, step: Step, catalog: Catalog) -> bool:
    """Before it begins: what is denied now ends, whoever approved it; what nobody has approved and asks now, asks.

    A person's yes stays good where the policy has changed, but not where the tool has: they saw another one. A grant's
    lasts as long as the grant. True when the step is not to begin as it is.
    """
    if step.id in change.judged:
        return False
    agent = catalog.agents.get(step.agent)
    if agent is None or step.not_before_time > change.now:
        return False
    offered = offered_tools(change.session, catalog).get(step.tool)
    arguments = parse_object(step.arguments_json)
    verdict = judge_step(change, step, arguments, agent, offered or _as_it_was(step))
    if verdict.effect == "DENY":
        words = f"Not allowed any more: {verdict.reason or verdict.rule}."
        _end(change, step, verdict.rule, "TOOL_DENIED", words)
        return True
    if step.dispatch_number:
        return False  # it has begun: what comes now is the same use of the same yes
    if offered is not None and (offered.schema_digest, offered.side_effect) != (step.schema_digest, step.side_effect):
        _meet_another_tool(change, step, offered, arguments, verdict)
        return True
    if verdict.effect != "ASK" or step.approval_id:
        return False
    granted = _granted(change, step, verdict)
    if granted is None:
        ask_about_call(change, replace(step, grant_id=""), verdict)
    elif granted != step:
        change.put(granted)
    return granted != step


def _meet_another_tool(change: Change, step: Step, offered: Tool, arguments: dict[str, Any], verdict: Verdict) -> None:
    """A person is asked, who may not have seen this one; unless the call does not even fit it."""
    if problems := unfit(change.session, offered, arguments):
        words = f"{step.tool} is another tool now, and the arguments do not do: {'; '.join(problems)}"
        _end(change, step, "arguments", "TOOL_ARGUMENTS_INVALID", words)
        return
    step = replace(step, schema_digest=offered.schema_digest, side_effect=offered.side_effect, grant_id="")
    words = f"{step.tool} is another tool than the one that was allowed: its schema, or what it does, has changed"
    # No rule of the policy's asks: a grant would answer nothing.
    ask_about_call(change, step, replace(verdict, rule="schema-changed", reason=words, may_remember=False))


def _as_it_was(step: Step) -> Tool:
    """Nobody offers it at the moment, as after a restart: the call waits for somebody who does."""
    return Tool(step.tool, "", "", step.schema_digest, step.side_effect)


def _end(change: Change, step: Step, rule: str, reason: str, words: str) -> None:
    if step.dispatch_number:
        words += " It was sent before, and may have taken effect."
    failure = Failure(reason, words, "FATAL")
    result = ToolResult(words, is_error=True)
    finish_step(change, replace(step, policy_rule=rule, result=result, failure=failure), "rejected")
