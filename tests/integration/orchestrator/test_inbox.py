"""Watching the inbox: what is pending, then what is asked and answered on any replica, for one's own tenant alone."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from gen.assent.v1 import approval_pb2
from gen.assent.v1.approval_service_pb2 import ListApprovalsRequest, WatchApprovalsRequest
from orchestrator.domain.records import ApprovalTerms
from rpc.problem import Problem
from tests.integration.orchestrator.client import LIMIT_SECONDS, Client
from tests.integration.orchestrator.plays import calls
from tests.integration.orchestrator.replica import Replica, Replicas, until
from tests.integration.orchestrator.scripted_executor import ScriptedExecutor


class Inbox:
    """One watch of the inbox, and what it has shown."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.pending: set[str] = set()
        self.pages: list[int] = []
        self.heard: list[tuple[str, str]] = []

    async def complete(self) -> "Inbox":
        """Read the snapshot."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                response = await self._call.read()
                self.pages.append(len(response.approvals))
                ids = {each.id for each in response.approvals}
                assert not ids & self.pending
                self.pending |= ids
                if response.snapshot_complete:
                    return self

    async def until(self, name: str, approval_id: str) -> None:
        """Read on to this change."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while (name, approval_id) not in self.heard:
                response = await self._call.read()
                for event in response.events:
                    self._take(event)

    def _take(self, event: Any) -> None:
        name = event.WhichOneof("payload")
        if name == "approval_requested":
            assert event.approval_requested.approval.id not in self.pending
            self.pending.add(event.approval_requested.approval.id)
            self.heard.append((name, event.approval_requested.approval.id))
        elif name == "approval_resolved":
            self.pending.remove(event.approval_resolved.approval_id)
            self.heard.append((name, event.approval_resolved.approval_id))


@asynccontextmanager
async def inbox_of(client: Client, **wanted: Any) -> AsyncIterator[Inbox]:
    call: Any = client.approvals.WatchApprovals(WatchApprovalsRequest(**wanted), metadata=client.metadata)
    try:
        yield await Inbox(call).complete()
    finally:
        call.cancel()


async def asked_for_a_plan(client: Client) -> approval_pb2.Approval:
    session = await client.new_session()
    await client.new_plan(session.id)
    return await client.asked(session.id)


async def test_what_is_pending_comes_in_pages_then_what_is_asked_and_answered(client: Client) -> None:
    before = [await asked_for_a_plan(client) for _ in range(60)]
    async with inbox_of(client) as inbox:
        assert inbox.pending == {approval.id for approval in before}
        assert len(inbox.pages) > 1
        await client.decide(before[7], "APPROVE")
        await inbox.until("approval_resolved", before[7].id)
        asked = await asked_for_a_plan(client)
        await inbox.until("approval_requested", asked.id)
    async with inbox_of(client) as again:
        assert again.pending == inbox.pending


async def test_a_filter_shows_one_kind_or_one_session(client: Client, executor: ScriptedExecutor) -> None:
    executor.play = calls("send_mail")
    plan = await asked_for_a_plan(client)
    async with (
        inbox_of(client, kind=approval_pb2.APPROVAL_KIND_TOOL_CALL) as calls_only,
        inbox_of(client, session_id=plan.session_id) as of_session,
    ):
        assert (calls_only.pending, of_session.pending) == (set(), {plan.id})
        other = await client.new_session()
        await client.send(other.id)
        call = await client.asked(other.id)
        await calls_only.until("approval_requested", call.id)
        await client.decide(plan, "REJECT")
        await of_session.until("approval_resolved", plan.id)
        assert of_session.heard == [("approval_resolved", plan.id)]
        assert calls_only.heard == [("approval_requested", call.id)]


async def test_a_tool_and_a_run_are_filters_of_the_list_and_of_the_watch(
    client: Client, executor: ScriptedExecutor
) -> None:
    executor.play = calls("send_mail")
    plan = await asked_for_a_plan(client)
    async with (
        inbox_of(client, tool="send_mail") as of_tool,
        inbox_of(client, run_id=plan.run_id) as of_run,
        inbox_of(client, decidable=True) as mine,
    ):
        other = await client.new_session()
        await client.send(other.id)
        call = await client.asked(other.id)
        await of_tool.until("approval_requested", call.id)
        await mine.until("approval_requested", call.id)
        await client.decide(plan, "REJECT")
        await of_run.until("approval_resolved", plan.id)
        assert (of_tool.pending, of_run.heard) == ({call.id}, [("approval_resolved", plan.id)])

    async def listed(**wanted: Any) -> list[str]:
        request = ListApprovalsRequest(**wanted)
        response = await client.approvals.ListApprovals(request, metadata=client.metadata)
        return [approval.id for approval in response.approvals]

    assert await listed(tool="send_mail") == [call.id]
    assert await listed(tool="send_mail", run_id=plan.run_id) == []
    assert await listed(decidable=True, session_id=other.id) == [call.id]
    assert await listed(decidable=True, run_id=plan.run_id) == []  # it is decided


async def test_everybody_sees_what_they_may_decide(replicas: Replicas, on_terms: Callable[..., None]) -> None:
    on_terms(PLAN=ApprovalTerms(roles=["lead"], requester_excluded=True))
    requester = (await replicas.start()).client
    lead = requester.acting_as("ann", roles="lead")
    clerk = requester.acting_as("bob", roles="clerk")
    before = await asked_for_a_plan(requester)
    async with (
        inbox_of(lead, decidable=True) as leads,
        inbox_of(clerk, decidable=True) as clerks,
        inbox_of(requester, decidable=True) as own,
        inbox_of(clerk) as every,
    ):
        after = await asked_for_a_plan(requester)
        await lead.decide(before, "REJECT")
        await leads.until("approval_resolved", before.id)
        await every.until("approval_resolved", before.id)
        assert leads.pending == every.pending == {after.id}
        assert clerks.heard == own.heard == []
    for client, found in ((lead, {after.id}), (clerk, set()), (requester, set())):
        request = ListApprovalsRequest(decidable=True)
        listed = await client.approvals.ListApprovals(request, metadata=client.metadata)
        assert {approval.id for approval in listed.approvals} == found


async def test_another_tenant_sees_nothing(client: Client) -> None:
    stranger = client.acting_as("eve", tenant="elsewhere")
    first = await asked_for_a_plan(client)
    async with inbox_of(stranger) as theirs, inbox_of(stranger, session_id=first.session_id) as named:
        second = await asked_for_a_plan(client)
        async with inbox_of(client) as ours:
            await client.decide(second, "REJECT")
            await ours.until("approval_resolved", second.id)
        own = await asked_for_a_plan(stranger)
        await theirs.until("approval_requested", own.id)
        assert theirs.heard == [("approval_requested", own.id)]
        assert named.pending == set()


async def test_an_inbox_at_one_replica_shows_what_is_asked_and_answered_at_others(
    replicas: Replicas, executor: ScriptedExecutor
) -> None:
    first, second = await replicas.start(), await replicas.start()
    await executor.joined(2)
    await until(lambda: first.knows_others and second.knows_others)
    before = await asked_for_a_plan(first.client)
    async with inbox_of(second.client) as inbox:
        assert inbox.pending == {before.id}
        asked = await asked_for_a_plan(first.client)
        await inbox.until("approval_requested", asked.id)
        await first.client.decide(before, "REJECT")
        await inbox.until("approval_resolved", before.id)
        await second.client.decide(asked, "REJECT")
        await inbox.until("approval_resolved", asked.id)
        assert [name for name, _ in inbox.heard].count("approval_requested") == 1


async def test_who_watches_while_others_ask_and_answer_misses_nothing(client: Client) -> None:
    async def ask_and_answer(number: int) -> str:
        asked = await asked_for_a_plan(client)
        if number % 2:
            await client.decide(asked, "REJECT")
        return asked.id if number % 2 == 0 else ""

    async def watched() -> tuple[set[str], list[tuple[str, str]]]:
        async with inbox_of(client) as inbox:
            last = await asked_for_a_plan(client)
            await inbox.until("approval_requested", last.id)
            return inbox.pending - {last.id}, inbox.heard

    async with asyncio.TaskGroup() as group:
        asking = [group.create_task(ask_and_answer(number)) for number in range(24)]
        watching = [group.create_task(watched()) for _ in range(6)]
    assert len(asking) == 24
    for task in watching:
        _, heard = task.result()
        assert len(heard) == len(set(heard))
    async with inbox_of(client) as inbox:
        assert {task.result() for task in asking} - {""} <= inbox.pending


async def test_a_stopping_replica_ends_the_watch_with_a_word(replica: Replica, client: Client) -> None:
    call: Any = client.approvals.WatchApprovals(WatchApprovalsRequest(), metadata=client.metadata)
    await Inbox(call).complete()
    stopping = asyncio.create_task(replica.stop_under_clients())
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await call.read()
    problem = Problem.from_rpc_error(ended.value)
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    await stopping
