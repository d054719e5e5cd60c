"""A tenant's runs at once are as many as may be, whoever owns them; the rest wait in sight, in their order."""

import asyncio

import pytest

from gen.assent.v1 import session_service_pb2
from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}
WAITS = "RUNS_PER_TENANT"

Sent = session_service_pb2.SendMessageResponse


async def sent_to_new(client: Client, *, priority: int = 0) -> Sent:
    session = await client.new_session(settings={"priority": priority})
    return await client.send(session.id)


async def run_of(client: Client, sent: Sent) -> tuple[str, str]:
    run = await client.get_run(sent.run.id)
    return state(run), run.waits_for


async def test_a_run_without_room_waits_in_sight_and_goes_on_when_one_ends(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    client = (await replicas.start(runs_per_tenant=1)).client
    other = (await replicas.start(runs_per_tenant=1)).client
    first = await sent_to_new(client)
    act = await executor.next()
    second = await sent_to_new(other)
    assert (state(second.run), second.run.waits_for) == ("CREATED", WAITS)
    session = await client.get_session(second.run.session_id)
    assert (state(session), session.settled, session.HasField("due_time")) == ("IDLE", False, False)
    foreign = await sent_to_new(client.acting_as("eve", tenant="another"))
    assert state(foreign.run) == "RUNNING"

    executor.play = answers
    act.says("answered")
    logs = [await client.settled(each.run.session_id) for each in (first, second)]
    assert [[e["state"] for e in log.of("run_finished")] for log in logs] == [["COMPLETED"]] * 2
    queued = logs[1].of("run_queued")
    assert [(e["run_id"], e["waits_for"]) for e in queued] == [(second.run.id, WAITS)]
    assert await run_of(client, second) == ("COMPLETED", "")


async def test_a_run_that_waits_for_a_person_uses_no_room_and_resumes_in_its_turn(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    client = (await replicas.start(runs_per_tenant=1)).client
    executor.play = calls("put")
    parked = await sent_to_new(client)
    approval = await client.asked(parked.run.session_id)
    second = await sent_to_new(client)
    assert state(second.run) == "RUNNING"
    await client.asked(second.run.session_id)
    assert [await run_of(client, each) for each in (parked, second)] == [("WAITING", "")] * 2

    await client.decide(approval, "APPROVE")
    act = await executor.next(tool="put")
    await client.decide(await client.asked(second.run.session_id), "APPROVE")
    assert await run_of(client, second) == ("RESUMED", WAITS)
    assert len(executor.starts_of(tool="put")) == 1
    act.returns("put")
    await client.settled(parked.run.session_id)
    (await executor.next(tool="put")).returns("put")
    await client.settled(second.run.session_id)
    assert [await run_of(client, each) for each in (parked, second)] == [("COMPLETED", "")] * 2


async def test_those_who_wait_come_by_priority_and_then_in_their_order(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    client = (await replicas.start(runs_per_tenant=1)).client
    first = await sent_to_new(client)
    act = await executor.next()
    plain = [await sent_to_new(client) for _ in range(3)]
    low, high = await sent_to_new(client, priority=-3), await sent_to_new(client, priority=3)
    executor.play = answers
    act.says("answered")
    for each in (low, high, *plain):
        await client.settled(each.run.session_id)
    expected = [first, high, *plain, low]
    assert [act.start.run_id for act in executor.acts] == [each.run.id for each in expected]


async def test_replicas_that_race_for_room_keep_to_the_limit_and_all_runs_come_to_their_end(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables
) -> None:
    executor.play = answers
    clients = [(await replicas.start(runs_per_tenant=2)).client for _ in range(3)]
    done = asyncio.Event()
    seen: list[int] = []

    async def look() -> None:
        while not done.is_set():
            seen.append(await tables.count("run WHERE state = 'RUNNING'"))

    looking = asyncio.create_task(look())
    sent = await asyncio.gather(*(sent_to_new(clients[n % 3]) for n in range(15)))
    for each in sent:
        log = await clients[0].settled(each.run.session_id)
        assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    done.set()
    await looking
    assert 0 < max(seen) <= 2
    assert await tables.count("counter WHERE used > 0") == 0


@pytest.mark.parametrize("how", ["stop", "crash"])
async def test_an_owner_that_is_gone_leaks_no_room(
    replicas: Replicas, executor: ScriptedExecutor, tables: Tables, how: str
) -> None:
    first = await replicas.start(runs_per_tenant=1, **QUICK)
    running = await sent_to_new(first.client)
    act = await executor.next()
    waits = await sent_to_new(first.client)
    await (first.stop() if how == "stop" else first.crash())
    client = (await replicas.start(runs_per_tenant=1, **QUICK)).client
    await executor.heard("reattach", act.step_id)
    assert await run_of(client, waits) == ("CREATED", WAITS)
    executor.play = answers
    act.says("answered")
    for each in (running, waits):
        await client.settled(each.run.session_id)
        assert await run_of(client, each) == ("COMPLETED", "")
    assert await tables.count("counter WHERE used > 0") == 0


async def test_a_run_that_waits_can_be_cancelled_and_is_not_waited_for(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    client = (await replicas.start(runs_per_tenant=1)).client
    await sent_to_new(client)
    act = await executor.next()
    waits, last = await sent_to_new(client), await sent_to_new(client)
    await client.cancel(waits.run.id)
    assert await run_of(client, waits) == ("CANCELLED", "")
    executor.play = answers
    act.says("answered")
    await client.settled(last.run.session_id)
    assert await run_of(client, last) == ("COMPLETED", "")
