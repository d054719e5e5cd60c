"""Watchers over restarts of the orchestrator: each durable event once, in order, whichever way they watch."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from gen.assent.v1 import session_service_pb2 as pb
from rpc.problem import Problem
from tests.e2e.scenes import a_subtask, settled
from tests.e2e.services import LIMIT_SECONDS, Services
from tests.integration.gateway.stack import sse_events
from tests.integration.orchestrator.client import Client, payload, state


class Follower:
    """A watcher that connects again and again, each time after the last sequence it has seen."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []  # sequence and name of the durable events
        self.deltas = 0
        self.connections = 0
        self._told = asyncio.Event()

    @property
    def last(self) -> int:
        return self.seen[-1][0] if self.seen else 0

    def see(self, sequence: int, name: str) -> None:
        if sequence:
            self.seen.append((sequence, name))
        self.deltas += name == "message_delta"
        self._told.set()

    async def until(self, met: Callable[["Follower"], bool]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not met(self):
                self._told.clear()
                await self._told.wait()


async def watch_over_http(follower: Follower, services: Services, session_id: str) -> None:
    """As a browser's EventSource does."""
    while True:
        headers = {"last-event-id": str(follower.last)} if follower.last else {}
        url = f"/v1/sessions/{session_id}:stream?includeDeltas=true"
        async with services.http.stream("GET", url, headers=headers) as response:
            if response.status_code == 200:
                follower.connections += 1
                async for event in sse_events(response):
                    if event.name == "stream_error":
                        break
                    sequence = int(event.data.get("sequence", 0))
                    assert event.id == (str(sequence) if sequence else None)
                    follower.see(sequence, event.name)
        await asyncio.sleep(0.05)


async def watch_over_grpc(follower: Follower, client: Client, session_id: str) -> None:
    while True:
        request = pb.StreamSessionRequest(session_id=session_id, after_sequence=follower.last, include_deltas=True)
        try:
            call = client.sessions.StreamSession(request)
            await call.initial_metadata()
            follower.connections += 1
            async for response in call:
                for event in response.events:
                    follower.see(event.sequence, payload(event)[0])
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        await asyncio.sleep(0.05)


@asynccontextmanager
async def followers(services: Services, client: Client, session_id: str) -> AsyncIterator[list[Follower]]:
    """One over HTTP, one over gRPC."""
    both = [Follower(), Follower()]
    async with asyncio.TaskGroup() as group:
        watching = [
            group.create_task(watch_over_http(both[0], services, session_id)),
            group.create_task(watch_over_grpc(both[1], client, session_id)),
        ]
        yield both
        for task in watching:
            task.cancel()


async def test_watchers_that_resume_over_a_crash_see_every_durable_event_once_and_in_order(
    services: Services, client: Client
) -> None:
    session = await client.new_session()
    async with followers(services, client, session.id) as both:
        subtasks = [a_subtask("first", "Think."), a_subtask("second", "Think.", "first")]
        plan = await client.new_plan(session.id, subtasks)
        await client.decide(await client.asked(session.id), "APPROVE")
        for follower in both:
            await follower.until(lambda each: each.deltas > 0)
        await services.orchestrator.kill()
        await services.orchestrator.start()
        await settled(client, session.id)
        log = await client.events(session.id)
        for follower in both:
            await follower.until(lambda each: each.last == log[-1].sequence)
    assert state(await client.get_run(plan.run_id)) == "COMPLETED"
    expected = [(event.sequence, payload(event)[0]) for event in log]
    assert [number for number, _ in expected] == list(range(1, len(log) + 1))
    for follower in both:
        assert follower.seen == expected
        assert follower.connections > 1


async def test_an_orderly_stop_tells_a_watcher_where_to_resume_and_the_next_orchestrator_goes_on(
    services: Services, client: Client
) -> None:
    session = await client.new_session()
    run = (await client.send(session.id, "Think.")).run
    async with client.watch(session.id, include_deltas=True) as watch:
        await watch.until("message_delta")
        services.orchestrator.send(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.end()
    problem = Problem.from_rpc_error(ended.value)
    assert (problem.code, problem.reason) == (grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN")
    last = watch.log.sequences[-1]
    assert problem.metadata["resume_after_sequence"] == str(last)
    assert await services.orchestrator.ended(limit=10) == 0

    await services.orchestrator.start()
    await settled(client, session.id)
    rest = await client.settled(session.id, last)
    assert rest.sequences == list(range(last + 1, rest.sequences[-1] + 1))
    assert state(await client.get_run(run.id)) == "COMPLETED"
    (reply,) = await client.steps(run.id)
    assert reply.dispatch_number == 1
