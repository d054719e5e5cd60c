"""A session's own tools over gRPC and HTTP: two windows, one call, one result; nobody waits for ever."""

import asyncio
import shutil
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1 import step_pb2
from gen.assent.v1.session_pb2 import ClientTool
from orchestrator.domain.change import ChangeSet
from orchestrator.domain.errors import StorageUnavailable
from orchestrator.settings import SHIPPED_CATALOG
from orchestrator.store.answers import Answer
from orchestrator.store.writer import Writer
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, Log, state
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replicas, Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

SCHEMA = '{"type": "object", "properties": {"id": {"type": "integer"}}}'
TOOLS = [ClientTool(name="open_tab", description="Opens a tab.", input_schema_json=SCHEMA)]
EXACT = '{"id":  1234567890123456789}'


async def ready(client: Client, executor: ScriptedExecutor) -> step_pb2.Step:
    """A call that waits for a client; policy asked, and a person agreed."""
    executor.play = calls("open_tab", EXACT)
    session = await client.new_session(client_tools=TOOLS)
    await client.send(session.id)
    await client.decide(await client.asked(session.id), "APPROVE")
    await client.settled(session.id)
    return await the_step(client, session.id)


async def the_step(client: Client, session_id: str) -> step_pb2.Step:
    (event,) = (await client.events(session_id)).of("tool_call_ready")
    (step,) = [s for s in await client.steps(event["run_id"]) if s.id == event["step_id"]]
    return step


async def claim(client: Client, step: step_pb2.Step, window: str = "one", **more: Any) -> pb.ClaimToolCallResponse:
    request = pb.ClaimToolCallRequest(step_id=step.id, client_id=window, **more)
    response: pb.ClaimToolCallResponse = await client.call(client.sessions.ClaimToolCall, request)
    return response


async def submit(client: Client, step: step_pb2.Step, content: str = '"opened"', **more: Any) -> step_pb2.Step:
    said = {"session_id": step.session_id, "step_id": step.id, **more}
    if "error" not in more:
        said["content_json"] = content
    submitted: step_pb2.Step = (
        await client.call(client.sessions.SubmitToolResult, pb.SubmitToolResultRequest(**said))
    ).step
    return submitted


def ended(log: Log) -> list[str]:
    return [e["state"] for e in log.of("run_finished")]


async def test_a_session_keeps_its_tools_and_lists_leave_them_out(client: Client) -> None:
    session = await client.new_session(client_tools=TOOLS)
    assert list((await client.get_session(session.id)).client_tools) == TOOLS
    (listed,) = (await client.call(client.sessions.ListSessions, pb.ListSessionsRequest())).sessions
    assert (listed.id, list(listed.client_tools)) == (session.id, [])


async def test_the_model_is_offered_the_tool_and_reads_the_clients_result(
    client: Client, executor: ScriptedExecutor
) -> None:
    step = await ready(client, executor)
    (first,) = [a for a in executor.acts if a.purpose == "ANSWER"]
    (offered,) = [t for t in first.start.model.tools if t.name == "open_tab"]
    assert (offered.description, offered.input_schema_json) == ("Opens a tab.", SCHEMA)
    assert (state(step), step.arguments_json) == ("READY", EXACT)
    session = await client.get_session(step.session_id)
    assert session.settled
    (why,) = (await client.settled(step.session_id)).of("settled")
    assert (why["reason"], why["run_id"], "approval_ids" in why) == ("WAITING_FOR_CLIENT", step.run_id, False)
    assert session.due_time == step.deadline_time

    claimed = await claim(client, step)
    assert (claimed.step.client_id, claimed.lease_expire_time) == ("one", claimed.step.lease_expire_time)
    result = await submit(client, step, '{"tab": 7}', client_id="one")
    assert (state(result), result.result.content) == ("SUCCEEDED", '{"tab": 7}')
    log = await client.settled(step.session_id)
    assert ended(log) == ["COMPLETED"]
    assert [e["client_id"] for e in log.of("tool_result_recorded")] == ["one"]
    second = [a for a in executor.acts if a.purpose == "ANSWER"][1]
    assert [m.text for m in second.start.model.messages if m.call_id] == ['{"tab": 7}']
    assert not executor.starts_of(tool="open_tab")


async def test_an_error_is_read_by_the_model(client: Client, executor: ScriptedExecutor) -> None:
    step = await ready(client, executor)
    result = await submit(client, step, error="no window is open")
    assert (state(result), result.failure.reason) == ("FAILED", "TOOL_FAILED")
    log = await client.settled(step.session_id)
    assert ended(log) == ["COMPLETED"]


async def test_converse_hands_in_a_result_and_follows_the_run(client: Client, executor: ScriptedExecutor) -> None:
    step = await ready(client, executor)
    log = await client.converse(step.session_id, tool_result={"step_id": step.id, "content_json": '"opened"'})
    assert log.durable.names[0] == "tool_result_recorded"
    assert ended(log) == ["COMPLETED"]


# Two windows


@pytest.mark.parametrize("replicas_wanted", [1, 2])
async def test_of_two_windows_that_claim_at_once_one_has_the_call(
    replicas: Replicas, executor: ScriptedExecutor, replicas_wanted: int
) -> None:
    started = [(await replicas.start()).client for _ in range(replicas_wanted)]
    await executor.joined(replicas_wanted)
    for _ in range(5):
        step = await ready(started[0], executor)
        came = await asyncio.gather(
            claim(started[0], step, "one"), claim(started[-1], step, "other"), return_exceptions=True
        )
        (won,) = [c for c in came if isinstance(c, pb.ClaimToolCallResponse)]
        (lost,) = [c for c in came if isinstance(c, Problem)]
        assert (lost.reason, lost.metadata["client_id"]) == ("TOOL_CALL_CLAIMED", won.step.client_id)
        log = await started[0].events(step.session_id)
        assert [e["client_id"] for e in log.of("tool_call_claimed")] == [won.step.client_id]


async def test_of_two_results_at_once_the_first_wins(client: Client, executor: ScriptedExecutor) -> None:
    for _ in range(5):
        step = await ready(client, executor)
        came = await asyncio.gather(
            submit(client, step, '"one"', client_id="one"),
            submit(client, step, '"other"', client_id="other"),
            return_exceptions=True,
        )
        (won,) = [c for c in came if isinstance(c, step_pb2.Step)]
        (lost,) = [c for c in came if isinstance(c, Problem)]
        assert (lost.reason, lost.metadata["state"]) == ("WRONG_STATE", "SUCCEEDED")
        log = await client.settled(step.session_id)
        assert [e["output_preview"] for e in log.of("tool_result_recorded")] == [won.result.content]


async def test_a_claimed_call_is_answered_by_its_claimer_only(client: Client, executor: ScriptedExecutor) -> None:
    step = await ready(client, executor)
    first = await claim(client, step)
    for other in (
        submit(client, step, client_id="other"),
        submit(client, step),
        submit(client.acting_as("alice"), step, client_id="one"),
        claim(client.acting_as("alice"), step),
    ):
        assert (await client.refusal(other)).reason == "TOOL_CALL_CLAIMED"
    renewed = await claim(client, step)
    assert renewed.lease_expire_time.ToMicroseconds() > first.lease_expire_time.ToMicroseconds()
    await submit(client, step, client_id="one")
    assert ended(await client.settled(step.session_id)) == ["COMPLETED"]


async def test_when_the_lease_is_over_another_window_takes_the_call(client: Client, executor: ScriptedExecutor) -> None:
    step = await ready(client, executor)
    claimed = await claim(client, step, lease={"seconds": 1})
    taken, refused = None, []
    async with asyncio.timeout(10):
        while taken is None:  # as a window would: the refusal says that it may be tried again
            try:
                taken = await claim(client, step, "other")
            except Problem as problem:
                refused.append(problem.reason)
                await asyncio.sleep(0.05)
    assert set(refused) <= {"TOOL_CALL_CLAIMED"}
    assert taken.lease_expire_time.ToMicroseconds() > claimed.lease_expire_time.ToMicroseconds()
    assert taken.step.client_id == "other"


# Refused


async def test_what_is_wrong_with_a_claim_or_a_result_changes_nothing(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    step = await ready(client, executor)
    elsewhere = await client.new_session()
    await all_let_go()
    before = await tables.counts()
    eve, nobody = client.acting_as("eve", tenant="other"), step_pb2.Step(id=str(uuid.uuid4()))
    nobody.session_id = step.session_id
    for ask, reason in (
        (claim(eve, step), "STEP_NOT_FOUND"),
        (submit(eve, step), "SESSION_NOT_FOUND"),
        (claim(client, nobody), "STEP_NOT_FOUND"),
        (submit(client, nobody), "STEP_NOT_FOUND"),
        (submit(client, step, session_id=elsewhere.id), "STEP_NOT_FOUND"),
        (submit(client, step, session_id=str(uuid.uuid4())), "SESSION_NOT_FOUND"),
        (claim(client, step, ""), "INVALID_REQUEST"),
        (claim(client, step, lease={"seconds": 3601}), "INVALID_REQUEST"),
        (submit(client, step, "opened"), "INVALID_JSON"),
        (submit(client, step, '{"a":1,"a":2}'), "INVALID_JSON"),
        (submit(client, step, '"' + "x" * (1 << 20) + '"'), "INVALID_REQUEST"),
    ):
        assert (await client.refusal(ask)).reason == reason
    said = {"step_id": step.id, "content_json": "opened"}
    problem = await client.refusal(client.converse(step.session_id, tool_result=said))
    assert (problem.reason, problem.fields[0].field) == ("INVALID_JSON", "tool_result.content_json")
    after = await tables.counts()
    assert after.pop("audit") == before.pop("audit") + 8  # each refused result, and no refused claim
    assert after == before
    kept = [(row["tenant"], row["subject"], row["method"], row["reason"]) for row in await tables.audited()]
    assert kept == [
        ("other", "eve", "SubmitToolResult", "NotFound"),
        *[("default", "developer", "SubmitToolResult", "NotFound")] * 3,
        *[("default", "developer", "SubmitToolResult", "InvalidJson")] * 2,
        ("default", "developer", "SubmitToolResult", "InvalidRequest"),
        ("default", "developer", "Converse", "InvalidJson"),
    ]
    assert {row["step_id"] for row in await tables.audited()} == {step.id, nobody.id}


async def test_a_result_for_a_call_that_awaits_approval_is_refused_and_on_record(
    client: Client, executor: ScriptedExecutor, tables: Tables
) -> None:
    """Nobody answers a call, or a question, by handing in a result in the person's stead."""
    for tool, arguments in (("open_tab", EXACT), ("ask_user", '{"question": "May I?"}')):
        executor.play = calls(tool, arguments)
        session = await client.new_session(client_tools=TOOLS)
        await client.send(session.id)
        asked = await client.asked(session.id)
        await all_let_go()
        before = await tables.counts()
        forged = step_pb2.Step(id=asked.step_id, session_id=session.id)
        problem = await client.refusal(submit(client, forged, '"yes"'))
        assert (problem.reason, problem.metadata["state"]) == ("WRONG_STATE", "AWAITING_APPROVAL")
        after = await tables.counts()
        assert after.pop("audit") == before.pop("audit") + 1
        assert after == before
        assert (await tables.audited())[-1]["step_id"] == asked.step_id
        assert [a.id for a in await client.pending(session.id)] == [asked.id]


async def test_a_result_of_a_megabyte_is_taken(client: Client, executor: ScriptedExecutor) -> None:
    step = await ready(client, executor)
    large = '"' + "x" * ((1 << 20) - 2) + '"'
    assert len((await submit(client, step, large)).result.content) == (1 << 20) - 2
    async with client.watch(step.session_id) as watch:
        await watch.until("tool_result_recorded", step_id=step.id)
        await watch.until("step_started", kind="MODEL")  # in chunks, which the scripted executor does not put together
    await client.cancel(step.run_id)


async def test_an_executors_call_takes_no_clients_result(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("look")
    session = await client.new_session(client_tools=TOOLS)
    run = (await client.send(session.id)).run
    act = await executor.next(tool="look")
    (step,) = [s for s in await client.steps(run.id) if s.tool]
    for ask in (submit(client, step), claim(client, step)):
        problem = await client.refusal(ask)
        assert (problem.reason, problem.metadata["state"]) == ("WRONG_STATE", "DISPATCHED")
    act.returns()


async def test_after_its_run_has_ended_a_call_is_not_there_to_be_answered(
    client: Client, executor: ScriptedExecutor
) -> None:
    step = await ready(client, executor)
    await claim(client, step)
    await client.cancel(step.run_id)
    cancelled = await the_step(client, step.session_id)
    assert (state(cancelled), "may have taken effect" in cancelled.result.content) == ("CANCELLED", True)
    for ask in (submit(client, step, client_id="one"), claim(client, step)):
        problem = await client.refusal(ask)
        assert (problem.reason, problem.metadata["state"]) == ("WRONG_STATE", "CANCELLED")


@pytest.mark.parametrize(
    ("tools", "reason", "field"),
    [
        ([ClientTool(name="look")], "INVALID_REQUEST", "client_tools[0].name"),
        ([*TOOLS, *TOOLS], "INVALID_REQUEST", "client_tools[1].name"),
        ([ClientTool(name="no spaces")], "INVALID_REQUEST", "client_tools[0].name"),
        ([ClientTool(name="a", input_schema_json="{")], "INVALID_JSON", "client_tools[0].input_schema_json"),
        (
            [ClientTool(name="a", input_schema_json='{"type": 1}')],
            "INVALID_REQUEST",
            "client_tools[0].input_schema_json",
        ),
        ([ClientTool(name=f"t{n}") for n in range(65)], "INVALID_REQUEST", "client_tools"),
    ],
)
async def test_tools_that_will_not_do_make_no_session(
    client: Client, tables: Tables, tools: list[ClientTool], reason: str, field: str
) -> None:
    await client.knows_tool("look")
    problem = await client.refusal(client.new_session(client_tools=tools))
    assert (problem.reason, [f.field for f in problem.fields]) == (reason, [field])
    assert (await tables.counts())["session"] == 0


# Repeats


async def test_repeats_are_answered_alike_and_done_once(client: Client, executor: ScriptedExecutor) -> None:
    step = await ready(client, executor)
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    claimed = await claim(client, step, request_id=one)
    assert await claim(client, step, request_id=one) == claimed
    result = await submit(client, step, client_id="one", request_id=other)
    assert await submit(client, step, client_id="one", request_id=other) == result
    problem = await client.refusal(submit(client, step, '"other"', client_id="one", request_id=other))
    assert problem.reason == "REQUEST_ID_REUSED"
    log = await client.settled(step.session_id)
    assert (len(log.of("tool_call_claimed")), len(log.of("tool_result_recorded"))) == (1, 1)


async def test_a_result_whose_answer_got_lost_is_found_by_its_request_id(
    client: Client, executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = await ready(client, executor)
    write = Writer.write

    async def write_and_lose(self: Writer, change_set: ChangeSet, **more: str) -> Answer:
        answer = await write(self, change_set, **more)
        if more["operation"] == "SubmitToolResult":
            raise StorageUnavailable("the answer is lost")
        return answer

    request_id = str(uuid.uuid4())
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write", write_and_lose)
        assert (await client.refusal(submit(client, step, request_id=request_id))).reason == "STORAGE_UNAVAILABLE"
    assert state(await submit(client, step, request_id=request_id)) == "SUCCEEDED"
    log = await client.settled(step.session_id)
    assert (ended(log), len(log.of("tool_result_recorded"))) == (["COMPLETED"], 1)


# Time


async def test_a_call_that_nobody_answers_is_over_in_time_and_the_run_goes_on(
    replicas: Replicas, executor: ScriptedExecutor, tmp_path: Path
) -> None:
    shutil.copytree(SHIPPED_CATALOG, tmp_path / "catalog")
    with (tmp_path / "catalog/agents/coder.yaml").open("a") as agent:
        agent.write("limits: {tool_timeout_seconds: 1.5}\n")
    client = (await replicas.start(catalog_dir=tmp_path / "catalog")).client
    await executor.joined()
    step = await ready(client, executor)
    async with client.watch(step.session_id) as watch:
        failed = await watch.until("step_finished", step_id=step.id)
        assert (failed["state"], failed["failure"].reason) == ("FAILED", "DEADLINE_EXCEEDED")
        assert (await watch.until("run_finished"))["state"] == "COMPLETED"
    problem = await client.refusal(submit(client, step))
    assert problem.reason == "WRONG_STATE"


async def test_a_call_outlives_the_orchestrator_that_handed_it_over(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first = await replicas.start()
    await executor.joined()
    step = await ready(first.client, executor)
    await claim(first.client, step)
    await first.crash()
    client = (await replicas.start()).client
    assert (await client.refusal(submit(client, step, client_id="other"))).reason == "TOOL_CALL_CLAIMED"
    await submit(client, step, client_id="one")
    assert ended(await client.settled(step.session_id)) == ["COMPLETED"]


# Over HTTP


async def test_two_windows_over_http(client: Client, executor: ScriptedExecutor, http: httpx.AsyncClient) -> None:
    executor.play = calls("open_tab", EXACT)
    tool = {
        "name": "open_tab",
        "description": "Opens a tab.",
        "inputSchemaJson": SCHEMA,
        "timeLimit": "600s",
        "onTimeout": "CLIENT_TIMEOUT_ACTION_HALT",
    }
    made = await http.post("/v1/sessions", json={"title": "Two windows", "clientTools": [tool]})
    session_id = made.json()["id"]
    assert made.json()["clientTools"] == [tool]
    await client.send(session_id)
    await client.decide(await client.asked(session_id), "APPROVE")
    await client.settled(session_id)
    step = await the_step(client, session_id)

    answers = await asyncio.gather(
        *(http.post(f"/v1/steps/{step.id}:claim", json={"clientId": window, "lease": "30s"}) for window in ("a", "b"))
    )
    (won,) = [a.json() for a in answers if a.status_code == 200]
    (lost,) = [a.json() for a in answers if a.status_code != 200]
    assert (lost["code"], lost["details"][0]["reason"]) == (9, "TOOL_CALL_CLAIMED")
    assert won["step"]["argumentsJson"] == EXACT
    body = {"stepId": step.id, "clientId": won["step"]["clientId"], "contentJson": '{"tab":  7}'}
    submitted = await http.post(f"/v1/sessions/{session_id}/toolResults", json=body)
    assert (submitted.status_code, submitted.json()["result"]["content"]) == (200, '{"tab":  7}')
    again = await http.post(f"/v1/sessions/{session_id}/toolResults", json=body)
    assert again.json()["details"][0]["reason"] == "WRONG_STATE"
    assert ended(await client.settled(session_id)) == ["COMPLETED"]
