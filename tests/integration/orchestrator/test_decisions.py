"""Exactly one decision wins; it is about exact bytes, and those bytes are what runs."""

import asyncio
import hashlib

import pytest

from gen.assent.v1 import approval_pb2
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state, words
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

ROUNDS = 50
EXACT = '{"id": 1234567890123456789}'


async def outcome(client: Client, approval: approval_pb2.Approval, action: str) -> str | Problem:
    try:
        return str(words((await client.decide(approval, action)).decision)["action"])
    except Problem as problem:
        return problem


async def race(first: Client, second: Client) -> None:
    """One round: one plan, two people who disagree."""
    session = await first.new_session()
    await first.new_plan(session.id)
    (approval,) = await first.pending(session.id)
    alice, bob = first.acting_as("alice"), second.acting_as("bob")
    outcomes = dict(
        zip(
            ("alice", "bob"),
            await asyncio.gather(outcome(alice, approval, "APPROVE"), outcome(bob, approval, "REJECT")),
            strict=True,
        )
    )
    (winner,) = [who for who, came in outcomes.items() if isinstance(came, str)]
    (refused,) = [came for came in outcomes.values() if isinstance(came, Problem)]
    assert refused.reason == "APPROVAL_ALREADY_RESOLVED"
    assert (refused.metadata["decider"], refused.metadata["action"]) == (winner, outcomes[winner])
    log = await first.events(session.id)
    assert [(e["decider"], e["action"]) for e in log.of("approval_resolved")] == [(winner, outcomes[winner])]
    plan = await first.get_plan(approval.plan_id)
    assert (state(plan) == "REJECTED") == (winner == "bob")


async def test_of_two_decisions_at_once_one_wins_and_the_other_learns_who_won(client: Client, tables: Tables) -> None:
    for _ in range(ROUNDS):
        await race(client, client)
    assert (await tables.counts())["audit"] == ROUNDS


async def test_of_two_decisions_at_two_replicas_one_wins_and_the_other_learns_who_won(replicas: Replicas) -> None:
    one, other = await replicas.start(), await replicas.start()
    for _ in range(10):
        await race(one.client, other.client)


async def test_arguments_are_approved_and_executed_as_exactly_the_bytes_the_model_wrote(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail", EXACT)
    session = await client.new_session()
    await client.send(session.id)
    approval = await client.asked(session.id)
    assert approval.arguments_json == EXACT
    assert approval.preview.text == EXACT

    await client.decide(approval, "APPROVE")
    act = await executor.next(tool="send_mail")
    assert act.start.tool.arguments_json == EXACT
    preimage = act.start.tool.approval_preimage
    assert hashlib.sha256(preimage.encode()).hexdigest() == approval.digest
    assert f"arguments_sha256: {hashlib.sha256(EXACT.encode()).hexdigest()}" in preimage.splitlines()
    assert f"step: {act.step_id}" in preimage.splitlines()
    log = await client.events(session.id)
    assert [e["arguments_json"] for e in log.of("step_started", kind="TOOL")] == [EXACT]


@pytest.mark.parametrize(
    "arguments",
    ['{"a":1,"a":2}', '{"a": NaN}', '{"a": "\\ud800"}', '{"a": "\\u0000"}', '{"a": 1', "[1]"],
    ids=["duplicate key", "NaN", "lone surrogate", "NUL", "cut", "no object"],
)
async def test_arguments_that_could_be_read_in_two_ways_are_refused_before_anybody_is_asked(
    client: Client, executor: ScriptedExecutor, arguments: str
) -> None:
    executor.play = calls("send_mail", arguments)
    session = await client.new_session()
    await client.send(session.id)
    log = await client.settled(session.id)
    assert not log.of("approval_requested")
    assert not executor.starts_of(tool="send_mail")
    (refused,) = log.of("step_finished", tool="send_mail")
    assert (refused["state"], refused["failure"].reason) == ("REJECTED", "TOOL_ARGUMENTS_INVALID")
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_two_calls_with_the_same_arguments_have_digests_of_their_own(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    (await executor.next()).says("Two.", ("send_mail", EXACT), ("send_mail", EXACT))
    await client.settled(session.id)
    one, other = await client.pending(session.id)
    assert one.digest != other.digest
    problem = await client.refusal(client.decide(one, "APPROVE", digest=other.digest))
    assert problem.reason == "DIGEST_MISMATCH"

    await client.decide(other, "APPROVE")
    assert (await executor.next(tool="send_mail")).step_id == other.step_id


async def test_an_approved_call_leaves_as_soon_as_it_is_approved_though_another_still_waits(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    (await executor.next()).says("Two.", ("send_mail", '{"n": 1}'), ("send_mail", '{"n": 2}'))
    await client.settled(session.id)
    one, other = await client.pending(session.id)
    await client.decide(one, "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")
    await client.settled(session.id)
    assert [a.id for a in await client.pending(session.id)] == [other.id]
    assert len(executor.starts_of(tool="send_mail")) == 1
