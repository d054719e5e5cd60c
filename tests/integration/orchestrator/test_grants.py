"""Grants over gRPC and HTTP: made by a decision, listed, used, counted, revoked, at whichever replica."""

import asyncio
import json
import uuid
from typing import Any

import grpc
import httpx
import pytest

from gen.assent.v1 import approval_service_pb2 as pb
from gen.assent.v1.grant_pb2 import Grant
from gen.assent.v1.run_service_pb2 import GetRunReportRequest
from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.answers import Answer
from orchestrator.store.writer import Writer
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, state
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

ARGUMENTS = '{"id":  1234567890123456789}'
REMEMBER: dict[str, Any] = {"lifetime": {"seconds": 600}}


@pytest.fixture(autouse=True)
def puts(executor: ScriptedExecutor) -> None:
    """Whoever is asked something puts the same thing; the tool, which policy asks about, does it at once."""
    play = calls("put", ARGUMENTS)

    def put(act: Act) -> None:
        if act.tool == "put":
            act.returns("put")
        else:
            play(act)

    executor.play = put


async def asked(client: Client, session_id: str = "") -> Any:
    session_id = session_id or (await client.new_session()).id
    await client.send(session_id)
    return await client.asked(session_id)


async def granted(client: Client, **remember: Any) -> Grant:
    """A session in which the call has been remembered, and its first run is over."""
    approval = await asked(client)
    await client.decide(approval, "APPROVE", remember={**REMEMBER, **remember})
    await client.settled(approval.session_id)
    (grant,) = await listed(client, approval.session_id)
    return grant


async def listed(client: Client, session_id: str, **more: Any) -> list[Grant]:
    request = pb.ListGrantsRequest(session_id=session_id, **more)
    return list((await client.call(client.approvals.ListGrants, request)).grants)


async def revoke(client: Client, grant_id: str, reason: str = "enough", request_id: str = "") -> Grant:
    request = pb.RevokeGrantRequest(grant_id=grant_id, reason=reason, request_id=request_id)
    grant: Grant = (await client.call(client.approvals.RevokeGrant, request)).grant
    return grant


async def test_a_yes_that_is_remembered_lets_the_same_call_run_again_without_anybody_asked(client: Client) -> None:
    approval = await asked(client)
    assert approval.may_remember
    decided = await client.decide(approval, "APPROVE", remember=REMEMBER)
    (grant,) = await listed(client, approval.session_id)
    assert (grant.id, grant.approval_id, grant.creator) == (decided.decision.grant_id, approval.id, "developer")
    assert (grant.tool, grant.policy_rule, grant.uses) == ("put", "default-ask", 0)
    assert grant.constraint.startswith('arguments_sha256 == "')
    assert grant.expire_time.seconds - grant.create_time.seconds == 600
    assert decided.decision.remember.lifetime.seconds == 600
    await client.settled(approval.session_id)

    run = (await client.send(approval.session_id)).run
    log = await client.settled(approval.session_id)
    assert state(await client.get_run(run.id)) == "COMPLETED"
    (step,) = [s for s in await client.steps(run.id) if s.tool]
    assert (state(step), step.grant_id, step.approval_id) == ("SUCCEEDED", grant.id, "")
    assert [e.get("grant_id", "") for e in log.of("step_started", tool="put")] == ["", grant.id]
    assert [(e["trigger"], e["actor"]) for e in log.of("grant_changed")] == [("made", "developer")]
    assert len(log.of("approval_requested")) == 1
    assert (await listed(client, approval.session_id))[0].uses == 1
    report = (await client.call(client.runs.GetRunReport, GetRunReportRequest(run_id=run.id))).report
    assert [g.id for g in report.grants] == [grant.id]
    assert f"- `put`, 1 call: granted by developer, where `{grant.constraint}`" in report.markdown


async def test_a_constraint_lets_other_arguments_through_and_is_exact_about_large_numbers(
    client: Client, executor: ScriptedExecutor
) -> None:
    grant = await granted(client, constraint="arguments.id > 1234567890123456788 && arguments.id < 1234567890123456791")
    for number, is_allowed in ((1234567890123456790, True), (1234567890123456791, False)):
        executor.play = calls("put", json.dumps({"id": number}))
        await client.send(grant.session_id)
        if is_allowed:
            (await executor.next(tool="put")).returns()
        log = await client.settled(grant.session_id)
        assert bool(log.of("step_started", arguments_json=json.dumps({"id": number}))) == is_allowed
    assert [g.uses for g in await listed(client, grant.session_id)] == [1]


async def test_a_grant_means_its_own_session_only(client: Client) -> None:
    await granted(client)
    assert (await asked(client)).tool == "put"


async def test_after_it_was_revoked_the_call_is_asked_about_again(client: Client) -> None:
    grant = await granted(client)
    revoked = await revoke(client, grant.id)
    assert (revoked.revoker, revoked.revoke_reason, revoked.HasField("end_time")) == ("developer", "enough", True)
    assert (await asked(client, grant.session_id)).tool == "put"
    (event,) = (await client.events(grant.session_id)).of("grant_changed", trigger="revoked")
    assert (event["actor"], event["grant"].revoke_reason) == ("developer", "enough")
    assert await listed(client, grant.session_id) == [revoked]


async def test_converse_remembers_too(client: Client) -> None:
    approval = await asked(client)
    said = {"approval_id": approval.id, "action": 1, "digest": approval.digest, "remember": REMEMBER}
    log = await client.converse(approval.session_id, tool_decision=said)
    assert log.names[:2] == ["approval_resolved", "grant_changed"]
    (grant,) = await listed(client, approval.session_id)
    assert grant.approval_id == approval.id


# What is wrong with it


@pytest.mark.parametrize(
    ("action", "said", "reason"),
    [
        ("REJECT", {}, "INVALID_REQUEST"),
        ("ABORT", {}, "INVALID_REQUEST"),
        ("RESPOND", {"response_json": '"done"'}, "INVALID_REQUEST"),
        ("EDIT", {"edited_arguments_json": "{}"}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"lifetime": {"seconds": 2592001}}}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"lifetime": {"nanos": 1}}}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"constraint": "x" * 4097}}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"constraint": "true"}}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"constraint": "arguments.id =="}}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"constraint": "arguments.id == 7"}}, "INVALID_REQUEST"),
        ("APPROVE", {"remember": {"constraint": "arguments.name == 'x'"}}, "INVALID_REQUEST"),
    ],
)
async def test_a_wish_that_will_not_do_decides_nothing_and_is_on_record(
    client: Client, tables: Tables, action: str, said: dict[str, Any], reason: str
) -> None:
    approval = await asked(client)
    await all_let_go()
    before = await tables.counts()
    problem = await client.refusal(client.decide(approval, action, **{"remember": REMEMBER, **said}))
    assert problem.reason == reason
    assert [field.field.split(".")[0] for field in problem.fields] == ["remember"]
    assert await tables.counts() == {**before, "audit": before["audit"] + 1}
    assert state((await client.pending(approval.session_id))[0]) == "PENDING"


async def test_what_must_not_run_twice_cannot_be_remembered_unless_the_policy_says_so(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    executor.play = calls("send_mail")
    approval = await asked(client)
    assert not approval.may_remember
    problem = await client.refusal(client.decide(approval, "APPROVE", remember=REMEMBER))
    assert (problem.reason, problem.code) == ("GRANT_NOT_OFFERED", grpc.StatusCode.FAILED_PRECONDITION)
    assert (await tables.counts())["audit"] == 1
    await client.decide(approval, "APPROVE")


async def test_what_is_not_there_is_not_found_and_what_has_ended_says_so(client: Client, tables: Tables) -> None:
    grant = await granted(client)
    eve = client.acting_as("eve", tenant="other")
    await revoke(client, grant.id)
    await all_let_go()
    before = await tables.counts()
    for ask, reason in (
        (revoke(eve, grant.id), "GRANT_NOT_FOUND"),
        (revoke(client, str(uuid.uuid4())), "GRANT_NOT_FOUND"),
        (listed(eve, grant.session_id), "SESSION_NOT_FOUND"),
        (listed(client, str(uuid.uuid4())), "SESSION_NOT_FOUND"),
        (revoke(client, grant.id), "WRONG_STATE"),
        (revoke(client, grant.id, "x" * 4097), "INVALID_REQUEST"),
        (listed(client, grant.session_id, page_token="nonsense"), "INVALID_PAGE_TOKEN"),
    ):
        assert (await client.refusal(ask)).reason == reason
    problem = await client.refusal(revoke(client, grant.id))
    assert (problem.metadata["state"], problem.metadata["accepting"]) == ("REVOKED", "STANDING")
    assert await tables.counts() == before


async def test_in_a_closed_session_a_grant_can_still_be_revoked_and_listed(client: Client) -> None:
    grant = await granted(client)
    await client.close(grant.session_id)
    assert (await revoke(client, grant.id)).revoker == "developer"
    assert (await listed(client, grant.session_id))[0].revoker == "developer"
    assert (await client.settled(grant.session_id)).names[-1] == "settled"


async def test_lists_are_paged_newest_first(client: Client) -> None:
    session = await client.new_session()
    for _ in range(3):
        approval = await asked(client, session.id)
        await client.decide(approval, "APPROVE", remember=REMEMBER)
        await client.settled(session.id)
        (newest, *_) = await listed(client, session.id)
        await revoke(client, newest.id)
    whole = await listed(client, session.id)
    assert len(whole) == 3
    assert [g.create_time.ToMicroseconds() for g in whole] == sorted(
        (g.create_time.ToMicroseconds() for g in whole), reverse=True
    )
    first = await client.call(client.approvals.ListGrants, pb.ListGrantsRequest(session_id=session.id, page_size=2))
    rest = await listed(client, session.id, page_size=2, page_token=first.next_page_token)
    assert [*first.grants, *rest] == whole


# Repeats and races


async def test_a_decision_and_a_revocation_whose_answers_got_lost_are_found_by_their_request_ids(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Writer.write
    approval = await asked(client)
    made, ended = str(uuid.uuid4()), str(uuid.uuid4())

    async def write_and_lose(self: Writer, change_set: ChangeSet, **more: str) -> Answer:
        answer = await write(self, change_set, **more)
        if more["operation"] in ("DecideApproval", "RevokeGrant"):
            raise StorageUnavailable("the answer is lost")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", write_and_lose)
        lost = client.decide(approval, "APPROVE", remember=REMEMBER, request_id=made)
        assert (await client.refusal(lost)).reason == "STORAGE_UNAVAILABLE"
    decided = await client.decide(approval, "APPROVE", remember=REMEMBER, request_id=made)
    (grant,) = await listed(client, approval.session_id)
    assert decided.decision.grant_id == grant.id
    assert (await client.decide(approval, "APPROVE", remember=REMEMBER)).decision.grant_id == grant.id  # without an id
    other = client.decide(approval, "APPROVE", request_id=made)
    assert (await client.refusal(other)).reason == "REQUEST_ID_REUSED"
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", write_and_lose)
        assert (await client.refusal(revoke(client, grant.id, request_id=ended))).reason == "STORAGE_UNAVAILABLE"
    revoked = await revoke(client, grant.id, request_id=ended)
    assert await listed(client, approval.session_id) == [revoked]
    log = await client.events(approval.session_id)
    assert [e["trigger"] for e in log.of("grant_changed")] == ["made", "revoked"]


async def test_of_two_who_revoke_at_two_replicas_one_does(replicas: Replicas, executor: ScriptedExecutor) -> None:
    started = [(await replicas.start()).client for _ in range(2)]
    await executor.joined(2)
    for _ in range(5):
        grant = await granted(started[0])
        came = await asyncio.gather(*(revoke(client, grant.id) for client in started), return_exceptions=True)
        (refused,) = [c for c in came if isinstance(c, Problem)]
        assert (refused.reason, refused.metadata["state"]) == ("WRONG_STATE", "REVOKED")
        log = await started[0].events(grant.session_id)
        assert len(log.of("grant_changed", trigger="revoked")) == 1


async def test_a_revocation_that_races_a_call_comes_before_it_or_after_it_and_never_between(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    one, other = [(await replicas.start()).client for _ in range(2)]
    await executor.joined(2)
    for _ in range(10):
        grant = await granted(one)
        session_id = grant.session_id
        before = (await one.get_session(session_id)).last_sequence
        await asyncio.gather(one.send(session_id), revoke(other, grant.id))
        log = await one.settled(session_id, before)
        names = [n for n in log.names if n in ("grant_changed", "approval_requested")]
        started = log.of("step_started", tool="put")
        if started:  # the call was first, or at least its dispatch
            assert names == ["grant_changed"]
            order = [n for n in log.names if n in ("grant_changed", "step_started")]
            assert order.index("grant_changed") > 0
            assert started[0]["grant_id"] == grant.id
        else:
            assert names == ["grant_changed", "approval_requested"]


# Over HTTP


async def test_grants_over_http(client: Client, http: httpx.AsyncClient) -> None:
    approval = await asked(client)
    body = {"action": "DECISION_ACTION_APPROVE", "digest": approval.digest, "remember": {"lifetime": "600s"}}
    decided = await http.post(f"/v1/approvals/{approval.id}:decide", json=body)
    grant_id = decided.json()["decision"]["grantId"]
    page = (await http.get(f"/v1/sessions/{approval.session_id}/grants")).json()
    assert [(g["id"], g["uses"], g["tool"]) for g in page["grants"]] == [(grant_id, "0", "put")]
    revoked = await http.post(f"/v1/grants/{grant_id}:revoke", json={"reason": "enough"})
    assert (revoked.status_code, revoked.json()["revokeReason"]) == (200, "enough")
    again = await http.post(f"/v1/grants/{grant_id}:revoke", json={})
    assert (again.status_code, again.json()["details"][0]["reason"]) == (400, "WRONG_STATE")
