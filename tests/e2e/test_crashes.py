"""kill -9 of the orchestrator, the executor and both: runs go on where they were, and nothing happens twice."""

import asyncio
import signal

import pytest

from tests.e2e.scenes import journal, open_gate, question, running, settled, thinking, tool_step
from tests.e2e.services import LEASE_SECONDS, Services, answered
from tests.integration.orchestrator.client import Client, state, words

# What a loaded machine may add to what is promised: recovery within the lease and a second.
SLACK_SECONDS = 4.0


async def test_a_plan_waits_as_a_draft_over_a_crash_and_runs_once_it_is_approved(
    services: Services, client: Client
) -> None:
    session = await client.new_session()
    run = (await client.send(session.id, "Plan. It is long.", agent="auto")).run
    before = await client.asked(session.id)
    await services.orchestrator.kill()
    await services.orchestrator.start()
    after = await question(client, session.id)
    assert after == before
    plan = await client.get_plan(after.plan_id)
    assert (state(plan), plan.author) == ("DRAFT", "architect")
    assert {step.agent for step in await client.steps(run.id)} == {"orchestrator", "architect"}
    await client.decide(after, "APPROVE")
    log = await settled(client, session.id)
    assert log.session_states[-3:] == ["PLAN_REVIEW", "PLAN_EXECUTION", "COMPLETED"]
    assert state(await client.get_run(run.id)) == "COMPLETED"
    assert len(log.of("plan_state_changed", to_state="APPROVED")) == 1


async def test_steps_outlive_the_orchestrator_and_are_taken_over_not_started_again(
    services: Services, client: Client
) -> None:
    ended, running_on = await running(services, client), await running(services, client)
    model = await thinking(client)
    await services.orchestrator.kill()
    open_gate(ended[2])
    await services.orchestrator.start()
    async with asyncio.timeout(LEASE_SECONDS + 1 + SLACK_SECONDS):
        for session_id in (ended[0], model[0]):
            await settled(client, session_id)
    assert journal(running_on[2]) == ["begun"]
    open_gate(running_on[2])
    await settled(client, running_on[0])
    for _, run_id, workspace in (ended, running_on):
        step = await tool_step(client, run_id)
        assert (state(step), step.dispatch_number) == ("SUCCEEDED", 1)
        assert journal(workspace) == ["begun", "ended"]
    for _, run_id, *_ in (ended, running_on, model):
        assert state(await client.get_run(run_id)) == "COMPLETED"
    (reply,) = await client.steps(model[1])
    assert (reply.dispatch_number, reply.reply.text) == (1, "one two three four five six seven eight nine ten")


@pytest.mark.parametrize("killed", [("executor",), ("executor", "orchestrator")], ids=" and ".join)
async def test_what_died_with_the_executor_is_repeated_only_where_that_is_harmless(
    services: Services, client: Client, killed: tuple[str, ...]
) -> None:
    command_session, command_run, workspace = await running(services, client)
    writing = await client.new_session()
    writing_run = (await client.send(writing.id, "Write.")).run
    write = await client.asked(writing.id)
    thinking_session, thinking_run = await thinking(client)

    services.executor.send(signal.SIGSTOP)  # so that the write is sent to it and never done
    async with client.watch(writing.id) as watch:
        await client.decide(write, "APPROVE")
        await watch.until("step_started", tool="write_file")
    for name in killed:
        await getattr(services, name).kill()
    await services.start()

    for session_id, run_id in ((thinking_session, thinking_run), (writing.id, writing_run.id)):
        await settled(client, session_id)
        assert state(await client.get_run(run_id)) == "COMPLETED"
    (reply,) = await client.steps(thinking_run)
    assert (reply.dispatch_number, reply.faults, reply.losses) == (2, 0, 1)
    step = await tool_step(client, writing_run.id)
    assert (state(step), step.dispatch_number) == ("SUCCEEDED", 2)
    assert (services.workspace(writing.id) / "note.txt").read_text() == "written\n"

    doubt = await question(client, command_session)
    assert words(doubt)["kind"] == "IN_DOUBT"
    step = await tool_step(client, command_run)
    assert (state(step), step.failure.reason, step.dispatch_number) == ("IN_DOUBT", "IN_DOUBT", 1)
    assert len((await client.events(command_session)).of("step_finished", trigger="doubted")) == 1
    plan = await client.get_plan(doubt.plan_id)
    assert [state(each) for each in plan.subtasks] == ["RUNNING"]
    open_gate(workspace)  # the command may still run: nobody was left to end it
    await client.decide(doubt, "ABORT")
    await settled(client, command_session)
    assert state(await client.get_run(command_run)) == "CANCELLED"
    assert journal(workspace).count("begun") == 1


async def test_a_session_made_while_no_executor_was_there_has_its_files_once_one_is(
    services: Services, client: Client
) -> None:
    await asyncio.gather(services.executor.kill(), services.orchestrator.kill())
    await services.orchestrator.start()
    session = await answered(client.new_session)
    run = (await client.send(session.id, "Write.")).run
    await services.executor.start()
    await client.decide(await question(client, session.id), "APPROVE")
    await settled(client, session.id)
    assert state(await client.get_run(run.id)) == "COMPLETED"
    assert (services.workspace(session.id) / "note.txt").read_text() == "written\n"
