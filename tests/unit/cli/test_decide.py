"""Asking a person at a terminal for an answer: what an answer needs besides its name is asked for too."""

import pytest

from cli.decide import Answer, ask_person, choices_for
from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_BUDGET,
    DECISION_ACTION_ABORT,
    DECISION_ACTION_APPROVE,
    DECISION_ACTION_REJECT,
    Approval,
    Preview,
)
from gen.assent.v1.grant_pb2 import Remember

LIMIT = Approval(
    kind=APPROVAL_KIND_BUDGET,
    allowed_actions=[DECISION_ACTION_APPROVE, DECISION_ACTION_REJECT, DECISION_ACTION_ABORT],
    preview=Preview(title="The limit is reached: work_duration, 60 s of 60 s"),
)


@pytest.mark.parametrize("nonsense", [[], ["soon", "", "-1", "nan", "inf", "1e99"]])
async def test_who_allows_more_time_is_asked_how_much_until_it_is_a_number(nonsense: list[str]) -> None:
    typed = ["a", *nonsense, "90"]
    prompts: list[str] = []

    async def ask(prompt: str) -> str:
        prompts.append(prompt)
        return typed.pop(0)

    answer = await ask_person(LIMIT, ask, lambda lines: None)
    assert answer == Answer(DECISION_ACTION_APPROVE, work_seconds=90)
    assert prompts[1:] == ["How long may it work in all, in seconds? "] * (1 + len(nonsense))


async def test_who_may_remember_is_asked_for_which_calls_and_how_long() -> None:
    call = Approval(allowed_actions=[DECISION_ACTION_APPROVE], preview=Preview(title="Write a"), may_remember=True)
    typed = ["m", "arguments.path == 'a'", "soon", "2h"]
    prompts: list[str] = []

    async def ask(prompt: str) -> str:
        prompts.append(prompt)
        return typed.pop(0)

    answer = await ask_person(call, ask, lambda lines: None)
    wish = Remember(constraint="arguments.path == 'a'")
    wish.lifetime.FromSeconds(7200)
    assert answer == Answer(DECISION_ACTION_APPROVE, remember=wish)
    assert "[m] approve and remember" in prompts[0]
    call.may_remember = False
    assert "remember" not in " ".join(choice.words for choice in choices_for(call))


@pytest.mark.parametrize(
    ("limit", "answer", "question"),
    [
        ("calls", Answer(DECISION_ACTION_APPROVE, calls=50), "How many calls may it make in all? "),
        ("total_tokens", Answer(DECISION_ACTION_APPROVE, tokens=50), "How many tokens may it use in all? "),
    ],
)
async def test_who_allows_more_is_asked_about_the_limit_that_is_reached(
    limit: str, answer: Answer, question: str
) -> None:
    asked = Approval(preimage=f"kind: budget\nlimit: {limit}\nmaximum: 9")
    asked.MergeFrom(LIMIT)
    typed = ["a", "0", "50"]
    prompts: list[str] = []

    async def ask(prompt: str) -> str:
        prompts.append(prompt)
        return typed.pop(0)

    assert await ask_person(asked, ask, lambda lines: None) == answer
    assert prompts[1:] == [question] * 2
