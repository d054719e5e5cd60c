"""Deciding an approval: the answers a person may give, asking for one, and what `--yes` answers by itself."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cli.answering import NoAnswer, as_json, hint_of
from cli.client import Client, new_request_id
from cli.grants import remember
from cli.preview import preview, title
from cli.screen import Show
from cli.story import Line
from cli.trouble import Trouble
from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_ARTIFACT,
    APPROVAL_KIND_BUDGET,
    APPROVAL_KIND_PLAN,
    APPROVAL_KIND_QUESTION,
    APPROVAL_KIND_TOOL_CALL,
    DECISION_ACTION_ABORT,
    DECISION_ACTION_APPROVE,
    DECISION_ACTION_REJECT,
    DECISION_ACTION_REPLAN,
    DECISION_ACTION_REQUEST_CHANGES,
    DECISION_ACTION_RESPOND,
    DECISION_ACTION_RETRY,
    DECISION_ACTION_SKIP,
    DECISION_ACTION_UNSPECIFIED,
    Approval,
    DecisionAction,
)
from gen.assent.v1.approval_service_pb2 import DecideApprovalRequest
from gen.assent.v1.budget_pb2 import Budget
from gen.assent.v1.grant_pb2 import Remember

MOST_SECONDS = 1e9  # thirty years

Ask = Callable[[str], Awaitable[str]]
"""Asks a person for a line; EOFError when there is nobody."""


@dataclass(frozen=True)
class Choice:
    """One answer a person may give: its key, what it means, and what more it needs."""

    key: str
    words: str
    action: DecisionAction.ValueType
    wants: str = ""


REMEMBER = Choice("m", "approve and remember", DECISION_ACTION_APPROVE)
CHOICES = (
    Choice("a", "approve", DECISION_ACTION_APPROVE),
    REMEMBER,
    Choice("c", "ask for changes", DECISION_ACTION_REQUEST_CHANGES, "What should change? "),
    Choice("s", "answer", DECISION_ACTION_RESPOND, "Your answer: "),
    Choice("t", "try again", DECISION_ACTION_RETRY, "What should it heed? (Enter: nothing more) "),
    Choice("p", "have it planned anew", DECISION_ACTION_REPLAN, "What should it heed? (Enter: nothing more) "),
    Choice("k", "skip it", DECISION_ACTION_SKIP, "Why? Those who depend on it read it: "),
    Choice("r", "reject", DECISION_ACTION_REJECT, "Why? The agent reads it: "),
    Choice("x", "abort the run", DECISION_ACTION_ABORT, "Why? "),
)


@dataclass(frozen=True)
class Answer:
    """What was decided and said."""

    action: DecisionAction.ValueType
    feedback: str = ""
    response_json: str = ""
    edited_arguments_json: str = ""
    edited_artifact: bytes = b""
    # approving a limit: how much the run may use in all
    work_seconds: float = 0
    calls: int = 0
    tokens: int = 0
    remember: Remember | None = None  # approving a call
    edits_plan: bool = False  # no answer yet: the next version of the draft is written first, and asked about


ACTIONS: dict[str, DecisionAction.ValueType] = {
    name.removeprefix("DECISION_ACTION_"): value for name, value in DecisionAction.items() if value
}


def choices_for(approval: Approval) -> list[Choice]:
    """The answers this approval takes and a terminal can give."""
    choices = [choice for choice in CHOICES if choice.action in approval.allowed_actions]
    return choices if approval.may_remember else [choice for choice in choices if choice is not REMEMBER]


async def ask_person(approval: Approval, ask: Ask, show: Show) -> Answer:
    """Show what is asked about and ask until there is an answer; `v` shows all of it."""
    choices = choices_for(approval)
    show(preview(approval))
    edits_plan = approval.kind == APPROVAL_KIND_PLAN
    offers = ", ".join(f"[{choice.key}] {choice.words}" for choice in choices)
    offers += ", [e] edit it" if edits_plan else ""
    while True:
        typed = (await ask(f"{title(approval)}: {offers}, [v] view all > ")).strip().lower()
        if typed == "v":
            show(preview(approval, limit=0))
        if edits_plan and typed in ("e", "edit it"):
            return Answer(DECISION_ACTION_UNSPECIFIED, edits_plan=True)
        for choice in choices:
            if typed in (choice.key, choice.words):
                if (approval.kind, choice.action) == (APPROVAL_KIND_BUDGET, DECISION_ACTION_APPROVE):
                    return await _ask_limit(approval, choice.action, ask)
                if (approval.kind, choice.action) == (APPROVAL_KIND_QUESTION, DECISION_ACTION_RESPOND):
                    return await ask_for_answer(approval, ask, show)
                if choice is REMEMBER:
                    return Answer(choice.action, remember=await _ask_remember(ask))
                said = (await ask(choice.wants)).strip() if choice.wants else ""
                while choice.action == DECISION_ACTION_REQUEST_CHANGES and not said:
                    said = (await ask(choice.wants)).strip()
                if choice.action == DECISION_ACTION_RESPOND:
                    return Answer(choice.action, response_json=json.dumps(said, ensure_ascii=False))
                return Answer(choice.action, said)


async def ask_for_answer(approval: Approval, ask: Ask, show: Show) -> Answer:
    """An answer to an agent's question, until it can be one."""
    while True:
        typed = (await ask(f"Your answer ({hint_of(approval)}): ")).strip()
        if not typed:
            continue
        try:
            return Answer(DECISION_ACTION_RESPOND, response_json=as_json(typed, approval))
        except NoAnswer as fault:
            show([Line(f"  not an answer: {fault}", "bad")])


async def _ask_limit(approval: Approval, action: DecisionAction.ValueType, ask: Ask) -> Answer:
    """How much more, of the limit that the approval names."""
    lines = approval.preimage.splitlines()
    if "limit: calls" in lines:
        return Answer(action, calls=int(await _ask_number(ask, "How many calls may it make in all? ", 1)))
    if "limit: total_tokens" in lines:
        return Answer(action, tokens=int(await _ask_number(ask, "How many tokens may it use in all? ", 1)))
    return Answer(action, work_seconds=await _ask_number(ask, "How long may it work in all, in seconds? "))


async def _ask_remember(ask: Ask) -> Remember:
    """For which calls, and how long, until it is a length of time."""
    only = (
        await ask('For which arguments (such as arguments.path.startsWith("docs/"))? Empty: exactly these: ')
    ).strip()
    while True:
        try:
            return remember(only, (await ask("For how long (30m, 8h, 7d)? Empty: 1h: ")).strip())
        except Trouble:
            continue


async def _ask_number(ask: Ask, prompt: str, least: float = 0) -> float:
    while True:
        typed = await ask(prompt)
        try:
            if least <= (number := float(typed)) < MOST_SECONDS and number:
                return number
        except ValueError:
            continue


def answer_of_a_script(approval: Approval) -> Answer | None:
    """What `--yes` answers: it approves; a failure, a doubt, a limit or a question it leaves to a person."""
    kinds = (APPROVAL_KIND_PLAN, APPROVAL_KIND_TOOL_CALL, APPROVAL_KIND_ARTIFACT)
    if approval.kind in kinds and DECISION_ACTION_APPROVE in approval.allowed_actions:
        return Answer(DECISION_ACTION_APPROVE)
    return None


async def decide(client: Client, approval: Approval, answer: Answer) -> Approval:
    """Give the answer, for exactly the digest that was shown."""
    request = DecideApprovalRequest(
        approval_id=approval.id,
        action=answer.action,
        digest=approval.digest,
        request_id=new_request_id(),
        feedback=answer.feedback,
        response_json=answer.response_json,
        edited_arguments_json=answer.edited_arguments_json,
        edited_artifact=answer.edited_artifact,
    )
    if answer.calls or answer.tokens:
        request.new_limit.MergeFrom(Budget(calls=answer.calls, total_tokens=answer.tokens))
    if answer.remember is not None:
        request.remember.CopyFrom(answer.remember)
    if answer.work_seconds:
        request.new_limit.work_duration.FromMicroseconds(round(answer.work_seconds * 1e6))
    response = await client.call(client.approvals.DecideApproval, request)
    return response.approval
