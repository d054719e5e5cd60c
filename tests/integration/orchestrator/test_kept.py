"""What a replica keeps of sessions that nobody works on is what their rows say; what others write is not overlooked."""

from tests.integration.orchestrator.client import Client
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replica, Replicas, all_let_go, until
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor


async def kept_as_stored(replica: Replica, session_id: str) -> bool:
    """Whether anything was kept; then it is what is stored."""
    await replica.client.settled(session_id)
    await all_let_go()
    kept, stored = await replica.kept_and_stored(session_id)
    assert kept is None or kept == stored
    return kept is not None


async def test_what_is_kept_from_command_to_command_is_what_is_stored(
    replica: Replica, client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    session = await client.new_session(title="Änderung", labels={"team": "blue"})
    assert await kept_as_stored(replica, session.id)
    await client.send(session.id, "Say äöü.")
    approval = await client.asked(session.id)
    assert await kept_as_stored(replica, session.id)
    await client.decide(approval, "REJECT", feedback="Not that.")
    assert await kept_as_stored(replica, session.id)

    executor.play = answers
    await client.send(session.id, "And now?")
    assert await kept_as_stored(replica, session.id)
    await client.new_plan(session.id)
    assert await kept_as_stored(replica, session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    assert await kept_as_stored(replica, session.id)
    assert len(await client.messages(session.id)) == 5


async def test_a_replica_that_hears_of_anothers_write_keeps_no_more(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    one, other = await replicas.start(), await replicas.start()
    await executor.joined()
    session = await one.client.new_session()
    await until(lambda: one.knows_others and other.knows_others)
    assert (await one.kept_and_stored(session.id))[0] is not None
    await other.client.send(session.id, "Hello")
    await other.client.settled(session.id)
    await until(lambda: not one.keeps(session.id))
    await one.client.send(session.id, "Hello again")
    log = await one.client.settled(session.id)
    assert len(log.of("run_finished", state="COMPLETED")) == 2
