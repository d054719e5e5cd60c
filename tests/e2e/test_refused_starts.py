"""Processes that must not start: each says why in one line and ends with a code of its own."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from rpc import failpoints
from tests.e2e.services import ROOT

DATABASE = {"ASSENT_DATABASE_URL": "postgresql://assent@/assent?host=/nowhere"}
ELSEWHERE = "0.0.0.0:0"


async def refused(directory: Path, name: str, **environment: str) -> tuple[int | None, str]:
    """How the process ends, and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        name,
        cwd=ROOT,
        env={**os.environ, "ASSENT_DATA_DIR": str(directory), **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    errors = (await process.communicate())[1].decode()
    assert "Traceback" not in errors
    return process.returncode, errors


@pytest.mark.parametrize(
    ("name", "what", "environment"),
    [
        ("orchestrator", "the orchestrator", {**DATABASE, "ASSENT_GRPC_ADDR": ELSEWHERE}),
        ("orchestrator", "the metrics server", {**DATABASE, "ASSENT_METRICS_ADDR": ELSEWHERE}),
        ("executor", "the executor", {"ASSENT_EXECUTOR_ADDR": ELSEWHERE}),
        ("executor", "the metrics server", {"ASSENT_METRICS_ADDR": ELSEWHERE}),
        ("gateway", "the gateway", {"ASSENT_HTTP_ADDR": ELSEWHERE}),
    ],
)
async def test_nothing_listens_where_others_could_reach_it(
    name: str, what: str, environment: dict[str, str], tmp_path: Path
) -> None:
    code, said = await refused(tmp_path, name, **environment)
    assert f"{what} refuses to listen on {ELSEWHERE}: requests are not authenticated" in said
    assert code == 1


@pytest.mark.parametrize("url", ["", "sqlite:///assent.db"])
async def test_an_orchestrator_without_a_postgresql_database_says_what_it_needs(url: str, tmp_path: Path) -> None:
    code, said = await refused(tmp_path, "orchestrator", ASSENT_DATABASE_URL=url)
    assert said.startswith("ASSENT_DATABASE_URL: ")
    assert "PostgreSQL URL" in said or "postgresql:// URL" in said
    assert code == 2


@pytest.mark.parametrize("name", ["orchestrator", "executor"])
async def test_a_failpoint_that_does_not_exist_is_refused_with_those_that_do(name: str, tmp_path: Path) -> None:
    code, said = await refused(tmp_path, name, **DATABASE, ASSENT_FAILPOINT="commit:1:crash")
    assert said.startswith("ASSENT_FAILPOINT: there is no failpoint commit; there are\n")
    assert [line.split()[0] for line in said.splitlines()[1:]] == list(failpoints.POINTS)
    assert code == 2


@pytest.mark.parametrize("name", ["orchestrator", "executor"])
async def test_a_taken_metrics_port_is_named(name: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await refused(tmp_path, name, **DATABASE, ASSENT_METRICS_ADDR=address)
    assert f"the metrics server cannot listen on {address}" in said
    assert code == 1
