"""Pause, resume, cancel, close, interrupt: repeated, with lost answers, by strangers, by many at once."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from rpc import failpoints
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import answers, calls
from tests.integration.orchestrator.replica import Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

NOBODY = "00000000-0000-7000-8000-000000000000"
WROTE = ("session", "message", "run", "plan", "request", "sequences")


@dataclass(frozen=True)
class Waiting:
    """A session whose run waits for a decision, so that nothing moves by itself."""

    session_id: str
    run_id: str


Steer = Callable[[Client, Waiting, str], Awaitable[Any]]
STEERS: dict[str, Steer] = {
    "pause": lambda c, w, r: c.pause(w.run_id, request_id=r),
    "resume": lambda c, w, r: c.resume(w.run_id, request_id=r),
    "cancel": lambda c, w, r: c.cancel(w.run_id, request_id=r),
    "close": lambda c, w, r: c.close(w.session_id, request_id=r),
    "interrupt": lambda c, w, r: c.send(w.session_id, "no", request_id=r),
}
OTHERWISE: dict[str, Steer] = {  # the same with other content
    "pause": lambda c, w, r: c.pause(w.run_id, request_id=r, reason="other"),
    "resume": lambda c, w, r: c.resume(w.run_id, request_id=r, reason="other"),
    "cancel": lambda c, w, r: c.cancel(w.run_id, request_id=r, reason="other"),
    "close": lambda c, w, r: c.close(w.session_id, request_id=r, reason="other"),
    "interrupt": lambda c, w, r: c.send(w.session_id, "other", request_id=r),
}
each_steer = pytest.mark.parametrize("what", STEERS)


async def waiting(client: Client, what: str) -> Waiting:
    session = await client.new_session(settings={"when_busy": 3})
    plan = await client.new_plan(session.id)
    await client.asked(session.id)
    if what == "resume":
        await client.pause(plan.run_id)
    return Waiting(session.id, plan.run_id)


def new_request() -> str:
    return str(uuid.uuid4())


async def written(tables: Tables) -> dict[str, int]:
    counts = await tables.counts()
    return {name: counts[name] for name in WROTE}


@pytest.fixture
async def disarmed() -> AsyncIterator[None]:
    yield
    failpoints.disarm()


@each_steer
async def test_a_repeat_gets_the_same_answer_and_changes_nothing(client: Client, tables: Tables, what: str) -> None:
    at, request_id = await waiting(client, what), new_request()
    first = await STEERS[what](client, at, request_id)
    before = await written(tables)
    assert await STEERS[what](client, at, request_id) == first
    problem = await client.refusal(OTHERWISE[what](client, at, request_id))
    assert problem.reason == "REQUEST_ID_REUSED"
    after = await written(tables)
    assert {**after, "sequences": 0} == {**before, "sequences": 0}
    assert what == "interrupt" or after == before  # there the new run goes on


@each_steer
@pytest.mark.parametrize("where", ["commit.command.before", "commit.command.after"])
async def test_an_answer_of_the_database_that_was_lost_changes_nothing_for_the_caller(
    client: Client, tables: Tables, disarmed: None, what: str, where: str
) -> None:
    at = await waiting(client, what)
    before = await written(tables)
    failpoints.arm(f"{where}:1:lose")
    request_id = new_request()
    answer = await STEERS[what](client, at, request_id)
    assert len(failpoints.fired) == 1
    assert await STEERS[what](client, at, request_id) == answer
    after = await written(tables)
    assert after["request"] == before["request"] + 1
    assert after["run"] == before["run"] + (what == "interrupt")
    log = await client.events(at.session_id)
    assert log.sequences == list(range(1, len(log) + 1))


@each_steer
async def test_another_tenants_runs_and_sessions_are_not_found(client: Client, tables: Tables, what: str) -> None:
    at = await waiting(client, what)
    before = await written(tables)
    problem = await client.refusal(STEERS[what](client.acting_as("mallory", tenant="elsewhere"), at, new_request()))
    assert problem.reason == ("SESSION_NOT_FOUND" if what in ("close", "interrupt") else "RUN_NOT_FOUND")
    assert (await client.refusal(STEERS[what](client, Waiting(NOBODY, NOBODY), new_request()))).reason == problem.reason
    assert await written(tables) == before


@each_steer
async def test_duplicates_at_the_same_moment_have_one_effect(replicas: Replicas, tables: Tables, what: str) -> None:
    clients = [(await replicas.start()).client for _ in range(2)]
    for _ in range(4):
        at, request_id = await waiting(clients[0], what), new_request()
        before = await written(tables)
        asked = [STEERS[what](client, at, request_id) for client in clients for _ in range(4)]
        first, *rest = await asyncio.gather(*asked)
        assert all(answer == first for answer in rest)
        assert (await written(tables))["request"] == before["request"] + 1


@pytest.mark.parametrize("what", [what for what in STEERS if what != "interrupt"])
async def test_of_many_who_want_the_same_at_once_one_does_it(replicas: Replicas, what: str) -> None:
    clients = [(await replicas.start()).client for _ in range(2)]
    for _ in range(4):
        at = await waiting(clients[0], what)
        asked = [STEERS[what](client, at, new_request()) for client in clients for _ in range(3)]
        answers_ = await asyncio.gather(*asked, return_exceptions=True)
        refused = [a for a in answers_ if isinstance(a, BaseException)]
        assert len(refused) == len(asked) - 1
        assert {a.reason for a in refused if isinstance(a, Problem)} == {"WRONG_STATE"}


async def test_whatever_is_wanted_at_once_the_run_comes_to_an_end_that_its_log_tells(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    executor.play = answers
    clients = [(await replicas.start(lease_renew_seconds=0.1)).client for _ in range(2)]
    for _ in range(6):
        session = await clients[0].new_session()
        plan = await clients[0].new_plan(session.id)
        approval = await clients[0].asked(session.id)
        run_id = plan.run_id
        asked = [
            clients[0].decide(approval, "APPROVE"),
            clients[1].pause(run_id),
            clients[0].resume(run_id),
            clients[1].pause(run_id),
            clients[0].send(session.id, "next"),
            clients[1].resume(run_id),
        ]
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            assert not isinstance(answer, Exception) or getattr(answer, "reason", "") == "WRONG_STATE", answer
        await clients[0].settled(session.id)
        if state(await clients[0].get_run(run_id)) == "PAUSED":
            await clients[1].resume(run_id)
        log = await clients[0].settled(session.id)
        assert log.sequences == list(range(1, len(log.sequences) + 1))
        assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED", "COMPLETED"]
        changed = log.of("run_state_changed", run_id=run_id)
        for before, after in pairwise(changed):
            assert before["to_state"] == after["from_state"]
    await all_let_go()


@pytest.mark.parametrize("what", ["cancel", "close", "interrupt"])
async def test_what_ends_a_run_whose_owner_has_died_reaches_its_calls_and_the_session_goes_on(
    replicas: Replicas, executor: ScriptedExecutor, what: str
) -> None:
    first = await replicas.start(lease_seconds=1.0, lease_renew_seconds=0.2)
    other = await replicas.start(lease_seconds=1.0, lease_renew_seconds=0.2)
    await executor.joined(2)
    session = await first.client.new_session(settings={"when_busy": 3 if what == "interrupt" else 2})
    run = (await first.client.send(session.id)).run
    (await executor.next()).says("Two.", ("look", "{}"), ("send_mail", "{}"))
    act = await executor.next(tool="look")
    await first.crash()

    await STEERS[what](other.client, Waiting(session.id, run.id), new_request())
    await executor.heard("cancel", act.step_id)
    act.returns("too late")
    if what != "close":
        again = (await other.client.send(session.id, "again")).run
        while (act := await executor.next()).start.run_id != again.id:
            pass
        act.says("answered")
        await other.client.settled(session.id)
        assert state(await other.client.get_run(again.id)) == "COMPLETED"
    log = await other.client.settled(session.id)
    assert [e["state"] for e in log.of("run_finished", run_id=run.id)] == ["CANCELLED"]
    assert [e["state"] for e in log.of("step_finished", run_id=run.id, kind="TOOL")] == ["CANCELLED", "CANCELLED"]
    assert log.sequences == list(range(1, len(log.sequences) + 1))
    assert not executor.starts_of(tool="send_mail")


async def test_a_cancel_and_an_approval_at_once_start_the_call_once_or_never(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    one, other = [(await replicas.start(lease_renew_seconds=0.1)).client for _ in range(2)]
    for _ in range(6):
        session = await one.new_session()
        run = (await one.send(session.id)).run
        approval = await one.asked(session.id)
        cancelled, decided = await asyncio.gather(
            one.cancel(run.id), other.decide(approval, "APPROVE"), return_exceptions=True
        )
        assert not isinstance(cancelled, BaseException)
        log = await one.settled(session.id)
        assert [e["state"] for e in log.of("step_finished", tool="send_mail")] == ["CANCELLED"]
        assert len(log.of("step_started", tool="send_mail")) <= (not isinstance(decided, BaseException))
        for act in executor.starts_of(tool="send_mail"):
            await executor.heard("cancel", act.step_id)
    await all_let_go()
