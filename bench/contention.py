"""`python -m bench.contention`: how long commands take where they are hardest pressed.

Six callers hammer one session (each sends a message, then cancels its run), and one caller sends messages to new
sessions while the engine is saturated with workflows. Prints one JSON line for each; p99 shall be below 500 ms.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Awaitable

import grpc

from bench.driver import Driver
from bench.services import database, directory, services
from bench.steps import percentile
from gen.assent.v1 import run_service_pb2, run_service_pb2_grpc
from gen.assent.v1 import session_service_pb2 as pb
from gen.assent.v1.session_service_pb2_grpc import SessionServiceStub
from rpc.channel import connect

CALLERS = 6
WORKFLOWS = 64
ENDED_FIRST = grpc.StatusCode.FAILED_PRECONDITION  # the run was done before it could be cancelled


async def _timed(call: Awaitable[object], times: list[float], *, but: grpc.StatusCode | None = None) -> object:
    began = time.perf_counter()
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() != but:
            raise
        return None
    finally:
        times.append((time.perf_counter() - began) * 1e6)


async def _hammer(channel: grpc.aio.Channel, seconds: float) -> list[float]:
    """Everybody at one session; the microseconds of each command."""
    sessions, runs = SessionServiceStub(channel), run_service_pb2_grpc.RunServiceStub(channel)
    session = (await sessions.CreateSession(pb.CreateSessionRequest(agent="bench"))).session
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while time.perf_counter() < until:
            said = pb.SendMessageRequest(session_id=session.id, text="straight")
            sent = await _timed(sessions.SendMessage(said), times)
            assert isinstance(sent, pb.SendMessageResponse)
            unwanted = run_service_pb2.CancelRunRequest(run_id=sent.run.id)
            await _timed(runs.CancelRun(unwanted), times, but=ENDED_FIRST)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return times


async def _beside_workflows(channel: grpc.aio.Channel, seconds: float) -> list[float]:
    """One after the other, while the engine has all it can do; the microseconds of each command."""
    sessions = SessionServiceStub(channel)
    times: list[float] = []
    busy = asyncio.create_task(Driver(sessions, per_session=10).run("straight", WORKFLOWS, seconds))
    while not busy.done():
        created = await _timed(sessions.CreateSession(pb.CreateSessionRequest(agent="bench")), times)
        assert isinstance(created, pb.CreateSessionResponse)
        said = pb.SendMessageRequest(session_id=created.session.id, text="straight")
        await _timed(sessions.SendMessage(said), times)
    await busy
    return times


async def _measure(seconds: float, runs: int) -> None:
    with directory() as data, database(data) as url:
        async with services(data, url) as running, connect(str(running.address)) as channel:
            await Driver(SessionServiceStub(channel), per_session=10).run("straight", 8, 1.0)
            for _ in range(runs):
                for name, measured in (("six at one session", _hammer), ("saturated engine", _beside_workflows)):
                    times = await measured(channel, seconds)
                    latencies = {f"p{p}_ms": percentile(times, p) for p in (50, 99, 100)}
                    print(json.dumps({"pressed_by": name, "commands": len(times), **latencies}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.contention", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each kind")
    parser.add_argument("--runs", type=int, default=1, help="of each kind")
    options = parser.parse_args()
    asyncio.run(_measure(options.seconds, options.runs))


if __name__ == "__main__":
    main()
