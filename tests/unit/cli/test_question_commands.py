"""An agent's question at the real `assent` command: shown with what is wanted, answered in plain words."""

import json
from collections.abc import AsyncIterator

import pytest

from gen.assent.v1.approval_pb2 import (
    APPROVAL_KIND_QUESTION,
    DECISION_ACTION_ABORT,
    DECISION_ACTION_RESPOND,
    Preview,
)
from tests.unit.cli.demo_acts import asked
from tests.unit.cli.stand_in import StandIn, an_approval, serve
from tests.unit.cli.test_commands import Command

QUESTION = an_approval(
    7,
    APPROVAL_KIND_QUESTION,
    allowed_actions=[DECISION_ACTION_RESPOND, DECISION_ACTION_ABORT],
    tool="ask_user",
    arguments_json='{"question": "How many?", "options": ["one", "two"], "answer_schema": {"enum": ["one", "two"]}}',
    response_schema_json='{"enum": ["one", "two"]}',
    preview=Preview(title="How many?", text="How many?\n1. one\n2. two", agent="coder"),
)


@pytest.fixture
async def stand_in() -> StandIn:
    stand_in = StandIn([[]])
    await stand_in.play([asked(QUESTION)])
    return stand_in


@pytest.fixture
async def assent(stand_in: StandIn) -> AsyncIterator[Command]:
    server, address = await serve(stand_in)
    yield Command(address)
    await server.stop(None)


async def test_it_is_shown_with_its_options_and_the_answer_that_is_wanted(assent: Command) -> None:
    ended = await assent("approvals", QUESTION.id)
    assert ended.code == 0
    assert ended.output.startswith("QUESTION: How many?\n")
    for line in ("  1. one", "  2. two", '  the answer: 1 to 2, one of "one", "two"'):
        assert line in ended.output.splitlines()


@pytest.mark.parametrize("typed", ["2", "two", '"two"'])
async def test_plain_words_and_numbers_of_options_are_answers(assent: Command, stand_in: StandIn, typed: str) -> None:
    assert (await assent("decide", QUESTION.id, "respond", "--answer", typed)).code == 0
    (decision,) = stand_in.decisions
    assert (decision.action, decision.digest) == (DECISION_ACTION_RESPOND, QUESTION.digest)
    assert json.loads(decision.response_json) == "two"


async def test_what_cannot_be_an_answer_is_sent_nowhere(assent: Command, stand_in: StandIn) -> None:
    ended = await assent("decide", QUESTION.id, "respond", "--answer", "three")
    assert (ended.code, "one of" in ended.errors) == (2, True)
    assert stand_in.decisions == []
