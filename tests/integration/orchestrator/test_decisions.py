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


# Editing and answering for a call


async def asked_about(client: Client, executor: ScriptedExecutor) -> approval_pb2.Approval:
    executor.play = calls("send_mail", EXACT)
    session = await client.new_session()
    await client.send(session.id)
    return await client.asked(session.id)


async def test_an_edited_call_is_executed_as_exactly_the_bytes_the_person_wrote(
    client: Client, executor: ScriptedExecutor
) -> None:
    approval = await asked_about(client, executor)
    edited = '{"id":  98765432109876543210}'
    decided = await client.decide(approval, "EDIT", edited_arguments_json=edited)
    act = await executor.next(tool="send_mail")
    assert act.step_id != approval.step_id
    assert act.start.tool.arguments_json == edited
    preimage = act.start.tool.approval_preimage
    assert hashlib.sha256(preimage.encode()).hexdigest() == decided.decision.edited_digest
    assert {f"step: {act.step_id}", f"arguments_sha256: {hashlib.sha256(edited.encode()).hexdigest()}"} <= set(
        preimage.splitlines()
    )
    act.returns("sent")
    log = await client.settled(approval.session_id)
    assert [e["edited_arguments_json"] for e in log.of("approval_resolved", action="EDIT")] == [edited]
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    old, new = [s for s in await client.steps(approval.run_id) if s.tool]
    assert (state(old), state(new), new.replaces_step_id) == ("EDITED", "SUCCEEDED", old.id)
    (turn,) = [a for a in executor.acts if a.purpose == "ANSWER" and a.start.model.turn == 1]
    assert [m.text for m in turn.start.model.messages if m.call_id] == ["sent"]


async def test_a_response_stands_in_for_a_call_that_never_runs(client: Client, executor: ScriptedExecutor) -> None:
    approval = await asked_about(client, executor)
    await client.decide(approval, "RESPOND", response_json='{"sent": 0}')
    log = await client.settled(approval.session_id)
    assert not executor.starts_of(tool="send_mail")
    assert [e["response_json"] for e in log.of("approval_resolved", action="RESPOND")] == ['{"sent": 0}']
    (turn,) = [a for a in executor.acts if a.purpose == "ANSWER" and a.start.model.turn == 1]
    assert [m.text for m in turn.start.model.messages if m.call_id] == ['{"sent": 0}']


async def test_a_refused_edit_leaves_the_question_as_it_was(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    approval = await asked_about(client, executor)
    before = await tables.counts()
    for said, reason, field in (
        ({}, "INVALID_REQUEST", "edited_arguments_json"),
        ({"edited_arguments_json": '{"a":1,"a":2}'}, "INVALID_JSON", "edited_arguments_json"),
        ({"edited_arguments_json": "[1]"}, "INVALID_JSON", "edited_arguments_json"),
        ({"edited_arguments_json": '{"a": "' + "x" * 300_000 + '"}'}, "INVALID_JSON", "edited_arguments_json"),
        ({"edited_arguments_json": "{}", "response_json": "1"}, "INVALID_REQUEST", "response_json"),
    ):
        problem = await client.refusal(client.decide(approval, "EDIT", **said))
        assert (problem.reason, [f.field for f in problem.fields]) == (reason, [field])
    problem = await client.refusal(client.decide(approval, "APPROVE", edited_arguments_json="{}"))
    assert problem.reason == "INVALID_REQUEST"
    after = await tables.counts()
    assert after.pop("audit") == before.pop("audit") + 6
    assert after == before
    assert await client.pending(approval.session_id) == [approval]


async def test_of_two_different_edits_at_once_one_runs(client: Client, executor: ScriptedExecutor) -> None:
    for _ in range(5):
        approval = await asked_about(client, executor)
        texts = {"alice": '{"n": 1}', "bob": '{"n": 2}'}
        came = await asyncio.gather(
            *(client.acting_as(who).decide(approval, "EDIT", edited_arguments_json=t) for who, t in texts.items()),
            return_exceptions=True,
        )
        (won,) = [c for c in came if isinstance(c, approval_pb2.Approval)]
        act = await executor.next(tool="send_mail")
        assert act.start.tool.arguments_json == texts[won.decision.decider]
        act.returns()
        await client.settled(approval.session_id)
        assert len([s for s in await client.steps(approval.run_id) if s.tool]) == 2


async def test_the_same_person_repeating_an_edit_is_answered_and_another_edit_is_late(
    client: Client, executor: ScriptedExecutor
) -> None:
    approval = await asked_about(client, executor)
    first = await client.decide(approval, "EDIT", edited_arguments_json='{"n": 1}')
    again = await client.decide(approval, "EDIT", edited_arguments_json='{"n": 1}')
    assert again.decision == first.decision
    problem = await client.refusal(client.decide(approval, "EDIT", edited_arguments_json='{"n":1}'))
    assert problem.reason == "APPROVAL_ALREADY_RESOLVED"
    (await executor.next(tool="send_mail")).returns()
    await client.settled(approval.session_id)
    assert len(executor.starts_of(tool="send_mail")) == 1
