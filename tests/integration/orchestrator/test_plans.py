"""A plan from its birth as a DRAFT to its end: nothing of it runs before exactly one APPROVE."""

import asyncio

from tests.integration.orchestrator.client import Client, state, subtask, words
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor


def only_routing_and_planning(act: Act) -> None:
    if act.purpose in ("ROUTING", "PLANNING"):
        answers(act)


async def test_an_architects_plan_is_born_draft_and_nothing_of_it_runs_before_an_approve(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = only_routing_and_planning
    session = await client.new_session()
    sent = await client.send(session.id, "Build it", agent="auto")
    approval = await client.asked(session.id)

    log = await client.events(session.id)
    assert [state(drafted["plan"]) for drafted in log.of("plan_drafted")] == ["DRAFT"]
    assert not log.of("plan_state_changed")
    assert [act.purpose for act in executor.acts] == ["ROUTING", "PLANNING"]
    assert words(approval)["kind"] == "PLAN"
    assert approval.plan_id == (await client.get_run(sent.run.id)).plan_id

    await client.decide(approval, "APPROVE")
    act = await executor.next(agent="coder")
    assert act.purpose == "SUBTASK"
    log = await client.events(session.id)
    assert [(e["from_state"], e["to_state"]) for e in log.of("plan_state_changed")] == [
        ("DRAFT", "APPROVED"),
        ("APPROVED", "IN_PROGRESS"),
    ]


async def test_a_clients_plan_is_born_draft_and_nothing_of_it_runs_before_an_approve(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    assert (state(plan), plan.HasField("approve_time")) == ("DRAFT", False)
    approval = await client.asked(session.id)
    assert not executor.acts
    assert state(await client.get_session(session.id)) == "PLAN_REVIEW"

    await client.decide(approval, "APPROVE")
    assert (await executor.next()).purpose == "SUBTASK"
    assert (await client.get_plan(plan.id)).HasField("approve_time")


async def test_a_rejected_plan_never_runs_and_its_run_ends_with_the_reason(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "REJECT", feedback="not like this")

    log = await client.settled(session.id)
    (finished,) = log.of("run_finished")
    assert (finished["state"], finished["reason"]) == ("CANCELLED", "not like this")
    assert state(await client.get_plan(plan.id)) == "REJECTED"
    assert log.session_states == ["PLAN_REVIEW", "IDLE"]
    assert not executor.acts


async def test_an_aborted_plan_never_runs(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    await client.decide(await client.asked(session.id), "ABORT")

    log = await client.settled(session.id)
    assert [finished["state"] for finished in log.of("run_finished")] == ["CANCELLED"]
    assert state(await client.get_plan(plan.id)) == "CANCELLED"
    assert not executor.acts


async def test_the_request_that_asked_returns_at_once_while_the_model_hangs(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    async with asyncio.timeout(2):
        sent = await client.send(session.id, "Think about it", agent="auto")
        queued = await client.new_plan(session.id)
    assert (await executor.next(purpose="ROUTING")).outcome is None
    assert state(await client.get_run(sent.run.id)) == "RUNNING"
    assert state(queued) == "DRAFT"


async def test_a_waiting_plan_holds_no_task_no_owner_and_no_transaction(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    executor.play = only_routing_and_planning
    session = await client.new_session()
    sent = await client.send(session.id, "Build it", agent="auto")
    await client.asked(session.id)

    await all_let_go()
    assert await tables.open_transactions() == 0
    row = await tables.session(session.id)
    assert (row["owner"], row["runnable"], row["due_time"]) == ("", False, 0)
    assert state(await client.get_run(sent.run.id)) == "WAITING"


async def test_a_waiting_tool_call_holds_no_task_no_owner_and_no_transaction(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    await client.send(session.id)
    await client.asked(session.id)

    await all_let_go()
    assert await tables.open_transactions() == 0
    assert (await tables.session(session.id))["owner"] == ""


async def test_no_transaction_is_open_while_a_model_and_a_tool_are_waited_for(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    act = await executor.next(purpose="ANSWER")
    assert await tables.open_transactions() == 0
    act.says("Looking.", ("look", "{}"))
    await executor.next(tool="look")
    assert await tables.open_transactions() == 0


async def test_a_request_goes_from_routing_to_completed_through_two_approvals(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail", '{"to": "a@example.org"}')
    session = await client.new_session()
    sent = await client.send(session.id, "Build it", agent="auto")
    await client.decide(await client.asked(session.id), "APPROVE")
    approval = await client.asked(session.id)
    assert (words(approval)["kind"], approval.tool) == ("TOOL_CALL", "send_mail")
    await client.decide(approval, "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")

    log = await client.settled(session.id)
    assert log.session_states == [
        "CLASSIFY",
        "PLAN_REQUIRED",
        "ARCHITECT_PLANNING",
        "PLAN_REVIEW",
        "PLAN_EXECUTION",
        "COMPLETED",
    ]
    assert len(log.of("plan_drafted")) == 1
    assert len(log.of("approval_requested")) == 2
    run_states = [event["to_state"] for event in log.of("run_state_changed", run_id=sent.run.id)]
    assert run_states == ["WAITING", "RESUMED", "RUNNING"] * 2
    assert state(await client.get_run(sent.run.id)) == "COMPLETED"
    assert [words(m)["role"] for m in await client.messages(session.id)] == ["AGENT", "USER"]


async def test_a_subtask_keeps_its_agent_across_approvals_and_results(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    await client.send(session.id, "Build it", agent="auto")
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.decide(await client.asked(session.id), "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")
    log = await client.settled(session.id)

    (drafted,) = log.of("plan_drafted")
    agents = {s.id: s.agent for s in drafted["subtasks"]}
    by_subtask = {key: {s["agent"] for s in log.of("step_started", subtask_id=key)} for key in agents}
    assert by_subtask == {key: {agent} for key, agent in agents.items()}


async def test_a_later_subtask_waits_for_the_approval_of_the_one_it_depends_on(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    await client.new_plan(session.id, [subtask("first"), subtask("second", "first", agent="debug")])
    await client.decide(await client.asked(session.id), "APPROVE")
    approval = await client.asked(session.id)
    assert {act.agent for act in executor.acts} == {"coder"}

    await client.decide(approval, "APPROVE")
    (await executor.next(tool="send_mail")).returns()
    log = await client.settled(session.id)
    order = [(e["key"], e["to_state"]) for e in log.of("subtask_state_changed")]
    assert order == [("first", "RUNNING"), ("first", "SUCCEEDED"), ("second", "RUNNING"), ("second", "SUCCEEDED")]


async def test_a_rejected_call_is_read_by_the_model_and_never_reaches_the_executor(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    await client.send(session.id)
    await client.decide(await client.asked(session.id), "REJECT", feedback="wrong address")

    log = await client.settled(session.id)
    assert not executor.starts_of(tool="send_mail")
    assert "wrong address" in executor.acts[-1].last_text
    assert [finished["state"] for finished in log.of("run_finished")] == ["COMPLETED"]


async def test_every_mix_of_allowed_approved_and_rejected_calls_gives_each_call_one_result(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    await client.send(session.id)
    act = await executor.next(purpose="ANSWER")
    act.says("Four.", ("look", "{}"), ("send_mail", '{"n": 1}'), ("send_mail", '{"n": 2}'), ("no_such_tool", "{}"))
    (await executor.next(tool="look")).returns("seen")
    await client.settled(session.id)
    asked = {a.arguments_json: a for a in await client.pending(session.id)}
    await client.decide(asked['{"n": 2}'], "REJECT")
    await client.decide(asked['{"n": 1}'], "APPROVE")
    (await executor.next(tool="send_mail")).returns("sent")

    act = await executor.next(purpose="ANSWER")
    results = {m.call_id: (m.is_error, m.text) for m in act.start.model.messages if m.call_id}
    assert [results[f"call_{n}"][0] for n in range(4)] == [False, False, True, True]
    assert (results["call_0"][1], results["call_1"][1]) == ("seen", "sent")
    assert len(executor.starts_of(tool="send_mail")) == 1


def instructions(act: Act) -> str:
    """What the subtask's agent was asked to do."""
    words = [line for message in act.start.model.messages for line in message.text.splitlines()]
    return next(line for line in words if line.startswith("Do "))


async def test_a_plans_limit_is_smaller_than_what_is_ready_while_one_fails_and_one_waits(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id, [subtask(key) for key in "abcd"], parallel_limit=2)
    await client.decide(await client.asked(session.id), "APPROVE")
    acts = {instructions(act): act for act in [await executor.next(), await executor.next()]}
    assert sorted(acts) == ["Do a.", "Do b."]

    acts["Do a."].says("Mailing.", ("send_mail", "{}"))  # waits for approval, and keeps its place
    acts["Do b."].fails("it cannot be done", retryable=False)  # gives its place back
    for wanted in ("Do c.", "Do d."):
        act = await executor.next()
        assert instructions(act) == wanted
        act.says("done")
    await client.settled(session.id)
    states = {s.key: state(s) for s in (await client.get_plan(plan.id)).subtasks}
    assert states == {"a": "RUNNING", "b": "FAILED", "c": "SUCCEEDED", "d": "SUCCEEDED"}
    kinds = {words(a)["kind"]: a for a in await client.pending(session.id)}
    assert set(kinds) == {"TOOL_CALL", "FAILURE"}

    executor.play = answers
    await client.decide(kinds["FAILURE"], "RETRY")
    await client.decide(kinds["TOOL_CALL"], "APPROVE")
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    running: set[str] = set()
    for change in log.of("subtask_state_changed"):
        running = running | {change["key"]} if change["to_state"] == "RUNNING" else running - {change["key"]}
        assert len(running) <= 2
