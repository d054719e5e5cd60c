"""The shapes that HTTP clients rely on, as the real contract gives them: what they send, what they are answered."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.timestamp_pb2 import Timestamp

from gateway.bootstrap import public_services
from gateway.routes import Router
from gen.assent.v1 import (
    approval_pb2,
    approval_service_pb2,
    artifact_pb2,
    catalog_service_pb2,
    event_pb2,
    message_pb2,
    plan_pb2,
    plan_service_pb2,
    run_pb2,
    run_service_pb2,
    session_pb2,
    session_service_pb2,
    usage_service_pb2,
)
from tests.integration.gateway.stack import Context, Stack, sse_events, stack

ID = "0196f3c8-7d2e-7a51-9c1b-2f6f3a1d0e42"
OTHER = "0196f3c8-7d2e-7a51-9c1b-2f6f3a1d0e43"


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Stack]:
    async with stack(list(public_services())) as started:
        yield started


@pytest.fixture
def assent(running: Stack) -> Stack:
    """A gateway in front of services that have forgotten everything."""
    running.fake.forget()
    return running


def answering(stack: Stack, rpc: str, response: Any) -> None:
    """Let an RPC answer this, whatever it is asked."""

    async def unary(_request: Any, _context: Context) -> Any:
        return response

    async def stream(_request: Any, _context: Context) -> AsyncIterator[Any]:
        for each in response:
            yield each

    if isinstance(response, list):
        stack.fake.streams[rpc] = stream
    else:
        stack.fake.unary[rpc] = unary


def test_every_public_rpc_has_a_route() -> None:
    routed = {route.method.full_name for route in Router(public_services())}
    assert routed == {method.full_name for service in public_services() for method in service.methods}


async def test_create_session(assent: Stack) -> None:
    session = session_pb2.Session(id=ID, state=session_pb2.SESSION_STATE_IDLE, agent="auto", last_sequence=1)
    answering(assent, "CreateSession", session_service_pb2.CreateSessionResponse(session=session))
    body = {"title": "тест", "agent": "auto", "labels": {"team": "a"}, "requestId": OTHER}
    shown = (await assent.http.post("/v1/sessions", json=body)).json()
    assert (shown["id"], shown["state"], shown["agent"]) == (ID, "SESSION_STATE_IDLE", "auto")
    assert shown["lastSequence"] == "1"
    assert shown["settled"] is False
    assert assent.fake.requests == [
        session_service_pb2.CreateSessionRequest(title="тест", agent="auto", labels={"team": "a"}, request_id=OTHER)
    ]


async def test_send_message(assent: Stack) -> None:
    response = session_service_pb2.SendMessageResponse(
        message=message_pb2.Message(id=OTHER), run=run_pb2.Run(id=OTHER), last_sequence=3
    )
    answering(assent, "SendMessage", response)
    shown = (await assent.http.post(f"/v1/sessions/{ID}/messages", json={"text": "привет", "agent": ""})).json()
    assert (shown["message"]["id"], shown["run"]["id"], shown["lastSequence"]) == (OTHER, OTHER, "3")
    (asked,) = assent.fake.requests
    assert asked.session_id == ID
    assert asked.text == "привет"


async def test_revise_plan(assent: Stack) -> None:
    revised = plan_pb2.Plan(id=OTHER, version=2, state=plan_pb2.PLAN_STATE_DRAFT, digest="d2")
    revised.subtasks.add(key="a", carried_subtask_id=ID, state=plan_pb2.SUBTASK_STATE_SUCCEEDED)
    answering(assent, "RevisePlan", plan_service_pb2.RevisePlanResponse(plan=revised))
    subtask = {"key": "b", "instructions": "Do it.", "agent": "coder", "dependsOn": ["a"]}
    body = {"title": "План", "digest": "d1", "parallelLimit": 2, "subtasks": [subtask]}
    shown = (await assent.http.post(f"/v1/plans/{ID}:revise", json=body)).json()
    assert (shown["id"], shown["version"], shown["state"], shown["digest"]) == (OTHER, 2, "PLAN_STATE_DRAFT", "d2")
    assert (shown["subtasks"][0]["carriedSubtaskId"], shown["subtasks"][0]["state"]) == (ID, "SUBTASK_STATE_SUCCEEDED")
    (asked,) = assent.fake.requests
    assert (asked.plan_id, asked.digest, asked.parallel_limit) == (ID, "d1", 2)
    assert [(s.key, list(s.depends_on)) for s in asked.subtasks] == [("b", ["a"])]


@pytest.mark.parametrize("action", ["REQUEST_CHANGES", "RETRY", "SKIP", "REPLAN"])
async def test_what_is_said_with_a_decision_arrives(assent: Stack, action: str) -> None:
    answering(assent, "DecideApproval", approval_service_pb2.DecideApprovalResponse())
    body = {"action": f"DECISION_ACTION_{action}", "digest": "d", "feedback": "сначала тесты"}
    assert (await assent.http.post(f"/v1/approvals/{ID}:decide", json=body)).status_code == 200
    (asked,) = assent.fake.requests
    assert (asked.action, asked.feedback) == (approval_pb2.DecisionAction.Value(body["action"]), "сначала тесты")


@pytest.mark.parametrize(
    ("body", "chosen"),
    [
        ({"userMessage": {"text": "открыт пустой проект", "agent": ""}}, "user_message"),
        ({"toolResult": {"stepId": OTHER, "contentJson": '{"id": 1234567890123456789}'}}, "tool_result"),
        ({"toolResult": {"stepId": OTHER, "error": "no such file"}}, "tool_result"),
        ({"switchAgent": {"agent": "coder"}}, "switch_agent"),
        ({"toolDecision": {"approvalId": OTHER, "action": "DECISION_ACTION_APPROVE", "digest": "d"}}, "tool_decision"),
        ({"planDecision": {"approvalId": OTHER, "action": "DECISION_ACTION_REJECT", "digest": "d"}}, "plan_decision"),
    ],
)
async def test_converse(assent: Stack, body: dict[str, Any], chosen: str) -> None:
    created = event_pb2.SessionEvent(session_id=ID, sequence=4, message_created=event_pb2.MessageCreated())
    delta = event_pb2.SessionEvent(session_id=ID, message_delta=event_pb2.MessageDelta())
    settled = event_pb2.SessionEvent(session_id=ID, settled=event_pb2.Settled())
    batches = [[created, delta], [settled]]
    answering(assent, "Converse", [session_service_pb2.ConverseResponse(events=events) for events in batches])
    async with assent.http.stream("POST", f"/v1/sessions/{ID}:converse", json=body) as response:
        assert response.headers["content-type"] == "text/event-stream"
        events = [event async for event in sse_events(response)]
    assert [(event.name, event.id) for event in events] == [
        ("message_created", "4"),
        ("message_delta", None),
        ("settled", None),
    ]
    assert assent.fake.requests[0].WhichOneof("input") == chosen
    assert assent.fake.requests[0].session_id == ID


async def test_the_text_of_a_tool_result_arrives_as_it_was_written(assent: Stack) -> None:
    answering(assent, "Converse", [])
    text = '{"id": 1234567890123456789, "x": 1.0}'
    body = {"toolResult": {"stepId": OTHER, "contentJson": text}}
    await assent.http.post(f"/v1/sessions/{ID}:converse", json=body)
    assert assent.fake.requests[0].tool_result.content_json == text


async def test_two_inputs_at_once_are_refused(assent: Stack) -> None:
    body = {"userMessage": {"text": "a"}, "switchAgent": {"agent": "b"}}
    response = await assent.http.post(f"/v1/sessions/{ID}:converse", json=body)
    assert response.status_code == 400
    assert response.json()["details"][1]["fieldViolations"][0]["field"] == "switch_agent"


async def test_stream_session(assent: Stack) -> None:
    answering(assent, "StreamSession", [])
    query = "afterSequence=7&until=STREAM_UNTIL_SETTLED&includeDeltas=true"
    response = await assent.http.get(f"/v1/sessions/{ID}:stream?{query}", headers={"last-event-id": "9"})
    assert response.status_code == 200
    assert assent.fake.requests == [
        session_service_pb2.StreamSessionRequest(
            session_id=ID,
            after_sequence=9,
            until=session_service_pb2.STREAM_UNTIL_SETTLED,
            include_deltas=True,
        )
    ]


async def test_list_events_keeps_the_hashed_text(assent: Stack) -> None:
    payload = '{"session_created":{"title":"й","n":1234567890123456789}}'
    event = event_pb2.SessionEvent(
        sequence=1,
        event_time=Timestamp(seconds=1_763_600_000, nanos=123_456_000),
        hash="a" * 64,
        previous_hash="0" * 64,
        payload_json=payload,
        session_created=event_pb2.SessionCreated(title="й"),
    )
    answering(assent, "ListEvents", session_service_pb2.ListEventsResponse(events=[event], next_page_token="t"))
    shown = (await assent.http.get(f"/v1/sessions/{ID}/events?pageSize=1&afterSequence=0")).json()
    (first,) = shown["events"]
    assert shown["nextPageToken"] == "t"
    assert (first["sequence"], first["eventTime"]) == ("1", "2025-11-20T00:53:20.123456Z")
    assert (first["payloadJson"], first["hash"], first["previousHash"]) == (payload, "a" * 64, "0" * 64)
    assert first["sessionCreated"]["title"] == "й"


async def test_list_approvals(assent: Stack) -> None:
    approval = approval_pb2.Approval(
        id=OTHER,
        kind=approval_pb2.APPROVAL_KIND_PLAN,
        state=approval_pb2.APPROVAL_STATE_PENDING,
        digest="d" * 64,
        session_id=ID,
        run_id=OTHER,
        allowed_actions=[approval_pb2.DECISION_ACTION_APPROVE, approval_pb2.DECISION_ACTION_REJECT],
        preview=approval_pb2.Preview(title="a plan"),
        arguments_json='{"id": 1234567890123456789}',
    )
    answering(assent, "ListApprovals", approval_service_pb2.ListApprovalsResponse(approvals=[approval]))
    shown = (await assent.http.get(f"/v1/approvals?state=APPROVAL_STATE_PENDING&sessionId={ID}")).json()
    (first,) = shown["approvals"]
    assert shown["nextPageToken"] == ""
    assert (first["kind"], first["state"]) == ("APPROVAL_KIND_PLAN", "APPROVAL_STATE_PENDING")
    assert first["allowedActions"] == ["DECISION_ACTION_APPROVE", "DECISION_ACTION_REJECT"]
    assert (first["digest"], first["sessionId"], first["runId"]) == ("d" * 64, ID, OTHER)
    assert first["preview"]["title"] == "a plan"
    assert first["argumentsJson"] == '{"id": 1234567890123456789}'
    assert assent.fake.requests[0].state == approval_pb2.APPROVAL_STATE_PENDING


async def test_decide_approval(assent: Stack) -> None:
    approval = approval_pb2.Approval(id=OTHER, state=approval_pb2.APPROVAL_STATE_RESOLVED)
    answering(assent, "DecideApproval", approval_service_pb2.DecideApprovalResponse(approval=approval))
    edited = '{"id": 1234567890123456789}'
    body = {
        "action": "DECISION_ACTION_APPROVE",
        "digest": "d" * 64,
        "feedback": "",
        "editedArgumentsJson": edited,
        "requestId": ID,
    }
    response = await assent.http.post(f"/v1/approvals/{OTHER}:decide", json=body)
    assert (response.json()["id"], response.json()["state"]) == (OTHER, "APPROVAL_STATE_RESOLVED")
    (asked,) = assent.fake.requests
    assert asked.approval_id == OTHER
    assert (asked.action, asked.digest) == (approval_pb2.DECISION_ACTION_APPROVE, "d" * 64)
    assert asked.edited_arguments_json == edited


async def test_watch_approvals_shows_the_snapshot_then_changes(assent: Stack) -> None:
    pending = approval_pb2.Approval(id=OTHER)
    requested = event_pb2.SessionEvent(session_id=ID, sequence=5, approval_requested=event_pb2.ApprovalRequested())
    snapshot = approval_service_pb2.WatchApprovalsResponse(approvals=[pending], snapshot_complete=True)
    changes = approval_service_pb2.WatchApprovalsResponse(events=[requested])
    answering(assent, "WatchApprovals", [snapshot, changes])
    async with assent.http.stream("GET", "/v1/approvals:watch") as response:
        first, second = [event async for event in sse_events(response)]
    assert first.name == "approvals"
    assert (first.data["approvals"][0]["id"], first.data["snapshotComplete"]) == (OTHER, True)
    assert (second.name, second.data["sessionId"]) == ("approval_requested", ID)


async def test_an_artifact_is_its_bytes(assent: Stack) -> None:
    content = HttpBody(content_type="text/markdown", data=b"# \xd0\xb9\n")
    response = run_service_pb2.GetArtifactResponse(artifact=artifact_pb2.Artifact(id=ID), content=content)
    answering(assent, "GetArtifact", response)
    answered = await assent.http.get(f"/v1/artifacts/{ID}?offset=0&length=10")
    assert (answered.headers["content-type"], answered.content) == ("text/markdown", b"# \xd0\xb9\n")


async def test_a_plan_s_own_fields_are_checked_by_name(assent: Stack) -> None:
    body = {"subtasks": [{"key": "a"}, {"key": 5}]}
    response = await assent.http.post(f"/v1/sessions/{ID}/plans", json=body)
    assert response.status_code == 400
    named = [violation["field"] for violation in response.json()["details"][1]["fieldViolations"]]
    assert named == ["subtasks[1].key"]


async def test_the_contract_s_numbers_and_times_in_a_query(assent: Stack) -> None:
    answering(assent, "GetUsage", usage_service_pb2.GetUsageResponse())
    query = "groupBy=USAGE_DIMENSION_AGENT&groupBy=USAGE_DIMENSION_DAY&startTime=2026-01-31T00:00:00Z&pageSize=10"
    response = await assent.http.get(f"/v1/usage?{query}")
    assert response.status_code == 200
    (asked,) = assent.fake.requests
    assert (len(asked.group_by), asked.page_size) == (2, 10)
    assert asked.start_time.ToJsonString() == "2026-01-31T00:00:00Z"


async def test_names_with_colons_can_be_read_plainly(assent: Stack) -> None:
    answering(assent, "GetModel", catalog_service_pb2.GetModelResponse())
    for path in ("/v1/models/openai:gpt-5-mini", "/v1/models/openai%3Agpt-5-mini"):
        assert (await assent.http.get(path)).status_code == 200
    assert {asked.name for asked in assent.fake.requests} == {"openai:gpt-5-mini"}


async def test_an_error_has_the_promised_shape(assent: Stack) -> None:
    shown = (await assent.http.get(f"/v1/sessions/{ID}?nope=1")).json()
    assert shown["code"] == 3
    assert shown["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "INVALID_REQUEST",
            "domain": "assent",
            "metadata": {"disposition": "FATAL"},
        },
        {
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": "nope", "description": "GetSessionRequest has no such field"}],
        },
    ]
