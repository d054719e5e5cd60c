"""A call that may have happened waits for a person: exactly one answer wins, and it is done again only by a RETRY."""

import asyncio
import shutil
import uuid
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from gen.assent.v1 import approval_pb2, approval_service_pb2
from orchestrator.domain import outcomes
from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.starting import OVERDUE_GRACE
from orchestrator.settings import SHIPPED_CATALOG
from orchestrator.store.answers import Answer
from orchestrator.store.writer import Writer
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state, words
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, Tables
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

ANSWERS: dict[str, dict[str, Any]] = {"RESPOND": {"response_json": '{"sent": true}'}, "RETRY": {}, "REJECT": {}}


async def doubt(client: Client, executor: ScriptedExecutor) -> approval_pb2.Approval:
    executor.play = calls("send_mail", '{"to": "bob"}')
    session = await client.new_session()
    await client.send(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    await executor.next(tool="send_mail")
    executor.die()
    async with client.watch(session.id) as watch:
        await watch.until("step_finished", trigger="doubted")
    return await client.asked(session.id)


@pytest.fixture
async def quick(
    replicas: Replicas, executor: ScriptedExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Client:
    """Calls whose deadline is soon over, and surely."""
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    with (tmp_path / "catalog/agents/coder.yaml").open("a") as agent:
        agent.write("limits: {tool_timeout_seconds: 0.05}\n")
    monkeypatch.setattr(outcomes, "OVERDUE_GRACE", 0)
    client = (await replicas.start(catalog_dir=tmp_path / "catalog")).client
    await executor.joined()
    return client


async def test_a_person_says_what_it_came_to_and_the_conversation_goes_on(
    client: Client, executor: ScriptedExecutor
) -> None:
    asked = await doubt(client, executor)
    decided = await client.acting_as("alice").decide(asked, "RESPOND", response_json='{"sent": true}')
    assert (decided.decision.decider, decided.decision.response_json) == ("alice", '{"sent": true}')
    log = await client.settled(asked.session_id)
    (step,) = [s for s in await client.steps(asked.run_id) if s.tool]
    assert (state(step), step.result.content) == ("SUCCEEDED", '{"sent": true}')
    assert [e["actor"] for e in log.of("step_finished", trigger="responded")] == ["alice"]
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.starts_of(tool="send_mail")) == 1


async def test_a_retry_is_dispatched_once_under_the_next_number(quick: Client, executor: ScriptedExecutor) -> None:
    asked = await doubt(quick, executor)
    await quick.decide(asked, "RETRY")
    act = await executor.next(tool="send_mail")
    assert (act.step_id, act.number, act.start.tool.arguments_json) == (asked.step_id, 2, '{"to": "bob"}')
    assert act.start.tool.approval_preimage == asked.preimage
    act.returns("sent")
    log = await quick.settled(asked.session_id)
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert len(executor.starts_of(tool="send_mail")) == 2


async def test_a_retry_waits_for_the_end_of_the_old_call(client: Client, executor: ScriptedExecutor) -> None:
    asked = await doubt(client, executor)
    await client.decide(asked, "RETRY")
    (step,) = [s for s in await client.steps(asked.run_id) if s.tool]
    assert state(step) == "APPROVED"
    assert step.not_before_time.ToMicroseconds() == step.deadline_time.ToMicroseconds() + OVERDUE_GRACE
    session = await client.get_session(asked.session_id)
    assert session.due_time == step.not_before_time
    assert not session.settled
    assert len(executor.starts_of(tool="send_mail")) == 1


@pytest.mark.parametrize(("one", "other"), [("RESPOND", "RETRY"), ("RETRY", "REJECT"), ("REJECT", "RESPOND")])
async def test_of_two_answers_at_once_one_wins(
    client: Client, executor: ScriptedExecutor, tables: Tables, one: str, other: str
) -> None:
    for _ in range(3):
        asked = await doubt(client, executor)
        came = await asyncio.gather(
            client.acting_as("alice").decide(asked, one, **ANSWERS[one]),
            client.acting_as("bob").decide(asked, other, **ANSWERS[other]),
            return_exceptions=True,
        )
        (refused,) = [c for c in came if isinstance(c, Problem)]
        (won,) = [c for c in came if isinstance(c, approval_pb2.Approval)]
        assert refused.reason == "APPROVAL_ALREADY_RESOLVED"
        assert refused.metadata["decider"] == won.decision.decider
        log = await client.events(asked.session_id)
        assert len(log.of("approval_resolved", kind="IN_DOUBT")) == 1
        if words(won.decision)["action"] == "RETRY":  # it waits for the end of the old call
            await client.cancel(asked.run_id)
        await client.settled(asked.session_id)
    assert (await tables.counts())["audit"] == 3


async def test_what_is_wrong_with_an_answer_changes_nothing(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    asked = await doubt(client, executor)
    before = await tables.counts()
    wrong: list[tuple[Awaitable[Any], str]] = [
        (client.decide(asked, "RETRY", digest="0" * 64), "DIGEST_MISMATCH"),
        (client.decide(asked, "APPROVE"), "ACTION_NOT_ALLOWED"),
        (client.decide(asked, "RESPOND"), "INVALID_REQUEST"),
        (client.decide(asked, "RESPOND", response_json="sent"), "INVALID_JSON"),
        (client.decide(asked, "RESPOND", response_json='{"a":1,"a":2}'), "INVALID_JSON"),
        (client.decide(asked, "RETRY", response_json="1"), "INVALID_REQUEST"),
        (client.acting_as("eve", tenant="other").decide(asked, "RETRY"), "APPROVAL_NOT_FOUND"),
    ]
    for answer, reason in wrong:
        assert (await client.refusal(answer)).reason == reason
    after = await tables.counts()
    assert after.pop("audit") == before.pop("audit") + len(wrong)
    assert after == before
    assert [a.id for a in await client.pending(asked.session_id)] == [asked.id]


@pytest.mark.parametrize("action", ANSWERS)
async def test_a_repeat_is_answered_alike_and_done_once(
    client: Client, executor: ScriptedExecutor, action: str
) -> None:
    asked = await doubt(client, executor)
    request_id = str(uuid.uuid4())
    first = await client.decide(asked, action, request_id=request_id, **ANSWERS[action])
    assert await client.decide(asked, action, request_id=request_id, **ANSWERS[action]) == first
    again = await client.decide(asked, action, **ANSWERS[action])  # the same person, the same answer, a new request
    assert again.decision == first.decision
    assert len((await client.events(asked.session_id)).of("approval_resolved", kind="IN_DOUBT")) == 1
    other = {"response_json": '"other"'} if action == "RESPOND" else {"feedback": "other"}
    problem = await client.refusal(client.decide(asked, action, **other))
    assert problem.reason == "APPROVAL_ALREADY_RESOLVED"


async def test_an_answer_that_got_lost_is_found_by_its_request_id(
    client: Client, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = await doubt(client, executor)
    write = Writer.write

    async def write_and_lose(self: Writer, change_set: ChangeSet, **more: str) -> Answer:
        answer = await write(self, change_set, **more)
        if more["operation"] == "DecideApproval":
            raise StorageUnavailable("the answer is lost")
        return answer

    request_id = str(uuid.uuid4())
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", write_and_lose)
        lost = await client.refusal(client.decide(asked, "RESPOND", response_json='"sent"', request_id=request_id))
    assert (lost.reason, lost.metadata["request_id"]) == ("STORAGE_UNAVAILABLE", request_id)
    found = await client.decide(asked, "RESPOND", response_json='"sent"', request_id=request_id)
    assert found.decision.response_json == '"sent"'
    log = await client.settled(asked.session_id)
    assert len(log.of("step_finished", trigger="responded")) == 1
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_cancel_closes_the_question(client: Client, executor: ScriptedExecutor) -> None:
    asked = await doubt(client, executor)
    await client.cancel(asked.run_id)
    request = approval_service_pb2.GetApprovalRequest(approval_id=asked.id)
    assert state((await client.call(client.approvals.GetApproval, request)).approval) == "CANCELLED"
    (step,) = [s for s in await client.steps(asked.run_id) if s.tool]
    assert (state(step), "not known" in step.result.content) == ("CANCELLED", True)
    problem = await client.refusal(client.decide(asked, "RETRY"))
    assert problem.reason == "APPROVAL_ALREADY_RESOLVED"


async def test_converse_decides_about_a_doubt(client: Client, executor: ScriptedExecutor) -> None:
    asked = await doubt(client, executor)
    decision = {
        "approval_id": asked.id,
        "action": approval_pb2.DECISION_ACTION_RESPOND,
        "digest": asked.digest,
        "response_json": '"sent"',
    }
    log = await client.converse(asked.session_id, tool_decision=decision)
    assert [e["output_preview"] for e in log.of("step_finished", trigger="responded")] == ["sent"]
    assert log.session_states[-1] == "COMPLETED"
