"""Bad input is refused with a code, a reason and the field by name, and leaves no state and no event."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from gen.assent.v1 import (
    plan_pb2,
    session_service_pb2,
    usage_service_pb2,
)
from rpc.problem import Problem
from tests.integration.orchestrator.client import Client, subtask
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Tables, all_let_go
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
WRONG, EXHAUSTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.RESOURCE_EXHAUSTED
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
async def session_id(client: Client) -> str:
    return (await client.new_session()).id


class Unchanged:
    """Nothing was written while the block ran, but for the audit rows that were announced."""

    def __init__(self, tables: Tables, audited: int = 0) -> None:
        self._tables = tables
        self._audited = audited

    async def __aenter__(self) -> None:
        self._before = await self._tables.counts()

    async def __aexit__(self, *error: object) -> None:
        if error[0] is None:
            expected = {**self._before, "audit": self._before["audit"] + self._audited}
            assert await self._tables.counts() == expected


def said(problem: Problem) -> tuple[grpc.StatusCode, str, list[str]]:
    return problem.code, problem.reason, [violation.field for violation in problem.fields]


Ask = Callable[[Client, str], Awaitable[Any]]


async def stream_of(client: Client, session_id: str) -> None:
    try:
        async with client.watch(session_id) as watch:
            await watch.end()
    except grpc.aio.AioRpcError as error:
        raise Problem.from_rpc_error(error) from None


@pytest.mark.parametrize(
    "ask",
    [
        lambda c, _: c.get_session(NOBODY),
        lambda c, _: c.send(NOBODY),
        lambda c, _: stream_of(c, NOBODY),
        lambda c, _: c.converse(NOBODY, user_message={"text": "Hello"}),
        lambda c, _: c.events(NOBODY),
        lambda c, _: c.messages(NOBODY),
        lambda c, _: c.new_plan(NOBODY),
    ],
    ids=["get", "send", "stream", "converse", "events", "messages", "plan"],
)
async def test_an_unknown_session_is_not_found(client: Client, tables: Tables, ask: Ask) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(ask(client, ""))
    assert said(problem) == (MISSING, "SESSION_NOT_FOUND", [])
    assert problem.metadata["session"] == NOBODY


@pytest.mark.parametrize(
    ("ask", "reason", "field"),
    [
        (lambda c, s: c.send(s, ""), "INVALID_REQUEST", "text"),
        (lambda c, s: c.send(s, " \n\t"), "INVALID_REQUEST", "text"),
        (lambda c, s: c.send(s, "x" * 262_145), "INVALID_REQUEST", "text"),
        (lambda c, s: c.send(s, agent="nobody"), "AGENT_NOT_FOUND", "agent"),
        (lambda c, s: c.send(s, agent="orchestrator"), "AGENT_NOT_FOUND", "agent"),
        (lambda c, s: c.send("not-an-id"), "INVALID_REQUEST", "session_id"),
        (lambda c, s: c.send(""), "INVALID_REQUEST", "session_id"),
        (lambda c, s: c.send(s, request_id="not-an-id"), "INVALID_REQUEST", "request_id"),
        (lambda c, s: c.converse(s, user_message={"text": ""}), "INVALID_REQUEST", "user_message.text"),
        (lambda c, s: c.converse(s, user_message={"text": "  "}), "INVALID_REQUEST", "user_message.text"),
        (
            lambda c, s: c.converse(s, user_message={"text": "Hello", "agent": "nobody"}),
            "AGENT_NOT_FOUND",
            "user_message.agent",
        ),
        (lambda c, s: c.converse(s), "INVALID_REQUEST", "input"),
        (lambda c, s: c.new_session(agent="nobody"), "AGENT_NOT_FOUND", "agent"),
        (lambda c, s: c.new_session(title="x" * 201), "INVALID_REQUEST", "title"),
        (lambda c, s: c.new_session(workspace={"directory": "../.."}), "INVALID_REQUEST", "workspace.directory"),
    ],
    ids=[
        "empty",
        "blank",
        "over the limit",
        "unknown agent",
        "routing agent",
        "no id",
        "without session",
        "no request id",
        "empty in converse",
        "blank in converse",
        "unknown agent in converse",
        "nothing in converse",
        "session's agent",
        "title",
        "directory",
    ],
)
async def test_a_bad_message_or_session_names_its_field(
    client: Client, tables: Tables, session_id: str, ask: Ask, reason: str, field: str
) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(ask(client, session_id))
    assert said(problem) == (INVALID, reason, [field])


async def test_a_request_larger_than_any_may_be_is_refused(client: Client, tables: Tables, session_id: str) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(client.send(session_id, "x" * 5_000_000))
    assert said(problem)[:2] == (EXHAUSTED, "LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("subtasks", "field", "words"),
    [
        ([subtask("a", "c"), subtask("b", "a"), subtask("c", "b")], "subtasks", "cycle"),
        ([subtask("a"), subtask("b", "missing")], "subtasks[1].depends_on", "missing"),
        ([subtask("a"), subtask("a")], "subtasks[1].key", "already"),
        ([subtask("a", "a")], "subtasks[0].depends_on", "itself"),
        ([subtask("a", agent="nobody")], "subtasks[0].agent", "nobody"),
        ([subtask("a", agent="architect")], "subtasks[0].agent", "architect"),
        ([subtask("s0"), *(subtask(f"s{n}", f"s{n - 1}") for n in range(1, 40))], "subtasks", "32"),
    ],
    ids=["cycle", "unknown key", "duplicate", "itself", "unknown agent", "architect", "too deep"],
)
async def test_a_broken_plan_names_what_is_broken(
    client: Client,
    tables: Tables,
    session_id: str,
    subtasks: list[plan_pb2.SubtaskDraft],
    field: str,
    words: str,
) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(client.new_plan(session_id, subtasks))
    assert said(problem) == (INVALID, "INVALID_PLAN", [field])
    assert words in problem.fields[0].description


async def test_a_plan_of_more_subtasks_than_a_plan_may_have_is_refused(
    client: Client, tables: Tables, session_id: str
) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(client.new_plan(session_id, [subtask(f"s{n}") for n in range(201)]))
    assert said(problem) == (INVALID, "INVALID_REQUEST", ["subtasks"])
    assert "200" in problem.fields[0].description


async def test_every_fault_of_a_plan_is_named_at_once(client: Client, session_id: str) -> None:
    subtasks = [subtask("a", "x"), subtask("a", agent="nobody"), subtask("c", "c")]
    problem = await client.refusal(client.new_plan(session_id, subtasks))
    fields = [violation.field for violation in problem.fields]
    assert fields == ["subtasks[1].agent", "subtasks[1].key", "subtasks[0].depends_on", "subtasks[2].depends_on"]


async def test_a_decision_about_another_digest_is_refused_and_audited(
    client: Client, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.decide(approval, "APPROVE", digest="0" * 64))
    assert said(problem) == (WRONG, "DIGEST_MISMATCH", ["digest"])
    assert problem.metadata["digest"] == approval.digest


async def test_a_decision_without_a_digest_is_refused_and_audited(
    client: Client, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.decide(approval, "APPROVE", digest=""))
    assert said(problem) == (INVALID, "INVALID_REQUEST", ["digest"])


async def test_an_action_the_kind_does_not_take_is_refused_and_audited(
    client: Client, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.decide(approval, "RETRY"))
    assert said(problem) == (WRONG, "ACTION_NOT_ALLOWED", ["action"])
    assert problem.metadata["allowed"] == "APPROVE,REQUEST_CHANGES,REJECT,ABORT"


async def test_a_second_decision_by_somebody_else_learns_who_won_and_is_audited(
    client: Client, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    await client.acting_as("alice").decide(approval, "REJECT")
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.acting_as("bob").decide(approval, "REJECT"))
    assert said(problem) == (WRONG, "APPROVAL_ALREADY_RESOLVED", [])
    assert (problem.metadata["decider"], problem.metadata["action"]) == ("alice", "REJECT")


async def test_the_same_person_deciding_the_same_again_gets_the_same_answer(
    client: Client, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    first = await client.decide(approval, "REJECT", feedback="no")
    async with Unchanged(tables):
        assert await client.decide(approval, "REJECT", feedback="no") == first


async def test_the_same_person_changing_their_mind_is_refused(client: Client, tables: Tables, session_id: str) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    await client.decide(approval, "REJECT")
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.decide(approval, "APPROVE"))
    assert said(problem) == (WRONG, "APPROVAL_ALREADY_RESOLVED", [])


async def test_an_unknown_approval_is_not_found_and_audited(client: Client, tables: Tables, session_id: str) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    approval.id = NOBODY
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.decide(approval, "APPROVE"))
    assert said(problem) == (MISSING, "APPROVAL_NOT_FOUND", [])


async def test_another_tenants_things_are_not_found(client: Client, tables: Tables, session_id: str) -> None:
    plan = await client.new_plan(session_id)
    approval = await client.asked(session_id)
    stranger = client.acting_as("mallory", tenant="elsewhere")
    reads: list[tuple[Awaitable[Any], str]] = [
        (stranger.get_session(session_id), "SESSION"),
        (stranger.send(session_id), "SESSION"),
        (stranger.events(session_id), "SESSION"),
        (stranger.messages(session_id), "SESSION"),
        (stranger.new_plan(session_id), "SESSION"),
        (stream_of(stranger, session_id), "SESSION"),
        (stranger.get_plan(plan.id), "PLAN"),
        (stranger.get_run(plan.run_id), "RUN"),
        (stranger.steps(plan.run_id), "RUN"),
        (stranger.cancel(plan.run_id), "RUN"),
    ]
    async with Unchanged(tables):
        for call, kind in reads:
            assert said(await client.refusal(call)) == (MISSING, f"{kind}_NOT_FOUND", [])
        assert await stranger.pending(session_id) == []
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(stranger.decide(approval, "APPROVE"))
    assert said(problem) == (MISSING, "APPROVAL_NOT_FOUND", [])


async def test_a_decision_named_through_another_session_is_not_found(
    client: Client, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    approval = await client.asked(session_id)
    other = await client.new_session()
    decision = {"approval_id": approval.id, "action": 1, "digest": approval.digest}
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.converse(other.id, plan_decision=decision))
    assert said(problem) == (MISSING, "APPROVAL_NOT_FOUND", [])


async def test_a_decision_about_a_plan_decides_no_tool_call_and_the_other_way_round(
    client: Client, executor: ScriptedExecutor, tables: Tables, session_id: str
) -> None:
    await client.new_plan(session_id)
    on_plan = await client.asked(session_id)
    other = await client.new_session()
    executor.play = calls("send_mail")
    await client.send(other.id)
    on_call = await client.asked(other.id)
    await all_let_go()
    for where, approval, part in ((session_id, on_plan, "tool_decision"), (other.id, on_call, "plan_decision")):
        decision = {"approval_id": approval.id, "action": 1, "digest": approval.digest}
        async with Unchanged(tables, audited=1):
            problem = await client.refusal(client.converse(where, **{part: decision}))
        assert said(problem) == (INVALID, "INVALID_REQUEST", [f"{part}.approval_id"])


@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe"], ids=["tag", "cut", "not UTF-8"]
)
async def test_bytes_that_are_no_message_are_refused(client: Client, tables: Tables, garbage: bytes) -> None:
    async with Unchanged(tables):
        for path in ("SessionService/SendMessage", "ApprovalService/DecideApproval", "PlanService/CreatePlan"):
            raw: Any = client.channel.unary_unary(f"/assent.v1.{path}")
            problem = await client.refusal(client.call(raw, garbage))
            assert said(problem) == (INVALID, "MALFORMED_REQUEST", [])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"settings": {"budget": {"cost_usd_micros": 5}}}, "settings.budget.cost_usd_micros"),
        ({"settings": {"allowed_providers": ["openai"]}}, "settings.allowed_providers"),
        ({"workspace": {"repository": "https://example.org/x.git"}}, "workspace.repository"),
        ({"workspace": {"base_branch": "main"}}, "workspace.base_branch"),
    ],
)
async def test_a_setting_this_version_does_not_carry_out_is_refused_by_name(
    client: Client, tables: Tables, fields: dict[str, Any], named: str
) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(client.new_session(**fields))
    assert said(problem) == (INVALID, "INVALID_REQUEST", [named])


@pytest.mark.parametrize("seconds", [-1, 315_360_001, 315_576_000_000])
async def test_a_time_budget_that_no_calendar_has_is_refused(client: Client, tables: Tables, seconds: int) -> None:
    async with Unchanged(tables):
        problem = await client.refusal(client.new_session(settings={"budget": {"work_duration": {"seconds": seconds}}}))
    assert said(problem) == (INVALID, "INVALID_REQUEST", ["settings.budget.work_duration"])


async def test_a_part_of_a_decision_that_the_question_has_no_use_for_is_refused_by_name_and_audited(
    client: Client, executor: ScriptedExecutor, tables: Tables, session_id: str
) -> None:
    executor.play = calls("send_mail")
    await client.send(session_id)
    approval = await client.asked(session_id)
    await all_let_go()
    async with Unchanged(tables, audited=1):
        problem = await client.refusal(client.decide(approval, "APPROVE", edited_artifact=b"new"))
    assert said(problem) == (INVALID, "INVALID_REQUEST", ["edited_artifact"])


async def test_a_session_works_in_the_root_and_directory_it_names(client: Client) -> None:
    session = await client.new_session(workspace={"root_id": "shared", "directory": "project"})
    assert (session.workspace.root_id, session.workspace.directory) == ("shared", "project")


async def test_a_page_token_of_another_list_is_refused(client: Client, session_id: str) -> None:
    await client.send(session_id)
    for token in ("nonsense", "eyJ", "W10", "WzFd"):
        request = session_service_pb2.ListEventsRequest(session_id=session_id, page_token=token)
        problem = await client.refusal(client.call(client.sessions.ListEvents, request))
        assert said(problem) == (INVALID, "INVALID_PAGE_TOKEN", ["page_token"])
    first = session_service_pb2.ListEventsRequest(session_id=session_id, page_size=1)
    token = (await client.call(client.sessions.ListEvents, first)).next_page_token
    other = session_service_pb2.ListMessagesRequest(session_id=session_id, page_token=token)
    problem = await client.refusal(client.call(client.sessions.ListMessages, other))
    assert said(problem) == (INVALID, "INVALID_PAGE_TOKEN", ["page_token"])


async def test_a_page_larger_than_the_largest_is_refused(client: Client, session_id: str) -> None:
    request = session_service_pb2.ListEventsRequest(session_id=session_id, page_size=501)
    problem = await client.refusal(client.call(client.sessions.ListEvents, request))
    assert said(problem) == (INVALID, "INVALID_REQUEST", ["page_size"])


async def test_what_comes_in_a_later_version_says_so(client: Client, tables: Tables, session_id: str) -> None:
    later = [
        (client.usage.GetUsage, usage_service_pb2.GetUsageRequest()),
    ]
    async with Unchanged(tables):
        for rpc, request in later:
            problem = await client.refusal(client.call(rpc, request))
            assert said(problem) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", [])


async def test_cancelling_a_run_that_has_ended_says_so(client: Client, tables: Tables, session_id: str) -> None:
    plan = await client.new_plan(session_id)
    await client.cancel(plan.run_id)
    async with Unchanged(tables):
        problem = await client.refusal(client.cancel(plan.run_id))
    assert said(problem) == (WRONG, "WRONG_STATE", [])
    assert problem.metadata["state"] == "CANCELLED"


async def test_no_refusal_tells_what_the_service_is_made_of(client: Client, session_id: str) -> None:
    told = [
        await client.refusal(client.send(NOBODY)),
        await client.refusal(client.send(session_id, "")),
        await client.refusal(client.new_plan(session_id, [subtask("a", "a")])),
    ]
    for problem in told:
        assert not re.search(r"Traceback|asyncpg|sqlalchemy|/orchestrator/|\.py", problem.message)
        assert problem.disposition == "FATAL"
