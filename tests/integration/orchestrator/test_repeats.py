"""A request id makes a repeat safe: the first answer again, and no second effect."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor


def new_request() -> str:
    return str(uuid.uuid4())


Ask = Callable[[Client, str, str], Awaitable[Any]]
COMMANDS: dict[str, tuple[Ask, Ask]] = {  # a command, and another under the same request id
    "create session": (
        lambda c, _, r: c.new_session(title="one", request_id=r),
        lambda c, _, r: c.new_session(title="other", request_id=r),
    ),
    "send message": (
        lambda c, s, r: c.send(s, "one", request_id=r),
        lambda c, s, r: c.send(s, "other", request_id=r),
    ),
    "create plan": (
        lambda c, s, r: c.new_plan(s, title="one", request_id=r),
        lambda c, s, r: c.new_plan(s, title="other", request_id=r),
    ),
    "another method": (
        lambda c, s, r: c.new_plan(s, request_id=r),
        lambda c, s, r: c.send(s, request_id=r),
    ),
}


@pytest.fixture
async def session_id(client: Client) -> str:
    return (await client.new_session()).id


@pytest.mark.parametrize("ask", [asks[0] for asks in COMMANDS.values()][:3], ids=list(COMMANDS)[:3])
async def test_a_repeat_gets_the_same_answer_and_has_no_second_effect(
    client: Client, tables: Tables, session_id: str, ask: Ask
) -> None:
    request_id = new_request()
    first = await ask(client, session_id, request_id)
    sequence = (await client.events(session_id)).sequences
    before = await tables.counts()
    assert await ask(client, session_id, request_id) == first
    after = await tables.counts()
    # The engine may go on meanwhile; what only commands write must not have grown.
    for table in ("session", "message", "run", "plan", "request"):
        assert after[table] == before[table]
    assert (await client.events(session_id)).sequences[: len(sequence)] == sequence


@pytest.mark.parametrize(("ask", "other"), COMMANDS.values(), ids=COMMANDS)
async def test_a_request_id_used_again_with_other_content_is_refused(
    client: Client, tables: Tables, session_id: str, ask: Ask, other: Ask
) -> None:
    request_id = new_request()
    await ask(client, session_id, request_id)
    before = await tables.counts()
    problem = await client.refusal(other(client, session_id, request_id))
    assert problem.reason == "REQUEST_ID_REUSED"
    assert [violation.field for violation in problem.fields] == ["request_id"]
    assert (await tables.counts())["request"] == before["request"]


@pytest.mark.parametrize("ask", [asks[0] for asks in COMMANDS.values()][:3], ids=list(COMMANDS)[:3])
async def test_duplicates_at_the_same_moment_have_one_effect(
    replicas: Replicas, tables: Tables, executor: ScriptedExecutor, ask: Ask
) -> None:
    one, other = await replicas.start(), await replicas.start()
    session_id = (await one.client.new_session()).id
    for _ in range(5):
        before = await tables.counts()
        request_id = new_request()
        asked = [ask(replica.client, session_id, request_id) for replica in (one, other) for _ in range(4)]
        first, *rest = await asyncio.gather(*asked)
        assert all(answer == first for answer in rest)
        after = await tables.counts()
        assert after["request"] == before["request"] + 1
        assert sum(after[t] - before[t] for t in ("session", "run")) == 1


async def test_a_request_id_belongs_to_its_caller(client: Client, session_id: str) -> None:
    request_id = new_request()
    mine = await client.send(session_id, "mine", request_id=request_id)
    theirs = await client.acting_as("alice").send(session_id, "theirs", request_id=request_id)
    assert mine.message.id != theirs.message.id


async def test_a_refused_request_is_judged_again(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session(settings={"when_busy": 1})
    await client.send(session.id, "one")
    request_id = new_request()
    assert (await client.refusal(client.send(session.id, "two", request_id=request_id))).reason == "SESSION_BUSY"
    (await executor.next()).says("answered")
    await client.settled(session.id)
    assert state((await client.send(session.id, "two", request_id=request_id)).run) == "RUNNING"


async def test_a_repeated_decision_gets_the_same_answer_after_its_run_has_ended(
    client: Client, executor: ScriptedExecutor, tables: Tables, session_id: str
) -> None:
    executor.play = answers
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    request_id = new_request()
    decided = await client.decide(approval, "APPROVE", request_id=request_id)
    await client.settled(session_id)
    before = await tables.counts()
    assert await client.decide(approval, "APPROVE", request_id=request_id) == decided
    assert await tables.counts() == before
    problem = await client.refusal(client.decide(approval, "REJECT", request_id=request_id))
    assert problem.reason == "REQUEST_ID_REUSED"


async def test_a_repeated_decision_while_the_call_it_allowed_runs_does_not_start_it_again(
    client: Client, executor: ScriptedExecutor, session_id: str
) -> None:
    executor.play = calls("send_mail")
    await client.send(session_id)
    approval = await client.asked(session_id)
    request_id = new_request()
    first = await client.decide(approval, "APPROVE", request_id=request_id)
    act = await executor.next(tool="send_mail")
    asked = [client.decide(approval, "APPROVE", request_id=request_id) for _ in range(4)]
    assert all(answer == first for answer in await asyncio.gather(*asked))
    assert await client.decide(approval, "APPROVE") is not None  # the same person, without an id
    act.returns("sent")
    await client.settled(session_id)
    assert len(executor.starts_of(tool="send_mail")) == 1


async def test_a_repeated_cancel_gets_the_same_answer(client: Client, tables: Tables, session_id: str) -> None:
    plan = await client.new_plan(session_id)
    request_id = new_request()
    cancelled = await client.cancel(plan.run_id, request_id=request_id)
    before = await tables.counts()
    assert await client.cancel(plan.run_id, request_id=request_id) == cancelled
    assert await tables.counts() == before


async def test_a_repeated_converse_follows_from_where_it_began(
    client: Client, executor: ScriptedExecutor, tables: Tables, session_id: str
) -> None:
    executor.play = answers
    await client.send(session_id, "before")
    await client.settled(session_id)
    request_id = new_request()
    said = {"user_message": {"text": "Hello", "agent": "ask"}, "request_id": request_id}
    first = await client.converse(session_id, **said)
    await client.send(session_id, "after")
    await client.settled(session_id)
    before = await tables.counts()

    again = await client.converse(session_id, **said)
    assert again.durable[: len(first.durable)] == first.durable
    assert again.sequences[0] == first.sequences[0]
    assert await tables.counts() == before


async def test_a_repeated_decision_over_converse_follows_from_where_it_began(
    client: Client, executor: ScriptedExecutor, tables: Tables, session_id: str
) -> None:
    executor.play = answers
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    decision = {"approval_id": approval.id, "action": 1, "digest": approval.digest}
    asked = {"plan_decision": decision, "request_id": new_request()}
    first = await client.converse(session_id, **asked)
    assert first.names[0] == "approval_resolved"
    before = await tables.counts()
    assert (await client.converse(session_id, **asked)).durable == first.durable
    assert await tables.counts() == before
