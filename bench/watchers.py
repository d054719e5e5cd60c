"""`python -m bench.watchers`: thousands of watchers come back at once, to one session or each to its own.

Prints one JSON line a herd: how long until all have caught up, queries, CPU and memory.
"""

import argparse
import asyncio
import json
import time
from typing import Any

import grpc
import httpx

from bench import meter
from bench.driver import Driver
from bench.services import Services, database, directory, services
from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1.session_service_pb2_grpc import SessionServiceStub

STREAMS_A_CHANNEL = 500  # a server takes a thousand on one connection
AT_ONCE = 32


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.watchers", description=__doc__)
    parser.add_argument("--watchers", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=500, help="about so many in the one session's log")
    parser.add_argument("--behind", type=int, default=50, help="a watcher has missed up to so many events")
    options = parser.parse_args()
    with directory() as data, database(data / "database") as url:
        asyncio.run(_measure(data, url, options))


async def _measure(data: Any, url: str, options: argparse.Namespace) -> None:
    async with services(data, url) as running:
        channels = [_channel(str(running.address)) for _ in range(1 + options.watchers // STREAMS_A_CHANNEL)]
        stubs = [SessionServiceStub(channel) for channel in channels]
        one = await _session(stubs[0], options.events)
        own = await _sessions(stubs[0], options.watchers)
        herds = {"one session": [one] * options.watchers, "a session each": own}
        for name, sessions in herds.items():
            print(json.dumps(await _herd(name, sessions, stubs, running, options.behind)), flush=True)
        for channel in channels:
            await channel.close()


def _channel(address: str) -> grpc.aio.Channel:
    """A connection of its own, as different clients have."""
    return grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


async def _session(sessions: SessionServiceStub, events: int) -> tuple[str, int]:
    """A session with a log of about so many events, and its last sequence."""
    session_id = (await sessions.CreateSession(pb.CreateSessionRequest(agent="bench"))).session.id
    driver, last = Driver(sessions, per_session=1), 1
    while last < events:
        workflow = await driver.workflow("straight", session_id)
        workflow.check()
        last = workflow.sequence
    return session_id, last


async def _sessions(sessions: SessionServiceStub, count: int) -> list[tuple[str, int]]:
    """As many sessions with one message each."""
    places = asyncio.Semaphore(AT_ONCE)

    async def make() -> tuple[str, int]:
        async with places:
            return await _session(sessions, 2)

    return await asyncio.gather(*(make() for _ in range(count)))


async def _herd(
    name: str,
    sessions: list[tuple[str, int]],
    stubs: list[SessionServiceStub],
    running: Services,
    behind: int,
) -> dict[str, Any]:
    pids = [running.orchestrator]
    memory, cpu, queries = meter.rss_bytes(pids), meter.cpu_seconds(pids), await _queries(running)
    began = time.perf_counter()
    watching = [
        asyncio.create_task(_caught_up(stubs[n % len(stubs)], session_id, max(0, last - 1 - n % behind), last))
        for n, (session_id, last) in enumerate(sessions)
    ]
    took = sorted(await asyncio.gather(*(_time(task, began) for task in watching)))
    seconds = time.perf_counter() - began
    used = meter.cpu_seconds(pids) - cpu
    memory_with_all = meter.rss_bytes(pids)
    asked = await _queries(running) - queries
    events = 0
    for task in watching:
        call, seen = task.result()
        events += seen
        call.cancel()
    return {
        "herd": name,
        "watchers": len(sessions),
        "events": events,
        "caught_up_s": {"p50": round(took[len(took) // 2], 2), "all": round(seconds, 2)},
        "queries": asked,
        "orchestrator_cpu_s": round(used, 2),
        "orchestrator_rss_mb": {"before": round(memory / 1e6), "all_watching": round(memory_with_all / 1e6)},
    }


async def _queries(running: Services) -> int:
    """How many the orchestrator has made for watchers."""
    async with httpx.AsyncClient(trust_env=False) as http:
        lines = (await http.get(running.metrics_url)).text.splitlines()
    return round(sum(float(line.split()[-1]) for line in lines if line.startswith("assent_watch_queries_total")))


async def _caught_up(sessions: SessionServiceStub, session_id: str, after: int, last: int) -> tuple[Any, int]:
    """A stream that has shown everything and goes on, and how many events it took."""
    call = sessions.StreamSession(pb.StreamSessionRequest(session_id=session_id, after_sequence=after))
    sequence = after
    while sequence < last:
        response: Any = await call.read()
        for event in response.events:
            assert event.sequence == sequence + 1, f"event {event.sequence} follows {sequence}"
            sequence = event.sequence
    return call, sequence - after


async def _time(task: "asyncio.Task[Any]", began: float) -> float:
    await task
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
