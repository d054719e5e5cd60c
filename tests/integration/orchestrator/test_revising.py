"""Drafts are revised, and sent back to the architect; of everybody who acts on one version at once, one wins."""

import asyncio
from typing import Any

from gen.assent.v1 import approval_pb2, plan_pb2
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state, subtask, words
from tests.integration.orchestrator.plays import PLAN, ROUTE_TO_ARCHITECT, answers
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

ROUNDS = 15
QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}


def drafts(act: Act) -> None:
    """The architect heeds what was said; nothing else is answered."""
    if act.purpose == "ROUTING":
        act.says_json(ROUTE_TO_ARCHITECT)
    elif act.purpose == "PLANNING":
        act.says_json({**PLAN, "summary": act.last_text})


async def test_a_revised_draft_runs_as_it_was_revised(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = answers
    session = await client.new_session()
    first = await client.new_plan(session.id)
    revised = await client.revise(first, [subtask("only", agent="debug")], digest=first.digest)
    assert (revised.version, state(revised), [s.key for s in revised.subtasks]) == (2, "DRAFT", ["only"])
    assert state(await client.get_plan(first.id)) == "SUPERSEDED"
    approval = await client.asked(session.id)
    assert (approval.plan_id, approval.digest) == (revised.id, revised.digest)

    await client.decide(approval, "APPROVE")
    log = await client.settled(session.id)
    assert [(e["agent"], e["kind"]) for e in log.of("step_started")] == [("debug", "MODEL")]
    assert state(await client.get_plan(revised.id)) == "COMPLETED"


async def test_a_repeated_revision_is_the_same_version(client: Client) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    request_id = "0196f3c8-7d2e-7a51-9c1b-2f6f3a1d0e42"
    came = [await client.revise(plan, [subtask("z")], request_id=request_id) for _ in range(2)]
    assert came[0] == came[1]
    assert len((await client.events(session.id)).of("plan_drafted")) == 2


async def test_what_cannot_be_revised_says_why(client: Client, executor: ScriptedExecutor, tables: Tables) -> None:
    executor.play = answers
    session = await client.new_session()
    first = await client.new_plan(session.id)
    second = await client.revise(first, [subtask("only")])
    before = await tables.counts()

    async def refused(plan: plan_pb2.Plan, **more: Any) -> Problem:
        return await client.refusal(client.revise(plan, more.pop("subtasks", [subtask("x")]), **more))

    stale = await refused(second, digest=first.digest)
    assert (stale.reason, stale.code.name) == ("STALE_VERSION", "ABORTED")
    assert (stale.metadata["plan"], stale.metadata["digest"]) == (second.id, second.digest)
    assert (await refused(first)).reason == "WRONG_STATE"
    cycle = await refused(second, subtasks=[subtask("a", "b"), subtask("b", "a")])
    assert (cycle.reason, [field for field, _ in cycle.fields]) == ("INVALID_PLAN", ["subtasks"])
    gates = await refused(second, subtasks=[subtask("x", agent="architect")])
    assert [field for field, _ in gates.fields] == ["subtasks[0].agent"]
    stranger = client.acting_as("eve", tenant="elsewhere")
    foreign = await stranger.refusal(stranger.revise(second, [subtask("x")]))
    assert foreign.reason == "PLAN_NOT_FOUND"
    assert await tables.counts() == before

    await client.decide(await client.asked(session.id), "APPROVE")
    await client.settled(session.id)
    assert (await refused(second)).metadata["state"] == "COMPLETED"


async def test_the_draft_of_a_queued_run_is_asked_about_as_it_was_revised(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id, "Think")
    queued = await client.new_plan(session.id)
    revised = await client.revise(queued, [subtask("only")])
    assert not await client.pending(session.id)

    (await executor.next()).says("done")
    approval = await client.asked(session.id)
    assert (approval.plan_id, approval.plan_version) == (revised.id, 2)


async def test_an_architect_drafts_anew_with_what_a_person_asked_for_at_another_replica(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    one, other = await replicas.start(), await replicas.start()
    executor.play = drafts
    session = await one.client.new_session()
    await one.client.send(session.id, "Build it", agent="auto")
    first = await one.client.asked(session.id)
    await other.client.acting_as("alice").decide(first, "REQUEST_CHANGES", feedback="write tests first")

    second = await one.client.asked(session.id)
    assert (second.plan_version, second.digest != first.digest) == (2, True)
    assert "write tests first" in (await one.client.get_plan(second.plan_id)).summary
    log = await one.client.events(session.id)
    assert log.session_states[-2:] == ["ARCHITECT_PLANNING", "PLAN_REVIEW"]
    (resolved,) = log.of("approval_resolved")
    assert (resolved["decider"], resolved["feedback"]) == ("alice", "write tests first")

    await one.client.decide(second, "APPROVE")
    assert (await executor.next(agent="coder")).purpose == "SUBTASK"
    assert len((await one.client.events(session.id)).of("plan_drafted")) == 2


async def test_a_plan_decision_of_a_conversation_sends_it_back_and_follows_to_the_next_draft(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = drafts
    session = await client.new_session()
    await client.send(session.id, "Build it", agent="auto")
    asked = await client.asked(session.id)
    said = {"approval_id": asked.id, "digest": asked.digest, "feedback": "write tests first"}
    action = approval_pb2.DECISION_ACTION_REQUEST_CHANGES
    log = await client.converse(session.id, plan_decision={**said, "action": action})
    assert [e["plan"].version for e in log.of("plan_drafted")] == [2]
    assert log.session_states == ["ARCHITECT_PLANNING", "PLAN_REVIEW"]
    assert log.names[-1] == "settled"


async def test_changes_that_were_asked_for_are_made_after_every_replica_died(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first = await replicas.start(**QUICK)
    executor.play = lambda act: None if "tests first" in act.last_text else drafts(act)
    session = await first.client.new_session()
    await first.client.send(session.id, "Build it", agent="auto")
    approval = await first.client.asked(session.id)
    await first.client.decide(approval, "REQUEST_CHANGES", feedback="tests first")
    held = await executor.next(purpose="PLANNING")
    await first.crash()

    second = await replicas.start(**QUICK)
    await executor.heard("reattach", held.step_id)
    drafts(held)
    asked = await second.client.asked(session.id)
    assert (asked.plan_version, "tests first" in (await second.client.get_plan(asked.plan_id)).summary) == (2, True)
    assert len((await second.client.events(session.id)).of("plan_drafted")) == 2


async def test_of_who_approves_and_who_revises_at_two_replicas_one_wins_and_the_other_learns_who(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    one, other = await replicas.start(), await replicas.start()
    wins = {"alice": 0, "bob": 0}
    for _ in range(ROUNDS):
        session = await one.client.new_session()
        plan = await one.client.new_plan(session.id)
        (approval,) = await one.client.pending(session.id)
        alice, bob = one.client.acting_as("alice"), other.client.acting_as("bob")
        came = await asyncio.gather(
            alice.decide(approval, "APPROVE"),
            bob.revise(plan, [subtask("bobs")], digest=plan.digest),
            return_exceptions=True,
        )
        (refused,) = [each for each in came if isinstance(each, Problem)]
        winner = "bob" if came[0] is refused else "alice"
        wins[winner] += 1
        resolved = (await one.client.events(session.id)).of("approval_resolved")
        assert len(resolved) == 1
        if winner == "bob":
            assert refused.reason == "APPROVAL_ALREADY_RESOLVED"
            assert (refused.metadata["state"], refused.metadata["decider"]) == ("SUPERSEDED", "bob")
            (asked,) = await one.client.pending(session.id)
            assert (asked.plan_version, asked.digest != approval.digest) == (2, True)
            old = await one.client.get_approval(approval.id)
            assert (old.resolver, old.resolve_reason) == ("bob", "revised by bob")
        else:
            assert refused.reason == "WRONG_STATE"
            assert state(await one.client.get_plan(plan.id)) != "DRAFT"
            assert not await one.client.pending(session.id)
    assert sum(wins.values()) == ROUNDS


async def test_of_many_revisions_of_one_version_one_is_made(replicas: Replicas) -> None:
    one, other = await replicas.start(), await replicas.start()
    session = await one.client.new_session()
    plan = await one.client.new_plan(session.id)
    came = await asyncio.gather(
        *(
            (one, other)[number % 2].client.revise(plan, [subtask(f"by-{number}")], digest=plan.digest)
            for number in range(8)
        ),
        return_exceptions=True,
    )
    (made,) = [each for each in came if isinstance(each, plan_pb2.Plan)]
    refused = [each for each in came if isinstance(each, Problem)]
    assert {(each.reason, each.metadata["plan"]) for each in refused} == {("STALE_VERSION", made.id)}
    pending = await one.client.pending(session.id)
    assert [words(each)["plan_id"] for each in pending] == [made.id]
    assert isinstance(pending[0], approval_pb2.Approval)
