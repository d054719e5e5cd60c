"""A pause starts nothing new and loses nothing: what was in flight is recorded, what was decided counts afterwards."""

from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replicas, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}


async def test_a_pause_lets_what_is_in_flight_end_and_starts_nothing_more(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    run = (await client.send(session.id)).run
    (await executor.next()).says("Looking.", ("look", '{"n": 1}'), ("look", '{"n": 2}'))
    one, other = await executor.next(tool="look"), await executor.next(tool="look")
    pausing = await client.acting_as("alice").pause(run.id, reason="lunch")
    assert (state(pausing), pausing.pause.requester, pausing.pause.reason) == ("RUNNING", "alice", "lunch")
    assert pausing.pause.request_time.seconds > 0

    one.returns("seen")
    async with client.watch(session.id) as watch:
        await watch.until("step_finished", tool="look")
    assert state(await client.get_run(run.id)) == "RUNNING"
    other.returns("seen too")
    log = await client.settled(session.id)
    assert [e["trigger"] for e in log.of("run_state_changed")] == ["pause_requested", "paused"]
    assert [e["actor"] for e in log.of("run_state_changed")] == ["alice", "alice"]
    assert {state(step) for step in await client.steps(run.id)} == {"SUCCEEDED"}
    assert state(await client.get_run(run.id)) == "PAUSED"
    await all_let_go()
    assert not [act for act in executor.acts if act.outcome is None]

    resumed = await client.resume(run.id)
    assert (state(resumed), resumed.HasField("pause")) == ("RUNNING", False)
    act = await executor.next()
    assert act.last_text == "seen too"
    act.says("done")
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.acts) == 4


async def test_a_run_that_waits_is_paused_at_once_and_its_decision_counts_after_the_resume(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session()
    run = (await client.send(session.id)).run
    approval = await client.asked(session.id)
    paused = await client.pause(run.id)
    assert state(paused) == "PAUSED"
    assert [a.id for a in await client.pending(session.id)] == [approval.id]

    await client.decide(approval, "APPROVE")
    log = await client.settled(session.id)
    assert state(await client.get_run(run.id)) == "PAUSED"
    assert len(log.of("approval_resolved")) == 1
    await all_let_go()
    assert not executor.starts_of(tool="send_mail")

    await client.resume(run.id)
    (await executor.next(tool="send_mail")).returns("sent")
    await client.settled(session.id)
    assert state(await client.get_run(run.id)) == "COMPLETED"


async def test_a_run_that_waited_waits_again_after_its_pause(client: Client) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    approval = await client.asked(session.id)
    await client.pause(plan.run_id)
    assert state(await client.resume(plan.run_id)) == "WAITING"
    assert await client.pending(session.id) == [approval]
    states = [e["to_state"] for e in (await client.events(session.id)).of("run_state_changed")]
    assert states == ["WAITING", "PAUSED", "RESUMED", "RUNNING", "WAITING"]


async def test_a_queued_run_is_paused_when_its_turn_comes_and_those_behind_it_wait(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await client.new_session()
    one, two, three = [(await client.send(session.id, text)).run for text in ("one", "two", "three")]
    assert state(await client.pause(two.id)) == "CREATED"
    (await executor.next()).says("answered")
    await client.settled(session.id)
    assert [state(await client.get_run(r.id)) for r in (one, two, three)] == ["COMPLETED", "PAUSED", "CREATED"]
    executor.play = answers
    await client.resume(two.id)
    await client.settled(session.id)
    assert [state(await client.get_run(r.id)) for r in (two, three)] == ["COMPLETED", "COMPLETED"]
    assert [act.start.run_id for act in executor.acts] == [one.id, two.id, three.id]


async def test_a_pause_is_withdrawn_before_it_takes_hold(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    run = (await client.send(session.id)).run
    act = await executor.next()
    await client.pause(run.id)
    assert state(await client.resume(run.id)) == "RUNNING"
    act.says("done")
    log = await client.settled(session.id)
    assert [e["trigger"] for e in log.of("run_state_changed")] == ["pause_requested", "pause_withdrawn"]
    assert state(await client.get_run(run.id)) == "COMPLETED"


async def test_a_paused_run_is_cancelled_and_the_next_one_starts(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    plan = await client.new_plan(session.id)
    queued = (await client.send(session.id)).run
    await client.asked(session.id)
    await client.pause(plan.run_id)
    assert state(await client.cancel(plan.run_id)) == "CANCELLED"
    assert (await executor.next()).start.run_id == queued.id


async def test_a_retry_that_is_due_waits_for_the_resume(client: Client, executor: ScriptedExecutor) -> None:
    session = await client.new_session()
    run = (await client.send(session.id)).run
    (await executor.next()).fails("busy", retry_after=0.05)
    async with client.watch(session.id) as watch:
        await watch.until("step_finished", trigger="transient")
    # The pause may meet the run before or after the second dispatch: either way nothing more starts.
    await client.pause(run.id)
    for act in [a for a in executor.acts if a.outcome is None]:
        act.fails("busy", retry_after=0.05)
    await client.settled(session.id)
    await all_let_go()
    started = len(executor.acts)
    assert state(await client.get_run(run.id)) == "PAUSED"
    assert not (await client.get_session(session.id)).HasField("due_time")
    await client.resume(run.id)
    (await executor.next()).says("done")
    await client.settled(session.id)
    assert len(executor.acts) == started + 1


async def test_another_orchestrator_brings_a_pause_to_its_end_when_the_owner_dies(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first = await replicas.start(**QUICK)
    session = await first.client.new_session()
    run = (await first.client.send(session.id)).run
    (await executor.next()).says("Looking.", ("look", "{}"))
    act = await executor.next(tool="look")
    assert state(await first.client.pause(run.id)) == "RUNNING"
    await first.crash()

    client = (await replicas.start(**QUICK)).client
    await executor.heard("reattach", act.step_id)
    assert (await client.get_run(run.id)).pause.requester == "developer"
    act.returns("seen")
    await client.settled(session.id)
    assert state(await client.get_run(run.id)) == "PAUSED"
    await all_let_go()
    assert len(executor.acts) == 2
    executor.play = answers
    await client.resume(run.id)
    log = await client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_a_pause_at_one_replica_holds_what_another_drives(replicas: Replicas, executor: ScriptedExecutor) -> None:
    owner = await replicas.start(lease_renew_seconds=0.1)
    other = await replicas.start(lease_renew_seconds=0.1)
    session = await owner.client.new_session()
    run = (await owner.client.send(session.id)).run
    act = await executor.next()
    assert state(await other.client.pause(run.id)) == "RUNNING"
    act.says("Looking.", ("look", "{}"))
    await other.client.settled(session.id)
    assert state(await owner.client.get_run(run.id)) == "PAUSED"
    await all_let_go()
    assert not executor.starts_of(tool="look")
    await other.client.resume(run.id)
    (await executor.next(tool="look")).returns("seen")
