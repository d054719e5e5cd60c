"""A question can be answered at any time, from anywhere, with nobody connected; until then it costs rows only."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from gen.assent.v1 import approval_pb2
from tests.integration.orchestrator.client import Client, state, subtask, words
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import PassTime, Replica, Replicas, Tables, all_let_go, driving
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

WEEK = 7 * 24 * 3600.0
CALL = '{"to": "bob"}'


async def asked_for_a_plan(client: Client, executor: ScriptedExecutor) -> approval_pb2.Approval:
    executor.play = answers
    session = await client.new_session()
    await client.send(session.id, "Build it", agent="auto")
    return await client.asked(session.id)


async def asked_for_a_call(client: Client, executor: ScriptedExecutor) -> approval_pb2.Approval:
    executor.play = calls("send_mail", CALL)
    session = await client.new_session()
    await client.send(session.id)
    return await client.asked(session.id)


ASKED = {"PLAN": asked_for_a_plan, "TOOL_CALL": asked_for_a_call}


async def goes_on(client: Client, executor: ScriptedExecutor, approval: approval_pb2.Approval) -> None:
    """The decision is taken, and the run comes to its end with everything done once."""
    await client.decide(approval, "APPROVE")
    if words(approval)["kind"] == "TOOL_CALL":
        (await executor.next(tool="send_mail")).returns("sent")
    log = await client.settled(approval.session_id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(log.of("approval_requested")) == len(log.of("approval_resolved")) == 1
    assert len(executor.starts_of(tool="send_mail")) == (words(approval)["kind"] == "TOOL_CALL")


@pytest.mark.parametrize("kind", ASKED)
async def test_decided_a_week_later_with_no_client_connected_by_another_replica(
    kind: str, replicas: Replicas, executor: ScriptedExecutor, pass_time: PassTime
) -> None:
    asking = await replicas.start()
    await executor.joined()
    approval = await ASKED[kind](asking.client, executor)
    await all_let_go()
    await asking.stop()

    await pass_time(WEEK)
    other = await replicas.start()
    await executor.joined(2)
    await goes_on(other.client, executor, approval)
    (decided,) = [e for e in await other.client.events(approval.session_id) if e.HasField("approval_resolved")]
    assert decided.event_time.ToSeconds() - approval.create_time.ToSeconds() >= WEEK


@pytest.mark.parametrize("ends", [Replica.stop, Replica.crash], ids=["stopped", "crashed"])
@pytest.mark.parametrize("kind", ASKED)
async def test_decided_after_three_restarts(
    kind: str, ends: Callable[[Replica], Awaitable[None]], replicas: Replicas, executor: ScriptedExecutor
) -> None:
    replica = await replicas.start()
    await executor.joined()
    approval = await ASKED[kind](replica.client, executor)
    for times in (2, 3, 4):
        await all_let_go()
        await ends(replica)
        replica = await replicas.start()
        await executor.joined(times)
        assert await replica.client.pending(approval.session_id) == [approval]
    await goes_on(replica.client, executor, approval)


async def test_what_waits_costs_rows_only(client: Client, executor: ScriptedExecutor, tables: Tables) -> None:
    """No task, no owner, no transaction, no slot, and nothing in memory that is in proportion to what waits."""
    executor.play, executor.slots = calls("send_mail", CALL), 1
    approvals = [await asked_for_a_call(client, executor) for _ in range(30)]
    await all_let_go()
    assert not driving()
    assert await tables.open_transactions() == 0
    assert await tables.count("session WHERE owner <> '' OR runnable OR due_time <> 0") == 0
    assert await tables.count("session WHERE state = 'EXECUTION'") == len(approvals)
    gc.collect()
    waiting = [step for act in executor.acts if (step := act.outcome) is None]
    assert waiting == []
    rows = await tables.counts()
    assert (rows["approval"], rows["counter"]) == (len(approvals), 0)

    await client.decide(approvals[0], "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")
    await client.settled(approvals[0].session_id)
    assert await tables.count("approval WHERE state = 'PENDING'") == len(approvals) - 1


async def test_an_answer_that_comes_before_anybody_waits_for_it_is_not_missed(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    """Given in the moment the question is on record, at another replica, while its own is busy with the session."""
    one, other = (await replicas.start()).client, (await replicas.start()).client
    await executor.joined(2)
    for _ in range(10):
        session = await one.new_session()
        await one.send(session.id)
        (await executor.next(purpose="ANSWER")).says("Two.", ("look", "{}"), ("send_mail", CALL))
        async with other.watch(session.id) as watch:
            asked = (await watch.until("approval_requested"))["approval"]
        await other.decide(asked, "APPROVE")
        (await executor.next(tool="send_mail")).returns("sent")
        (await executor.next(tool="look")).returns("seen")
        (await executor.next(purpose="ANSWER")).says("done")
        log = await one.settled(session.id)
        assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


# Two failures beside a question


def instructions(act: Act) -> str:
    text = "\n".join(message.text for message in act.start.model.messages)
    return next(f"Do {key}." for key in ("last", "left", "right", "third") if f"Do {key}." in text)


async def two_failures(client: Client, executor: ScriptedExecutor) -> dict[str, approval_pb2.Approval]:
    """Three subtasks side by side: two have failed, the third waits with a call. Their questions, by key."""

    def play(act: Act) -> None:
        if act.tool:
            act.returns("sent")
        elif instructions(act) == "Do third." and act.start.model.turn == 0:
            act.says("Mailing.", ("send_mail", CALL))
        elif instructions(act) in ("Do left.", "Do right.") and len(failed) < 2:
            failed.append(act.step_id)
            act.fails("it cannot be done", retryable=False)
        else:
            act.says("done")

    failed: list[str] = []
    session = await client.new_session()
    await client.new_plan(
        session.id,
        [subtask("left"), subtask("right"), subtask("third"), subtask("last", "left", "right", "third")],
        parallel_limit=3,
    )
    executor.play = play
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.settled(session.id)
    keys = {s.id: s.key for s in (await client.get_plan((await client.pending(session.id))[0].plan_id)).subtasks}
    return {keys[a.subtask_id]: a for a in await client.pending(session.id)}


Outcome = tuple[dict[str, tuple[str, str, int]], list[str], list[str], str]


async def outcome(client: Client, executor: ScriptedExecutor, asked: dict[str, approval_pb2.Approval]) -> Outcome:
    """What came of it: each subtask's state, result and attempts, the calls that were made, what the last one read of
    the others, and how the run ended."""
    session_id, plan_id = asked["left"].session_id, asked["left"].plan_id
    log = await client.settled(session_id)
    plan = await client.get_plan(plan_id)
    (ended,) = log.of("run_finished")
    (last,) = [a for a in executor.acts[-1:] if instructions(a) == "Do last."]
    read = sorted(line for m in last.start.model.messages for line in m.text.splitlines() if "skip" in line.lower())
    mailed = [act.start.tool.arguments_json for act in executor.starts_of(tool="send_mail")]
    return {s.key: (state(s), s.result, s.attempts) for s in plan.subtasks}, mailed, read, ended["state"]


async def test_two_failures_and_a_call_decided_at_once_from_two_replicas_end_as_one_by_one(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    """RETRY the one, SKIP the other, approve a sibling's call in between."""
    one, other = (await replicas.start()).client, (await replicas.start()).client
    await executor.joined(2)
    outcomes = []
    for at_once in (False, True):
        executor.acts.clear()
        asked = await two_failures(one, executor)
        kinds = {key: words(approval)["kind"] for key, approval in asked.items()}
        assert kinds == {"left": "FAILURE", "right": "FAILURE", "third": "TOOL_CALL"}
        decisions = (
            one.decide(asked["left"], "RETRY", feedback="try again"),
            other.decide(asked["third"], "APPROVE"),
            other.decide(asked["right"], "SKIP", feedback="nobody needs it"),
        )
        if at_once:
            await asyncio.gather(*decisions)
        else:
            for decision in decisions:
                await decision
                await one.settled(asked["left"].session_id)
        outcomes.append(await outcome(one, executor, asked))
        log = await one.events(asked["left"].session_id)
        assert log.session_states[-3:] == ["ERROR_HANDLING", "PLAN_EXECUTION", "COMPLETED"]
    one_by_one, together = outcomes
    assert together == one_by_one
    states, mailed, read, ended = together
    assert {key: said[0] for key, said in states.items()} == {
        "left": "SUCCEEDED",
        "right": "SKIPPED",
        "third": "SUCCEEDED",
        "last": "SUCCEEDED",
    }
    assert (mailed, ended) == ([CALL], "COMPLETED")
    assert any("nobody needs it" in line for line in read)
