"""A cancel ends a run wherever it is: every step gets its end, every question is closed, the next run starts."""

from tests.integration.orchestrator.client import Client, Log, state, words
from tests.integration.orchestrator.plays import ROUTE_TO_ARCHITECT, calls
from tests.integration.orchestrator.replica import all_let_go
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

OVER = {"SUCCEEDED", "FAILED", "REJECTED", "CANCELLED"}


async def expect_over(client: Client, session_id: str, run_id: str) -> Log:
    """Nothing of the run is open any more."""
    log = await client.settled(session_id)
    run = await client.get_run(run_id)
    assert state(run) == "CANCELLED"
    assert {state(step) for step in await client.steps(run_id)} <= OVER
    assert not [a for a in await client.pending(session_id) if a.run_id == run_id]
    if run.plan_id:
        plan = await client.get_plan(run.plan_id)
        assert state(plan) == "CANCELLED"
        assert {state(s) for s in plan.subtasks} <= {"SUCCEEDED", "SKIPPED", "CANCELLED"}
    assert [e["state"] for e in log.of("run_finished", run_id=run_id)] == ["CANCELLED"]
    return log


async def expect_told(executor: ScriptedExecutor, act: Act) -> None:
    """The executor was told to end the step, and may forget it."""
    cancel = await executor.heard("cancel", act.step_id)
    assert cancel.dispatch_number == act.number
    await executor.heard("recorded", act.step_id)


async def test_cancelling_while_the_request_is_being_routed(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    sent = await client.send(session.id, agent="auto")
    act = await executor.next(purpose="ROUTING")
    await client.cancel(sent.run.id, reason="changed my mind")
    await expect_told(executor, act)
    log = await expect_over(client, session.id, sent.run.id)
    assert log.session_states == ["CLASSIFY", "IDLE"]
    assert log.of("run_finished")[0]["reason"] == "changed my mind"


async def test_cancelling_while_the_plan_is_being_made(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    sent = await client.send(session.id, agent="auto")
    (await executor.next(purpose="ROUTING")).says_json(ROUTE_TO_ARCHITECT)
    act = await executor.next(purpose="PLANNING")
    await client.cancel(sent.run.id)
    await expect_told(executor, act)
    log = await expect_over(client, session.id, sent.run.id)
    assert log.session_states == ["CLASSIFY", "PLAN_REQUIRED", "ARCHITECT_PLANNING", "IDLE"]


async def test_cancelling_while_the_plan_is_reviewed(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    approval = await client.asked(session.id)
    await client.cancel(plan.run_id)
    log = await expect_over(client, session.id, plan.run_id)
    assert [e["state"] for e in log.of("approval_resolved")] == ["CANCELLED"]
    problem = await client.refusal(client.decide(approval, "APPROVE"))
    assert (problem.reason, problem.metadata["state"]) == ("APPROVAL_ALREADY_RESOLVED", "CANCELLED")
    assert not executor.acts


async def test_cancelling_while_a_tool_runs(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.decide(await client.asked(session.id), "APPROVE")
    act = await executor.next(tool="send_mail")
    await client.cancel(plan.run_id)
    await expect_told(executor, act)
    act.returns("sent after all")  # too late: the call has its one result

    log = await expect_over(client, session.id, plan.run_id)
    (ended,) = log.of("step_finished", tool="send_mail")
    assert (ended["state"], ended["is_error"]) == ("CANCELLED", True)
    assert {e["key"]: e["to_state"] for e in log.of("subtask_state_changed")} == {
        "first": "CANCELLED",
        "second": "CANCELLED",
    }


async def test_cancelling_while_a_tool_waits_for_approval(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    sent = await client.send(session.id)
    approval = await client.asked(session.id)
    await client.cancel(sent.run.id)
    await expect_over(client, session.id, sent.run.id)
    assert (await client.refusal(client.decide(approval, "APPROVE"))).reason == "APPROVAL_ALREADY_RESOLVED"
    assert not executor.starts_of(tool="send_mail")


async def test_cancelling_one_of_several_calls_in_flight_ends_them_all(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    sent = await client.send(session.id)
    (await executor.next()).says("Two.", ("look", '{"n": 1}'), ("look", '{"n": 2}'), ("send_mail", "{}"))
    acts = [await executor.next(tool="look"), await executor.next(tool="look")]
    await client.cancel(sent.run.id)
    for act in acts:
        await expect_told(executor, act)
    log = await expect_over(client, session.id, sent.run.id)
    assert [e["state"] for e in log.of("step_finished", kind="TOOL")] == ["CANCELLED"] * 3


async def test_cancelling_a_queued_run_leaves_the_active_one_alone(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    active = await client.send(session.id, "one")
    queued = await client.send(session.id, "two")
    third = await client.send(session.id, "three")
    await client.cancel(queued.run.id)
    act = await executor.next()
    assert (act.start.run_id, act.outcome) == (active.run.id, None)
    act.says("answered")
    act = await executor.next()
    assert act.start.run_id == third.run.id
    act.says("answered")
    log = await expect_over(client, session.id, queued.run.id)
    assert [e["run_id"] for e in log.of("run_started")] == [active.run.id, third.run.id]


async def test_the_next_queued_run_starts_when_the_active_one_is_cancelled(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    active = await client.send(session.id, "one")
    queued = await client.send(session.id, "two")
    await executor.next()
    await client.cancel(active.run.id)
    act = await executor.next()
    assert act.start.run_id == queued.run.id
    act.says("answered")
    log = await expect_over(client, session.id, active.run.id)
    assert [e["state"] for e in log.of("run_finished", run_id=queued.run.id)] == ["COMPLETED"]


async def test_the_next_queued_run_starts_when_a_waiting_one_is_cancelled(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.asked(session.id)
    queued = await client.send(session.id, "two")
    await client.cancel(plan.run_id)
    act = await executor.next()
    assert act.start.run_id == queued.run.id


async def test_a_decision_that_aborts_ends_the_run_as_a_cancel_does(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    sent = await client.send(session.id)
    (await executor.next()).says("Two.", ("look", "{}"), ("send_mail", "{}"))
    act = await executor.next(tool="look")
    (approval,) = await client.pending(session.id)
    await client.decide(approval, "ABORT", feedback="stop it all")
    await expect_told(executor, act)
    log = await expect_over(client, session.id, sent.run.id)
    assert log.of("run_finished")[0]["reason"] == "stop it all"


async def test_after_a_cancel_nothing_is_held_and_the_session_takes_new_work(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    sent = await client.send(session.id)
    await executor.next()
    await client.cancel(sent.run.id)
    await all_let_go()
    again = await client.send(session.id, "once more")
    act = await executor.next()
    act.says("answered")
    log = await client.settled(session.id, after=again.last_sequence)
    assert words(await client.get_session(session.id))["state"] == "COMPLETED"
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
