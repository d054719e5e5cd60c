"""What has failed for good, and what people say to it: in any order, from any replica, with siblings under way."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from gen.assent.v1 import approval_pb2
from tests.integration.orchestrator.client import Client, state, subtask, words
from tests.integration.orchestrator.plays import answers
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}
NEW_PLAN = {
    "title": "Another way",
    "summary": "What is left.",
    "subtasks": [
        {"key": "other", "title": "Other", "instructions": "Do it.", "agent": "coder", "depends_on": ["done"]},
    ],
}


def texts(act: Act) -> str:
    return "\n".join(message.text for message in act.start.model.messages)


def is_first_try_of(act: Act, key: str) -> bool:
    return act.purpose == "SUBTASK" and act.last_text.startswith(f"Subtask {key}:")


def two_fail_and_a_third_asks(act: Act) -> None:
    if is_first_try_of(act, "again") or is_first_try_of(act, "without"):
        act.fails("it broke", retryable=False)
    elif is_first_try_of(act, "sibling"):
        act.says("Calling.", ("send_mail", '{"to": "x"}'))
    else:
        answers(act)


async def asked_three_times(client: Client) -> tuple[str, dict[str, approval_pb2.Approval]]:
    """Three subtasks at once: two have failed, the third asks for its call; a fourth depends on them all."""
    session = await client.new_session()
    keys = ("again", "without", "sibling")
    nodes = [*(subtask(key) for key in keys), subtask("last", *keys)]
    plan = await client.new_plan(session.id, nodes, parallel_limit=3)
    async with client.watch(session.id) as watch:
        asked = await watch.until("approval_requested")
        await client.decide(asked["approval"], "APPROVE")
        approvals = [(await watch.until("approval_requested"))["approval"] for _ in keys]
    key_of = {s.id: s.key for s in (await client.get_plan(plan.id)).subtasks}
    return session.id, {key_of[approval.subtask_id]: approval for approval in approvals}


async def effects(client: Client, session_id: str) -> dict[str, Any]:
    """All that came of it, without ids, times and the order of what is independent."""
    log = await client.settled(session_id)
    run_id = (await client.events(session_id)).of("run_started")[0]["run_id"]
    plan = await client.get_plan((await client.get_run(run_id)).plan_id)
    steps = [words(step) for step in await client.steps(run_id)]
    events = await client.events(session_id)
    assert events.sequences == list(range(1, len(events) + 1))
    return {
        "run": state(await client.get_run(run_id)),
        "plan": [(s.key, state(s), s.attempts, s.result, s.skip_reason) for s in plan.subtasks],
        "steps": sorted((s["agent"], s["kind"], s["state"], s.get("tool", "")) for s in steps),
        "decisions": sorted((e["kind"], e["action"], e["decider"]) for e in events.of("approval_resolved")),
        "subtasks": sorted((e["key"], e["trigger"]) for e in events.of("subtask_state_changed")),
        "sessions": log.session_states,
    }


Decide = Callable[[], Awaitable[object]]


async def in_turn(decisions: list[Decide]) -> None:
    for decision in decisions:
        await decision()


async def at_once(decisions: list[Decide]) -> None:
    await asyncio.gather(*(decision() for decision in decisions))


async def test_one_is_retried_one_skipped_and_a_siblings_call_approved_in_any_order_from_several_replicas(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables
) -> None:
    """Two parallel subtasks fail; RETRY one, SKIP the other, approve a sibling's call in between: as if one by one."""
    one, other = await replicas.start(), await replicas.start()
    executor.play = two_fail_and_a_third_asks
    ways = [(in_turn, order) for order in permutations(range(3))] + [(at_once, (0, 1, 2))] * 6
    came = []
    for carry_out, order in ways:
        session_id, asked = await asked_three_times(one.client)
        anna, boris, cleo = (
            who.acting_as(name) for who, name in ((one.client, "anna"), (other.client, "boris"), (one.client, "cleo"))
        )
        decisions: list[Decide] = [
            partial(anna.decide, asked["again"], "RETRY", feedback="use the other door"),
            partial(boris.decide, asked["sibling"], "APPROVE"),
            partial(cleo.decide, asked["without"], "SKIP", feedback="not needed"),
        ]
        await carry_out([decisions[index] for index in order])
        came.append(await effects(one.client, session_id))
    first = came[0]
    assert first["run"] == "COMPLETED"
    assert [(key, now, tries) for key, now, tries, _, _ in first["plan"]] == [
        ("again", "SUCCEEDED", 2),
        ("without", "SKIPPED", 1),
        ("sibling", "SUCCEEDED", 1),
        ("last", "SUCCEEDED", 1),
    ]
    assert all(each == first for each in came)
    assert len(executor.starts_of(tool="send_mail")) == len(ways)
    retried = [act for act in executor.acts if act.purpose and act.last_text.endswith("says: use the other door")]
    assert len(retried) == len(ways)
    last = [texts(act) for act in executor.acts if is_first_try_of(act, "last")]
    assert all("without (The without) was not done" in text and "who said: not needed" in text for text in last)


class Stuck:
    """`done` is done, `broken` has failed, and `mailing` has a call that must not happen twice in flight."""

    def __init__(self) -> None:
        self.session_id = ""
        self.failure = approval_pb2.Approval()

    def play(self, act: Act) -> None:
        if act.tool == "send_mail":
            return
        if act.purpose == "PLANNING":
            act.says_json(NEW_PLAN)
        elif is_first_try_of(act, "broken"):
            act.fails("it broke", retryable=False)
        elif is_first_try_of(act, "mailing"):
            act.says("Calling.", ("send_mail", '{"to": "x"}'))
        else:
            answers(act)

    async def begin(self, client: Client, executor: ScriptedExecutor) -> Act:
        executor.play = self.play
        self.session_id = (await client.new_session()).id
        nodes = [subtask("done"), subtask("broken", "done"), subtask("mailing", "done"), subtask("never", "broken")]
        await client.new_plan(self.session_id, nodes, parallel_limit=2)
        async with client.watch(self.session_id) as watch:
            plan = (await watch.until("approval_requested"))["approval"]
            await client.decide(plan, "APPROVE")
            asked = [(await watch.until("approval_requested"))["approval"] for _ in range(2)]
        by_kind = {words(approval)["kind"]: approval for approval in asked}
        self.failure = by_kind["FAILURE"]
        await client.decide(by_kind["TOOL_CALL"], "APPROVE")
        return await executor.next(tool="send_mail")


async def test_work_is_planned_anew_from_another_replica_while_a_call_is_in_flight(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    one, other = await replicas.start(), await replicas.start()
    stuck = Stuck()
    mail = await stuck.begin(one.client, executor)
    await other.client.acting_as("anna").decide(stuck.failure, "REPLAN", feedback="another way")
    await executor.heard("cancel", mail.step_id)
    mail.returns("sent")  # too late: nobody waits for it

    asked = await one.client.asked(stuck.session_id)
    plan = await one.client.get_plan(asked.plan_id)
    assert asked.plan_version == 2
    assert [(s.key, state(s)) for s in plan.subtasks] == [("done", "SUCCEEDED"), ("other", "PENDING")]
    told = next(texts(act) for act in executor.acts if act.purpose == "PLANNING")
    assert "They say: another way" in told
    assert 'send_mail {"to": "x"} (CANCELLED): The work was planned anew while this call was under way' in told
    (call,) = [s for s in await one.client.steps(asked.run_id) if s.tool == "send_mail"]
    assert (state(call), call.result.content) == (
        "CANCELLED",
        "The work was planned anew while this call was under way: it may have taken effect.",
    )

    await other.client.decide(asked, "APPROVE")
    log = await one.client.settled(stuck.session_id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert log.session_states == [
        *("PLAN_REVIEW", "PLAN_EXECUTION", "ERROR_HANDLING", "ARCHITECT_PLANNING"),
        *("PLAN_REVIEW", "PLAN_EXECUTION", "COMPLETED"),
    ]
    assert len(executor.starts_of(tool="send_mail")) == 1
    assert sum(is_first_try_of(act, "done") for act in executor.acts) == 1


@pytest.mark.parametrize("first", ["RETRY", "SKIP", "REPLAN"])
async def test_work_goes_on_as_a_person_said_though_every_replica_died(
    replicas: Replicas, executor: ScriptedExecutor, first: str
) -> None:
    old = await replicas.start(**QUICK)
    stuck = Stuck()
    mail = await stuck.begin(old.client, executor)
    executor.play = lambda act: None
    await old.client.decide(stuck.failure, first, feedback="as I say")
    if first != "SKIP":
        await executor.next()  # the next try, or the architect
    await old.crash()

    new = await replicas.start(**QUICK)
    executor.play = stuck.play
    for act in executor.acts:
        if act.outcome is None and act is not mail:
            stuck.play(act)
    if first == "REPLAN":
        asked = await new.client.asked(stuck.session_id)
        assert "as I say" in next(texts(act) for act in executor.acts if act.purpose == "PLANNING")
        await new.client.decide(asked, "APPROVE")
    else:
        mail.returns("sent")
    log = await new.client.settled(stuck.session_id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.starts_of(tool="send_mail")) == 1
    drafted = len((await new.client.events(stuck.session_id)).of("plan_drafted"))
    assert drafted == (2 if first == "REPLAN" else 1)
