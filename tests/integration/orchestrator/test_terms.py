"""Who may decide, how many must and how long it waits, on two replicas of one database."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gen.assent.v1 import approval_pb2
from orchestrator import bootstrap, clock
from orchestrator.domain.catalog import SECOND
from orchestrator.domain.records import ApprovalTerms
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, Log, state, words
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import PassTime, Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

HOUR = 3600.0
ROUNDS = 15
CALL = '{"n": 1}'

Terms = Callable[[ApprovalTerms], None]


@pytest.fixture
def terms(on_terms: Callable[..., None]) -> Terms:
    """Has every replica that is started from here on ask about everything on these terms."""

    def on(chosen: ApprovalTerms) -> None:
        on_terms(**dict.fromkeys(("PLAN", "TOOL_CALL", "IN_DOUBT", "BUDGET", "FAILURE"), chosen))

    return on


async def two(replicas: Replicas, executor: ScriptedExecutor) -> tuple[Client, Client]:
    one, other = (await replicas.start()).client, (await replicas.start()).client
    await executor.joined(2)
    return one, other


async def asked(client: Client, executor: ScriptedExecutor) -> approval_pb2.Approval:
    """Whether Anna's agent may send a mail."""
    executor.play = calls("send_mail", CALL)
    session = await client.new_session()
    await client.acting_as("anna").send(session.id)
    return await client.asked(session.id)


async def asked_about_a_plan(client: Client) -> approval_pb2.Approval:
    session = await client.new_session()
    await client.acting_as("anna").new_plan(session.id)
    return await client.asked(session.id)


def resolved(log: Log, approval: approval_pb2.Approval) -> list[tuple[str, str]]:
    found = log.of("approval_resolved", approval_id=approval.id)
    return [(e["state"], e.get("decider", "")) for e in found]


# Who


async def test_who_may_not_decide_is_refused_with_the_reason_and_leaves_one_row(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables, terms: Terms
) -> None:
    terms(ApprovalTerms(["lead"], requester_excluded=True))
    one, other = await two(replicas, executor)
    approval = await asked(one, executor)
    await all_let_go()
    before = await tables.counts()

    stranger, herself = other.acting_as("mallory", roles="developer"), other.acting_as("anna", roles="lead")
    for action in ("APPROVE", "REJECT", "ABORT"):
        problem = await one.refusal(stranger.decide(approval, action))
        assert (problem.code.name, problem.reason) == ("PERMISSION_DENIED", "DECIDER_NOT_ALLOWED")
        assert (problem.disposition, problem.metadata["roles"]) == ("HUMAN_REQUIRED", "lead")
        problem = await one.refusal(herself.decide(approval, action))
        assert (problem.code.name, problem.reason) == ("FAILED_PRECONDITION", "SELF_APPROVAL")
        assert (problem.disposition, problem.metadata["requester"]) == ("HUMAN_REQUIRED", "anna")
    said = {"approval_id": approval.id, "action": approval_pb2.DECISION_ACTION_APPROVE, "digest": approval.digest}
    problem = await one.refusal(stranger.converse(approval.session_id, tool_decision=said))
    assert problem.reason == "DECIDER_NOT_ALLOWED"

    after = await tables.counts()
    assert after.pop("audit") == before.pop("audit") + 7
    assert after == before
    assert await tables.count("audit WHERE reason = 'SelfApproval' AND subject = 'anna'") == 3
    assert not executor.starts_of(tool="send_mail")

    await other.acting_as("boris", roles="owner,lead").decide(approval, "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")
    assert resolved(await one.settled(approval.session_id), approval) == [("RESOLVED", "boris")]


async def test_the_terms_are_told_with_the_question(
    replicas: Replicas, executor: ScriptedExecutor, terms: Terms
) -> None:
    terms(ApprovalTerms(["lead"], 2, True, 3600 * SECOND, "ESCALATE", ["director"], 600 * SECOND))
    one, other = await two(replicas, executor)
    approval = await asked(one, executor)
    assert approval == await other.get_approval(approval.id)
    told = approval.terms
    assert (list(told.roles), told.quorum, told.requester_excluded) == (["lead"], 2, True)
    assert (told.wait.ToSeconds(), list(told.escalation_roles), told.remind_every.ToSeconds()) == (
        3600,
        ["director"],
        600,
    )
    assert words(told)["on_expiry"] == "ESCALATE"
    assert approval.expire_time.ToMicroseconds() == approval.create_time.ToMicroseconds() + 3600 * SECOND
    assert approval.remind_time.ToMicroseconds() == approval.create_time.ToMicroseconds() + 600 * SECOND
    assert approval.requester == "anna"


# How many


async def test_of_votes_at_once_at_two_replicas_each_counts_once_and_the_last_decides(
    replicas: Replicas, executor: ScriptedExecutor, terms: Terms
) -> None:
    terms(ApprovalTerms(quorum=3))
    one, other = await two(replicas, executor)
    for _ in range(ROUNDS):
        approval = await asked_about_a_plan(one)
        voters = [("boris", one), ("boris", other), ("clara", other), ("dora", one), ("dora", other)]
        answers_ = await asyncio.gather(*(at.acting_as(who).decide(approval, "APPROVE") for who, at in voters))
        assert {words(answer)["state"] for answer in answers_} <= {"PENDING", "RESOLVED"}
        decided = await one.get_approval(approval.id)
        assert (state(decided), len(decided.votes)) == ("RESOLVED", 3)
        assert {vote.voter for vote in decided.votes} == {"boris", "clara", "dora"}
        assert decided.decision.decider == decided.votes[-1].voter
        log = await one.events(approval.session_id)
        assert [e["votes"] for e in log.of("vote_recorded")] == [1, 2, 3]
        assert resolved(log, approval) == [("RESOLVED", decided.decision.decider)]
        await one.cancel(approval.run_id)


async def test_one_no_among_many_a_yes_decides_alone_or_comes_too_late(
    replicas: Replicas, executor: ScriptedExecutor, terms: Terms
) -> None:
    terms(ApprovalTerms(quorum=2))
    executor.play = answers
    one, other = await two(replicas, executor)

    async def told(call: Any) -> object:
        try:
            return await call
        except Problem as problem:
            return problem

    for _ in range(ROUNDS):
        approval = await asked_about_a_plan(one)
        said = {"boris": "APPROVE", "clara": "APPROVE", "dora": "REJECT"}
        came = await asyncio.gather(
            *(
                told(at.acting_as(w).decide(approval, a))
                for (w, a), at in zip(said.items(), (one, other, other), strict=True)
            )
        )
        ((_, winner),) = resolved(await one.settled(approval.session_id), approval)
        decided = await one.get_approval(approval.id)
        votes = [vote.voter for vote in decided.votes]
        assert len(votes) == 2 if winner != "dora" else len(votes) < 2
        for who, answer in zip(said, came, strict=True):
            if isinstance(answer, Problem):
                assert (answer.reason, answer.metadata["decider"]) == ("APPROVAL_ALREADY_RESOLVED", winner)
            else:
                assert who == winner or who in votes
        plan = await one.get_plan(approval.plan_id)
        assert (state(plan) == "REJECTED") == (winner == "dora")


async def test_a_vote_is_answered_again_and_survives_a_restart(
    replicas: Replicas, executor: ScriptedExecutor, terms: Terms
) -> None:
    terms(ApprovalTerms(quorum=2))
    replica = await replicas.start()
    await executor.joined()
    approval = await asked(replica.client, executor)
    boris = replica.client.acting_as("boris")
    voted = await boris.decide(approval, "APPROVE")
    assert (state(voted), [vote.voter for vote in voted.votes]) == ("PENDING", ["boris"])
    assert await boris.decide(approval, "APPROVE") == voted
    await all_let_go()
    await replica.stop()

    replica = await replicas.start()
    await executor.joined(2)
    assert await replica.client.acting_as("boris").decide(approval, "APPROVE") == voted
    assert not executor.starts_of(tool="send_mail")
    await replica.client.acting_as("clara").decide(approval, "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")
    log = await replica.client.settled(approval.session_id)
    assert [e["voter"] for e in log.of("vote_recorded")] == ["boris", "clara"]
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_an_edit_where_two_must_say_yes_is_asked_about_anew(
    replicas: Replicas, executor: ScriptedExecutor, terms: Terms
) -> None:
    terms(ApprovalTerms(quorum=2))
    one, other = await two(replicas, executor)
    approval = await asked(one, executor)
    await one.acting_as("boris").decide(approval, "APPROVE")
    await other.acting_as("clara").decide(approval, "EDIT", edited_arguments_json='{"n": 2}')
    await one.settled(approval.session_id)
    (again,) = await one.pending(approval.session_id)
    assert (again.earlier_approval_id, again.arguments_json, list(again.votes)) == (approval.id, '{"n": 2}', [])
    await one.acting_as("boris").decide(again, "APPROVE")
    assert not executor.starts_of(tool="send_mail")
    await other.acting_as("clara").decide(again, "APPROVE")
    act = await executor.next(tool="send_mail")
    assert act.start.tool.arguments_json == '{"n": 2}'
    act.returns("sent")
    await one.settled(approval.session_id)


# How long


@pytest.mark.parametrize("kind", ["TOOL_CALL", "PLAN"])
async def test_what_nobody_answers_in_time_is_refused_with_nobody_there(
    kind: str, replicas: Replicas, executor: ScriptedExecutor, pass_time: PassTime, tables: Tables, terms: Terms
) -> None:
    terms(ApprovalTerms(wait=3600 * SECOND, on_expiry="DENY", remind_every=2000 * SECOND))
    first = await replicas.start()
    await executor.joined()
    approval = await asked(first.client, executor) if kind == "TOOL_CALL" else await asked_about_a_plan(first.client)
    await all_let_go()
    assert await tables.count("session WHERE owner = '' AND NOT runnable AND due_time <> 0") == 1
    await first.stop()

    await pass_time(HOUR)
    second = await replicas.start()
    await executor.joined(2)
    async with second.client.watch(approval.session_id) as watch:
        await watch.until("approval_resolved", state="EXPIRED", approval_id=approval.id)
        await watch.until("run_finished", state="COMPLETED" if kind == "TOOL_CALL" else "CANCELLED")
    assert not executor.starts_of(tool="send_mail")
    expired = await second.client.get_approval(approval.id)
    assert (state(expired), expired.HasField("decision")) == ("EXPIRED", False)
    problem = await second.client.refusal(second.client.decide(approval, "APPROVE"))
    assert (problem.reason, problem.metadata["state"]) == ("APPROVAL_ALREADY_RESOLVED", "EXPIRED")
    assert await tables.count("session WHERE due_time <> 0") == 0


async def test_an_answer_after_its_time_is_too_late_though_no_engine_has_looked(
    replicas: Replicas,
    executor: ScriptedExecutor,
    monkeypatch: pytest.MonkeyPatch,
    tables: Tables,
    terms: Terms,
) -> None:
    terms(ApprovalTerms(wait=3600 * SECOND, on_expiry="DENY"))
    ahead = 0
    monkeypatch.setattr(bootstrap, "now_micros", lambda: clock.now_micros() + ahead)
    one, other = await two(replicas, executor)
    approval = await asked(one, executor)
    await all_let_go()
    ahead = 3600 * SECOND  # for commands only: engines go by the database's clock when they look for what is due
    before = await tables.counts()
    for client in (one, other):
        problem = await client.refusal(client.acting_as("boris").decide(approval, "APPROVE"))
        assert (problem.reason, problem.metadata["state"]) == ("APPROVAL_ALREADY_RESOLVED", "EXPIRED")
        assert (problem.metadata["decider"], problem.metadata["action"]) == ("engine", "")
    after = await tables.counts()
    assert after.pop("audit") == before.pop("audit") + 2
    assert after == before
    assert state(await one.get_approval(approval.id)) == "PENDING"


async def test_a_halted_run_waits_paused_and_does_what_is_answered_when_it_goes_on(
    replicas: Replicas, executor: ScriptedExecutor, pass_time: PassTime, terms: Terms
) -> None:
    terms(ApprovalTerms(wait=3600 * SECOND, on_expiry="HALT"))
    first = await replicas.start()
    await executor.joined()
    approval = await asked(first.client, executor)
    await all_let_go()
    await first.stop()

    await pass_time(HOUR)
    client = (await replicas.start()).client
    await executor.joined(2)
    async with client.watch(approval.session_id) as watch:
        await watch.until("run_state_changed", to_state="PAUSED", actor="engine")
    (again,) = await client.pending(approval.session_id)
    assert (again.earlier_approval_id, again.digest, again.HasField("expire_time")) == (
        approval.id,
        approval.digest,
        False,
    )
    await client.decide(again, "APPROVE")
    assert state(await client.get_run(approval.run_id)) == "PAUSED"
    assert not executor.starts_of(tool="send_mail")
    await client.resume(approval.run_id)
    (await executor.next(tool="send_mail")).returns("sent")
    log = await client.settled(approval.session_id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_an_escalation_asks_others_and_reminds_them(
    replicas: Replicas, executor: ScriptedExecutor, pass_time: PassTime, terms: Terms
) -> None:
    terms(ApprovalTerms(["lead"], 1, False, 3600 * SECOND, "ESCALATE", ["director"], 1000 * SECOND))
    first = await replicas.start()
    await executor.joined()
    approval = await asked(first.client, executor)
    await all_let_go()
    await first.stop()

    await pass_time(1500)
    second = await replicas.start()
    await executor.joined(2)
    async with second.client.watch(approval.session_id) as watch:
        reminded = await watch.until("approval_reminder", approval_id=approval.id)
    assert reminded["number"] == 1
    assert (await second.client.get_approval(approval.id)).reminders == 1
    await all_let_go()
    await second.stop()

    await pass_time(HOUR)
    client = (await replicas.start()).client
    await executor.joined(3)
    again = await after(client, approval)
    assert list(again.terms.roles) == ["director"]
    problem = await client.refusal(client.acting_as("boris", roles="lead").decide(again, "APPROVE"))
    assert problem.reason == "DECIDER_NOT_ALLOWED"
    await client.acting_as("dora", roles="director").decide(again, "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")
    log = await client.settled(approval.session_id)
    assert resolved(log, approval) == [("EXPIRED", "")]
    assert resolved(log, again) == [("RESOLVED", "dora")]


async def after(client: Client, approval: approval_pb2.Approval) -> approval_pb2.Approval:
    """What takes the expired approval's place."""
    async with client.watch(approval.session_id) as watch:
        await watch.until("approval_resolved", approval_id=approval.id)
        again: approval_pb2.Approval = (await watch.until("approval_requested"))["approval"]
        return again


async def test_of_an_answer_and_the_end_of_its_time_exactly_one_counts(
    replicas: Replicas, executor: ScriptedExecutor, terms: Terms
) -> None:
    """Asked for a moment only, and answered at about its end, at the other replica than the one that minds the time."""
    terms(ApprovalTerms(wait=SECOND // 5, on_expiry="DENY"))
    executor.play = answers
    one, other = await two(replicas, executor)
    outcomes = set()
    for number in range(ROUNDS):
        session = await one.new_session()
        await one.acting_as("anna").new_plan(session.id)
        approval = await one.first_asked(session.id)
        end = approval.expire_time.ToMicroseconds()
        await asyncio.sleep((end - 40_000 + 6_000 * number - clock.now_micros()) / 1e6)  # at about its end
        try:
            decided: Any = await other.acting_as("boris").decide(approval, "APPROVE")
        except Problem as problem:
            decided = problem
        async with one.watch(approval.session_id) as watch:
            await watch.until("approval_resolved", approval_id=approval.id)
        log = await one.events(approval.session_id)
        ((came_to, decider),) = resolved(log, approval)
        outcomes.add(came_to)
        if isinstance(decided, Problem):
            assert (decided.reason, decided.metadata["state"]) == ("APPROVAL_ALREADY_RESOLVED", "EXPIRED")
            assert (came_to, decider) == ("EXPIRED", "")
        else:
            assert (came_to, decider) == ("RESOLVED", "boris")
        plan = await one.get_plan(approval.plan_id)
        assert (state(plan) == "REJECTED") == (came_to == "EXPIRED")
    assert outcomes <= {"RESOLVED", "EXPIRED"}
