"""The working time that a run may use: asked about when it is used up, raised or refused, and not used by waiting."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from gen.assent.v1 import approval_pb2, session_pb2
from gen.assent.v1.budget_pb2 import Budget
from tests.integration.orchestrator.client import Client, state, subtask, words
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

SECOND = 1_000_000


def seconds(number: float) -> Budget:
    duration = Duration()
    duration.FromMicroseconds(round(number * SECOND))
    return Budget(work_duration=duration)


async def limited(client: Client, limit: Budget) -> session_pb2.Session:
    return await client.new_session(settings=session_pb2.SessionSettings(budget=limit))


async def used_up(client: Client, executor: ScriptedExecutor) -> tuple[str, Act, approval_pb2.Approval]:
    """A session whose run has used up its time with a step in flight, and the question about it."""
    session = await limited(client, seconds(0.3))
    await client.send(session.id)
    act = await executor.next()
    async with client.watch(session.id) as watch:
        reached = await watch.until("budget_reached")
    assert (reached["limit_name"], reached["limit"]) == ("work_duration", 300_000)
    assert reached["used"] >= 300_000
    (approval,) = await client.pending(session.id)
    assert (words(approval)["kind"], approval.id) == ("BUDGET", reached["approval_id"])
    return session.id, act, approval


async def test_a_run_that_has_used_up_its_time_asks_with_a_step_in_flight_and_goes_on_with_more(
    client: Client, executor: ScriptedExecutor
) -> None:
    session_id, act, approval = await used_up(client, executor)
    act.says("I look.", ("look", "{}"))
    await client.settled(session_id)
    assert executor.starts_of(tool="look") == []
    decided = await client.decide(approval, "APPROVE", new_limit=seconds(3600))
    assert decided.decision.new_limit == seconds(3600)
    (await executor.next(tool="look")).returns("nothing")
    (await executor.next()).says("done")
    log = await client.settled(session_id)
    (finished,) = log.of("run_finished")
    run = await client.get_run(finished["run_id"])
    assert (state(run), run.budget) == ("COMPLETED", seconds(3600))
    assert run.work_duration.ToMicroseconds() >= 300_000
    assert not run.HasField("work_start_time")


@pytest.mark.parametrize(("action", "end"), [("REJECT", "FAILED"), ("ABORT", "CANCELLED")])
async def test_a_run_that_gets_no_more_time_ends(
    client: Client, executor: ScriptedExecutor, action: str, end: str
) -> None:
    session_id, act, approval = await used_up(client, executor)
    await client.decide(approval, action, feedback="enough")
    log = await client.settled(session_id)
    (finished,) = log.of("run_finished")
    assert (finished["state"], log.session_states[-1]) == (end, "IDLE")
    run = await client.get_run(finished["run_id"])
    assert run.failure.reason == ("BUDGET_REACHED" if action == "REJECT" else "")
    await executor.heard("cancel", act.step_id)
    await executor.heard("recorded", act.step_id)


async def test_waiting_for_a_person_uses_up_no_time(client: Client, executor: ScriptedExecutor, tables: Tables) -> None:
    executor.play = calls("send_mail")
    session = await limited(client, seconds(3600))
    assert session.budget == seconds(3600)
    sent = await client.send(session.id)
    approval = await client.asked(session.id)
    await all_let_go()
    row = await tables.session(session.id)
    assert (row["due_time"], row["runnable"]) == (0, False)
    waiting = await client.get_run(sent.run.id)
    assert not waiting.HasField("work_start_time")
    await client.decide(approval, "APPROVE")
    await executor.next(tool="send_mail")
    working = await client.get_run(sent.run.id)
    end = working.work_start_time.ToMicroseconds() + 3600 * SECOND - working.work_duration.ToMicroseconds()
    assert (await tables.session(session.id))["due_time"] == end


@pytest.mark.parametrize(
    ("limit", "field"),
    [
        ({}, "new_limit.work_duration"),
        ({"new_limit": Budget()}, "new_limit.work_duration"),
        ({"new_limit": seconds(0.3)}, "new_limit.work_duration"),
        ({"new_limit": Budget(calls=5)}, "new_limit.work_duration"),
    ],
    ids=["none", "empty", "the same", "another"],
)
async def test_a_yes_without_more_time_is_refused_and_the_question_stays(
    client: Client, executor: ScriptedExecutor, limit: dict[str, Any], field: str
) -> None:
    session_id, _, approval = await used_up(client, executor)
    problem = await client.refusal(client.decide(approval, "APPROVE", **limit))
    assert (problem.reason, [v.field for v in problem.fields]) == ("INVALID_REQUEST", [field])
    assert [a.id for a in await client.pending(session_id)] == [approval.id]


async def test_a_new_limit_goes_with_no_other_decision(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    await client.send(session.id)
    approval = await client.asked(session.id)
    problem = await client.refusal(client.decide(approval, "APPROVE", new_limit=seconds(1)))
    assert [v.field for v in problem.fields] == ["new_limit"]


async def test_limits_that_this_version_does_not_keep_are_refused_by_name(client: Client) -> None:
    problem = await client.refusal(limited(client, Budget(cost_usd_micros=1, total_tokens=1, calls=1)))
    assert [v.field for v in problem.fields] == ["settings.budget.cost_usd_micros"]


async def test_a_plan_brings_limits_of_its_own_and_each_asks_when_it_is_reached(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await limited(client, Budget(total_tokens=20))
    plan = await client.new_plan(session.id, [subtask("a")], budget=Budget(calls=2))
    approval = await client.asked(session.id)
    assert "The run's limits: calls 2, total_tokens 20." in approval.preview.text
    await client.decide(approval, "APPROVE")
    (await executor.next()).says("", ("look", "{}"))
    (await executor.next(tool="look")).returns("nothing")
    asked = await client.asked(session.id)
    assert asked.preview.title == "The limit is reached: calls, 2 of 2"
    problem = await client.refusal(client.decide(asked, "APPROVE", new_limit=Budget(calls=2)))
    assert [v.field for v in problem.fields] == ["new_limit.calls"]
    await client.decide(asked, "APPROVE", new_limit=Budget(calls=9))
    (await executor.next()).says("", ("look", "{}"))
    asked = await client.asked(session.id)
    assert asked.preview.title == "The limit is reached: total_tokens, 30 of 20"
    assert executor.starts_of(tool="look")[1:] == []
    await client.decide(asked, "APPROVE", new_limit=Budget(total_tokens=1000))
    (await executor.next(tool="look")).returns("nothing")
    (await executor.next()).says("done")
    log = await client.settled(session.id)
    assert log.of("run_finished")[0]["state"] == "COMPLETED"
    assert (await client.get_run(plan.run_id)).budget == Budget(calls=9, total_tokens=1000)
