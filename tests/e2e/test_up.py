"""`assent up` and `assent demo` with the real services: started, used, killed, brought back, stopped."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
FREE = "127.0.0.1:0"
STATES = re.compile(r"^ *\d+  [A-Z_]+ → ([A-Z_]+)(?:$|  \()", re.MULTILINE)  # of the session, not of its plan
BEGUN = re.compile(rb" *\d+  \[app\] .*: RUNNING")  # in the middle of the plan
GOAL = "открыт пустой проект, создай тестовое приложение на flutter"


class Up:
    """A running `assent up` and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path) -> None:
        self.process = process
        self.data_dir = data_dir
        self.output = ""

    async def see(self, text: str) -> None:
        """Wait for a text in the output after what was seen before."""
        assert self.process.stdout is not None
        seen = len(self.output)
        async with asyncio.timeout(60):
            while text not in self.output[seen:]:
                line = await self.process.stdout.readline()
                assert line, f"it ended without {text!r}:\n{self.output}"
                self.output += line.decode()

    def address(self, name: str) -> str:
        found = re.search(rf"^  {name} +(\S+)", self.output, re.MULTILINE)
        assert found, self.output
        return found[1]

    def pid(self, name: str) -> int:
        found = re.findall(rf"{name},? (?:is back \()?pid (\d+)", self.output)
        assert found, self.output
        return int(found[-1])

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        await self.see("stopped")
        return await self.process.wait()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli", *arguments]


@asynccontextmanager
async def started(data_dir: Path) -> AsyncIterator[Up]:
    addresses = ("--grpc-addr", "--executor-addr", "--http-addr", "--metrics-addr", "--executor-metrics-addr")
    options = [word for option in addresses for word in (option, FREE)]
    process = await asyncio.create_subprocess_exec(
        *command("up", "--data-dir", str(data_dir), *options),
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    up = Up(process, data_dir)
    try:
        await up.see("logs in")
        yield up
    finally:
        if process.returncode is None:
            process.terminate()
            await process.communicate()


@pytest.fixture(scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    async with started(tmp_path_factory.mktemp("up") / "data") as up:
        yield up


async def assent(up: Up, *arguments: str) -> tuple[int | None, str]:
    """Another `assent`, as a client of that one."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        cwd=ROOT,
        env={**os.environ, "ASSENT_GRPC_ADDR": up.address("gRPC"), "ASSENT_DATA_DIR": str(up.data_dir)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def ready(up: Up) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(up.address("HTTP") + "/readyz")).status_code == 200


async def sessions(up: Up) -> list[str]:
    """The ids of all sessions, over HTTP; asked again while the database is coming back."""
    async with httpx.AsyncClient(trust_env=False, base_url=up.address("HTTP")) as client, asyncio.timeout(30):
        while True:
            answer = await client.get("/v1/sessions")
            if answer.status_code != 503:
                return [session["id"] for session in answer.raise_for_status().json()["sessions"]]
            await asyncio.sleep(0.1)


async def test_everything_listens_where_it_says(up: Up) -> None:
    assert await ready(up)
    code, output = await assent(up, "approvals")
    assert (code, output) == (0, "nothing waits for a decision\n")


async def test_a_run_goes_on_to_its_end_over_a_killed_orchestrator(up: Up) -> None:
    run = await asyncio.create_subprocess_exec(
        *command("run", GOAL, "--yes", "--plain"),
        cwd=ROOT,
        env={**os.environ, "ASSENT_GRPC_ADDR": up.address("gRPC")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert run.stdout is not None
    told = line = b""
    while not BEGUN.match(line):
        line = await run.stdout.readline()
        assert line, told.decode()
        told += line
    os.kill(up.pid("orchestrator"), signal.SIGKILL)
    async with asyncio.timeout(90):
        story = (told + (await run.communicate())[0]).decode()
    assert run.returncode == 0, story
    assert "PLAN_EXECUTION → COMPLETED" in story
    numbers = [int(line[:4]) for line in story.splitlines() if line[:4].strip().isdigit()]
    assert numbers == sorted(numbers)
    states = STATES.findall(story)
    assert len(states) == len(set(states)), story
    await up.see("orchestrator is back")


async def test_a_killed_database_is_started_again_with_its_data(up: Up) -> None:
    before = await sessions(up)
    os.kill(up.pid("embedded PostgreSQL"), signal.SIGKILL)
    await up.see("PostgreSQL is back")
    assert await sessions(up) == before


async def test_ctrl_c_stops_everything_and_the_data_is_there_the_next_time(up: Up) -> None:
    """The last to use this one: it is stopped here."""
    before = await sessions(up)
    pids = [up.pid(name) for name in ("orchestrator", "gateway", "embedded PostgreSQL")]
    assert await up.stop() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    async with started(up.data_dir) as again:
        assert await sessions(again) == before
        assert await again.stop() == 0


async def test_demo_shows_every_state_and_real_files(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command("demo", "--data-dir", str(tmp_path / "demo")),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    states = STATES.findall(output)
    assert states == [
        "CLASSIFY",
        "PLAN_REQUIRED",
        "ARCHITECT_PLANNING",
        "PLAN_REVIEW",
        "PLAN_EXECUTION",
        "COMPLETED",
    ]
    story = ("is a DRAFT of", "PLAN APPROVE by", "? TOOL_CALL Write", "TOOL_CALL APPROVE by", "Report of run")
    places = [output.index(part) for part in story]
    assert places == sorted(places)
    (main,) = (tmp_path / "demo" / "workspaces").glob("*/lib/main.dart")
    for size, path in re.findall(r"^ +(\d+) bytes  (\S+)$", output, re.MULTILINE):
        assert (main.parents[1] / path).stat().st_size == int(size)
