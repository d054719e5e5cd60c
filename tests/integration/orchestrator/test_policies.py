"""Policies over gRPC, HTTP and at work: a session's own, read, explained; and the catalog of a restart judges again."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from gen.assent.v1 import catalog_service_pb2 as pb
from gen.assent.v1 import policy_pb2
from orchestrator.settings import SHIPPED_CATALOG
from tests.integration.orchestrator.client import Client
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import Act, ScriptedExecutor

STRICT = """
name: strict
description: Two say yes to an order, and none is over a hundred.
terms:
  PLAN: {roles: [lead]}
rules:
  - {name: too-much, effect: DENY, tools: [put], condition: arguments.amount > 100, reason: it is too much}
  - {name: orders, effect: ASK, tools: [put], roles: [buyer], quorum: 2, wait: 2h, on_expiry: DENY}
"""
CLOSED = """
name: default
rules:
  - {name: closed, effect: DENY, tools: [put], reason: nothing is put today}
"""


@pytest.fixture(autouse=True)
def puts(executor: ScriptedExecutor) -> None:
    """Whoever is asked something puts something; the tool does it at once."""
    play = calls("put", '{"amount": 7}')

    def put(act: Act) -> None:
        if act.tool == "put":
            act.returns("put")
        else:
            play(act)

    executor.play = put


@pytest.fixture
def catalog_dir(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    (tmp_path / "catalog" / "policies" / "strict.yaml").write_text(STRICT)
    return tmp_path / "catalog"


@pytest.fixture
async def client(replicas: Replicas, executor: ScriptedExecutor, catalog_dir: Path) -> Client:
    replica = await replicas.start(catalog_dir=catalog_dir)
    await executor.joined()
    await replica.client.knows_tool("put")
    return replica.client


async def explained(client: Client, **asked: Any) -> pb.ExplainPolicyResponse:
    answer: pb.ExplainPolicyResponse = await client.call(
        client.catalog.ExplainPolicy, pb.ExplainPolicyRequest(**{"tool": "put", **asked})
    )
    return answer


async def test_a_session_is_judged_by_the_policy_it_names_and_others_by_the_default(client: Client) -> None:
    strict, plain = await client.new_session(settings={"policy": "strict"}), await client.new_session()
    assert (strict.policy, plain.policy) == ("strict", "")
    for session, rule, roles, quorum in ((strict, "orders", ["buyer"], 2), (plain, "default-ask", [], 1)):
        await client.send(session.id)
        approval = await client.asked(session.id)
        assert approval.policy_rule == rule
        assert (list(approval.terms.roles), approval.terms.quorum) == (roles, quorum)
        assert approval.HasField("expire_time") == (rule == "orders")


async def test_a_policy_that_is_not_there_is_refused_by_name(client: Client, tables: Tables) -> None:
    before = await tables.counts()
    problem = await client.refusal(client.new_session(settings={"policy": "lenient"}))
    assert (problem.reason, [name for name, _ in problem.fields]) == ("POLICY_NOT_FOUND", ["settings.policy"])
    assert "careful, default, strict" in problem.fields[0][1]
    after = await tables.counts()
    assert after["session"] == before["session"]


async def test_policies_are_listed_and_read_whole(client: Client) -> None:
    listed = await client.call(client.catalog.ListPolicies, pb.ListPoliciesRequest())
    assert [policy.name for policy in listed.policies] == ["careful", "default", "strict"]
    strict = (await client.call(client.catalog.GetPolicy, pb.GetPolicyRequest(name="strict"))).policy
    assert strict == listed.policies[2]
    too_much, orders = strict.rules
    assert (too_much.effect, too_much.condition) == (policy_pb2.POLICY_EFFECT_DENY, "arguments.amount > 100")
    assert not too_much.HasField("terms")
    assert (list(orders.terms.roles), orders.terms.quorum, orders.terms.wait.seconds) == (["buyer"], 2, 7200)
    assert [(kind.kind, list(kind.terms.roles)) for kind in strict.terms] == [(1, ["lead"])]
    for name, digest in (("lenient", ""), ("strict", "0" * 64)):
        problem = await client.refusal(
            client.call(client.catalog.GetPolicy, pb.GetPolicyRequest(name=name, digest=digest))
        )
        assert problem.reason == "POLICY_NOT_FOUND"


async def test_a_call_is_explained_rule_by_rule(client: Client) -> None:
    told = await explained(client, policy="strict", agent="coder", arguments_json='{"amount": 7}')
    assert (told.effect, told.rule, told.policy) == (policy_pb2.POLICY_EFFECT_ASK, "orders", "strict")
    assert [(v.rule, v.applies, v.reason) for v in told.verdicts] == [
        ("agent", False, "agent 'coder' may use put"),
        ("too-much", False, "its condition does not hold"),
        ("orders", True, "all it names fits"),
    ]
    assert (list(told.terms.roles), told.may_remember) == (["buyer"], False)
    denied = await explained(client, policy="strict", arguments_json='{"amount": 1e300}')
    assert (denied.effect, denied.HasField("terms")) == (policy_pb2.POLICY_EFFECT_DENY, False)
    assert "cannot be evaluated" in denied.verdicts[-1].reason


async def test_a_call_is_explained_as_a_session_would_judge_it_with_its_grants(client: Client) -> None:
    session = await client.new_session()
    await client.send(session.id)
    approval = await client.asked(session.id)
    asked = {"session_id": session.id, "agent": "coder", "arguments_json": approval.arguments_json}
    assert (await explained(client, **asked)).effect == policy_pb2.POLICY_EFFECT_ASK
    await client.decide(approval, "APPROVE", remember={"lifetime": {"seconds": 600}})
    told = await explained(client, **asked)
    assert (told.effect, told.rule) == (policy_pb2.POLICY_EFFECT_ALLOW, "default-ask")
    assert told.grant_id
    other = await explained(client, **{**asked, "session_id": (await client.new_session()).id})
    assert (other.effect, other.grant_id) == (policy_pb2.POLICY_EFFECT_ASK, "")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"policy": "lenient"}, "POLICY_NOT_FOUND"),
        ({"digest": "0" * 64}, "POLICY_NOT_FOUND"),
        ({"session_id": "01a1f7b2-6eee-7b19-a57d-0f7bc8bd9e81"}, "SESSION_NOT_FOUND"),
        ({"agent": "nobody"}, "AGENT_NOT_FOUND"),
        ({"arguments_json": "{"}, "INVALID_JSON"),
        ({"arguments_json": '{"a": 1, "a": 2}'}, "INVALID_JSON"),
    ],
)
async def test_what_cannot_be_explained_is_refused_with_its_reason(
    client: Client, asked: dict[str, Any], reason: str
) -> None:
    assert (await client.refusal(explained(client, **asked))).reason == reason


async def waiting_approved(client: Client, executor: ScriptedExecutor, **settings: Any) -> str:
    """A session whose call is approved while nobody can perform it."""
    session = await client.new_session(settings=settings)
    await client.send(session.id)
    approval = await client.asked(session.id)
    run = await client.pause(approval.run_id)
    await client.decide(approval, "APPROVE")
    assert run.id == approval.run_id
    return str(session.id)


async def test_what_the_catalog_of_a_restart_denies_is_not_done_though_it_was_approved(
    replicas: Replicas, executor: ScriptedExecutor, client: Client, catalog_dir: Path, tables: Tables
) -> None:
    session_id = await waiting_approved(client, executor)
    await all_let_go()
    await replicas.stop()
    (catalog_dir / "policies" / "default.yaml").write_text(CLOSED)
    again = (await replicas.start(catalog_dir=catalog_dir)).client
    await executor.joined()
    session = await again.get_session(session_id)
    await again.resume(session.active_run_id)
    log = await again.settled(session_id)
    (ended,) = log.of("step_finished", tool="put")
    assert (ended["trigger"], ended["failure"].reason) == ("rejected", "TOOL_DENIED")
    assert "put" not in [act.tool for act in executor.acts]
    assert await tables.count("approval WHERE (body::json ->> 'consume_time')::bigint > 0") == 0


async def test_a_session_whose_policy_is_gone_after_a_restart_asks(
    replicas: Replicas, executor: ScriptedExecutor, client: Client, catalog_dir: Path
) -> None:
    session = await client.new_session(settings={"policy": "strict"})
    await all_let_go()
    await replicas.stop()
    (catalog_dir / "policies" / "strict.yaml").unlink()
    again = (await replicas.start(catalog_dir=catalog_dir)).client
    await executor.joined()
    await again.send(session.id)
    assert (await again.asked(session.id)).policy_rule == "policy-gone"
    told = await explained(again, session_id=session.id)
    assert (told.policy, told.rule) == ("strict", "policy-gone")


# Over HTTP


async def test_policies_over_http(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/policies")).json()["policies"]
    assert [policy["name"] for policy in listed] == ["careful", "default", "strict"]
    assert (await http.get("/v1/policies/strict")).json() == listed[2]
    made = (await http.post("/v1/sessions", json={"settings": {"policy": "strict"}})).json()
    assert made["policy"] == "strict"
    asked = {"sessionId": made["id"], "tool": "put", "agent": "coder", "argumentsJson": '{"amount": 101}'}
    told = (await http.post("/v1/policies:explain", json=asked)).json()
    assert (told["policy"], told["effect"], told["rule"]) == ("strict", "POLICY_EFFECT_DENY", "too-much")
    assert [(v["rule"], v["applies"]) for v in told["verdicts"]] == [("agent", False), ("too-much", True)]
    refused = await http.post("/v1/sessions", json={"settings": {"policy": "lenient"}})
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (400, "POLICY_NOT_FOUND")
    absent = await http.get("/v1/policies/lenient")
    assert (absent.status_code, absent.json()["details"][0]["reason"]) == (404, "POLICY_NOT_FOUND")
