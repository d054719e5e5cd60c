"""An agent's question over gRPC and HTTP, at one replica or another; and what a client's silence leads to."""

import json

import httpx
from google.protobuf.duration_pb2 import Duration

from gen.assent.v1 import approval_pb2, catalog_service_pb2, session_pb2
from gen.assent.v1.approval_service_pb2 import ListApprovalsRequest
from gen.assent.v1.session_pb2 import ClientTool
from tests.integration.orchestrator.client import Client, Log, state, words
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
QUESTION = json.dumps({"question": "Which colour?", "options": ["red", "blue"], "answer_schema": SCHEMA})
ANSWER = '{"colour":  "red"}'


async def asked(client: Client, executor: ScriptedExecutor, question: str = QUESTION) -> approval_pb2.Approval:
    executor.play = calls("ask_user", question)
    session = await client.new_session()
    await client.send(session.id)
    return await client.asked(session.id)


def ended(log: Log) -> list[str]:
    return [e["state"] for e in log.of("run_finished")]


def read_by_the_model(executor: ScriptedExecutor) -> list[str]:
    last = [a for a in executor.acts if a.purpose == "ANSWER"][-1]
    return [m.text for m in last.start.model.messages if m.call_id]


async def test_a_question_is_in_the_inbox_and_its_answer_is_what_the_model_reads(
    client: Client, executor: ScriptedExecutor
) -> None:
    question = await asked(client, executor)
    assert words(question)["kind"] == "QUESTION"
    assert (question.tool, question.arguments_json) == ("ask_user", QUESTION)
    assert json.loads(question.response_schema_json) == SCHEMA
    assert question.preview.text.splitlines() == ["Which colour?", "1. red", "2. blue"]
    of_kind = ListApprovalsRequest(kind=approval_pb2.APPROVAL_KIND_QUESTION, session_id=question.session_id)
    listed = (await client.call(client.approvals.ListApprovals, of_kind)).approvals
    assert [a.id for a in listed] == [question.id]
    decided = await client.decide(question, "RESPOND", response_json=ANSWER)
    assert (state(decided), decided.decision.response_json) == ("RESOLVED", ANSWER)
    log = await client.settled(question.session_id)
    assert ended(log) == ["COMPLETED"]
    assert read_by_the_model(executor) == [ANSWER]
    assert not executor.starts_of(tool="ask_user")
    assert not log.of("tool_call_ready")


async def test_an_answer_that_does_not_fit_changes_nothing_and_says_where(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    question = await asked(client, executor)
    await all_let_go()
    before = await tables.counts()
    for answer, reason, where in (
        ('{"colour": "green"}', "INVALID_REQUEST", "$.colour"),
        ("red", "INVALID_JSON", "is not JSON"),
        ('"' + "x" * (1 << 16) + '"', "INVALID_JSON", "bytes"),
        ("", "INVALID_REQUEST", "RESPOND needs"),
    ):
        problem = await client.refusal(client.decide(question, "RESPOND", response_json=answer))
        assert (problem.reason, problem.fields[0].field) == (reason, "response_json")
        assert where in problem.fields[0].description
    for action in ("APPROVE", "REJECT"):
        assert (await client.refusal(client.decide(question, action))).reason == "ACTION_NOT_ALLOWED"
    after = await tables.counts()
    assert after.pop("audit") == before.pop("audit") + 6
    assert after == before


async def test_a_question_asked_at_one_replica_is_answered_at_another_after_the_first_is_gone(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first, second = await replicas.start(), await replicas.start()
    await executor.joined(2)
    question = await asked(first.client, executor)
    await first.crash()
    await second.client.decide(question, "RESPOND", response_json=ANSWER)
    assert ended(await second.client.settled(question.session_id)) == ["COMPLETED"]
    assert read_by_the_model(executor) == [ANSWER]


async def test_converse_answers_a_question_and_follows_the_run(client: Client, executor: ScriptedExecutor) -> None:
    question = await asked(client, executor, '{"question": "Well?"}')
    respond = approval_pb2.DECISION_ACTION_RESPOND
    said = {"approval_id": question.id, "action": respond, "digest": question.digest, "response_json": '"well"'}
    log = await client.converse(question.session_id, tool_decision=said)
    assert log.durable.names[0] == "approval_resolved"
    assert ended(log) == ["COMPLETED"]
    assert read_by_the_model(executor) == ["well"]


async def test_a_bad_question_is_the_models_to_correct_and_reaches_nobody(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("ask_user", '{"question": "Well?", "answer_schema": {"pattern": "^(a+)+$"}}')
    session = await client.new_session()
    run = (await client.send(session.id)).run
    assert ended(await client.settled(session.id)) == ["COMPLETED"]
    (step,) = [s for s in await client.steps(run.id) if s.tool]
    assert (state(step), step.failure.reason) == ("REJECTED", "TOOL_ARGUMENTS_INVALID")
    assert "'pattern' is not taken" in step.result.content
    assert not await client.pending(session.id)


async def test_the_tool_is_listed_and_no_session_may_bring_another_of_its_name(client: Client) -> None:
    listed = (await client.call(client.catalog.ListTools, catalog_service_pb2.ListToolsRequest())).tools
    (tool,) = [t for t in listed if t.name == "ask_user"]
    assert tool.source == "assent"
    got = await client.call(client.catalog.GetTool, catalog_service_pb2.GetToolRequest(name="ask_user"))
    assert got.tool == tool
    problem = await client.refusal(client.new_session(client_tools=[ClientTool(name="ask_user")]))
    assert (problem.reason, problem.fields[0].field) == ("INVALID_REQUEST", "client_tools[0].name")


async def test_a_question_is_answered_over_http(
    client: Client, executor: ScriptedExecutor, http: httpx.AsyncClient
) -> None:
    question = await asked(client, executor)
    shown = (await http.get(f"/v1/approvals/{question.id}")).json()
    assert json.loads(shown["responseSchemaJson"]) == SCHEMA
    said = {"action": "DECISION_ACTION_RESPOND", "digest": shown["digest"], "responseJson": '{"colour": 1}'}
    refused = await http.post(f"/v1/approvals/{question.id}:decide", json=said)
    assert (refused.status_code, "$.colour" in refused.text) == (400, True)
    said["responseJson"] = ANSWER
    assert (await http.post(f"/v1/approvals/{question.id}:decide", json=said)).status_code == 200
    assert ended(await client.settled(question.session_id)) == ["COMPLETED"]
    assert read_by_the_model(executor) == [ANSWER]


# A client's silence


async def unanswered(client: Client, executor: ScriptedExecutor, then: int) -> session_pb2.Session:
    """A session whose client had a second for its call and said nothing, once that has led to something."""
    executor.play = calls("open_tab")
    tool = ClientTool(name="open_tab", time_limit=Duration(seconds=1), on_timeout=then)  # type: ignore[arg-type]
    session = await client.new_session(client_tools=[tool])
    await client.send(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    return session


async def test_a_silence_may_leave_a_doubt_that_a_person_settles(client: Client, executor: ScriptedExecutor) -> None:
    session = await unanswered(client, executor, session_pb2.CLIENT_TIMEOUT_ACTION_ASK)
    async with client.watch(session.id) as watch:
        await watch.until("approval_requested")
        await watch.until("step_finished", trigger="doubted")
    doubt = await client.asked(session.id)
    assert (words(doubt)["kind"], "none has taken it" in doubt.preview.reason) == ("IN_DOUBT", True)
    await client.decide(doubt, "RESPOND", response_json='"it opened"')
    assert ended(await client.settled(session.id)) == ["COMPLETED"]
    assert read_by_the_model(executor) == ["it opened"]


async def test_a_silence_may_halt_the_run_and_the_resume_hands_the_call_over_again(
    client: Client, executor: ScriptedExecutor
) -> None:
    session = await unanswered(client, executor, session_pb2.CLIENT_TIMEOUT_ACTION_HALT)
    async with client.watch(session.id) as watch:
        paused = await watch.until("run_state_changed", to_state="PAUSED")
        assert (paused["actor"], "open_tab" in paused["reason"]) == ("engine", True)
        ready = watch.log.of("tool_call_ready")
        await client.resume(paused["run_id"])
        again = await watch.until("tool_call_ready")
        assert [e["step_id"] for e in ready] == [again["step_id"]]
        await watch.until("run_state_changed", to_state="PAUSED")
    await client.cancel(paused["run_id"])
