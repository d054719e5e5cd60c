"""The stack with stand-ins for the services: what each is told, what stops the start, the end."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.health import grpc_serves
from cli.stack import Stack, StackSettings
from cli.trouble import CannotStart
from rpc.addresses import Address

SERVICE = """
import asyncio, os, signal, sys
from pathlib import Path
import grpc
from grpc_health.v1 import health, health_pb2_grpc

async def serve(name, address):
    print("url", os.environ.get("ASSENT_DATABASE_URL", "none"))
    print("metrics", os.environ.get("ASSENT_METRICS_ADDR", "none"))
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(address)
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(None)
    with open(Path(os.environ["ASSENT_DATA_DIR"]) / "ends", "a") as ends:
        print(name, file=ends)
"""
ORCHESTRATOR = """
import asyncio, os, sys, stand_in
if sys.argv[1:] == ["migrate"]:
    sys.exit(os.environ.get("MIGRATION_FAILS"))
asyncio.run(stand_in.serve("orchestrator", os.environ["ASSENT_GRPC_ADDR"]))
"""
EXECUTOR = """
import asyncio, os, stand_in
asyncio.run(stand_in.serve("executor", os.environ["ASSENT_EXECUTOR_ADDRS"]))
"""
GATEWAY = """
import os, signal, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

def end(*_):
    with open(Path(os.environ["ASSENT_DATA_DIR"]) / "ends", "a") as ends:
        print("gateway", file=ends)
    os._exit(0)

signal.signal(signal.SIGTERM, end)
host, port = os.environ["ASSENT_HTTP_ADDR"].split(":")
HTTPServer((host, int(port)), Ready).serve_forever()
"""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of packages named like the services."""
    root = tmp_path_factory.mktemp("root")
    (root / "stand_in.py").write_text(SERVICE)
    for name, code in (("orchestrator", ORCHESTRATOR), ("executor", EXECUTOR), ("gateway", GATEWAY)):
        (root / name).mkdir()
        (root / name / "__init__.py").touch()
        (root / name / "__main__.py").write_text(code)
    return root


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    anywhere = Address("127.0.0.1", 0)
    url = "postgresql://nobody@127.0.0.1:1/none"
    return StackSettings(tmp_path / "data", anywhere, anywhere, anywhere, database_url=url)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def stack(settings: StackSettings, root: Path, said: list[str]) -> AsyncIterator[Stack]:
    stack = Stack(settings, said.append, root=root)
    yield stack
    await stack.stop()


async def test_everything_starts_on_free_ports_and_stops_from_the_outside_in(stack: Stack) -> None:
    await stack.start()
    assert set(stack.pids()) == {"executor", "orchestrator", "gateway"}
    assert 0 not in (stack.settings.grpc_address.port, stack.settings.http_address.port)
    await stack.stop()
    ends = (stack.settings.data_dir / "ends").read_text().split()
    assert ends == ["gateway", "orchestrator", "executor"]


async def test_only_the_orchestrator_is_told_where_the_database_is(stack: Stack) -> None:
    await stack.start()
    await stack.stop()
    assert "url postgresql://nobody" in (stack.logs / "orchestrator.log").read_text()
    assert "url none" in (stack.logs / "executor.log").read_text()


async def test_each_service_has_a_metrics_address_of_its_own_or_none(
    settings: StackSettings, root: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSENT_METRICS_ADDR", "127.0.0.1:9")
    chosen = StackSettings(**{**vars(settings), "metrics_address": Address("127.0.0.1", 0)})
    stack = Stack(chosen, said.append, root=root)
    await stack.start()
    await stack.stop()
    assert f"metrics {stack.settings.metrics_address}\n" in (stack.logs / "orchestrator.log").read_text()
    assert "metrics none\n" in (stack.logs / "executor.log").read_text()


async def test_a_service_that_died_comes_back_at_the_same_address(settings: StackSettings, root: Path) -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    stack = Stack(settings, said.put_nowait, root=root)
    await stack.start()
    os.kill(stack.pids()["orchestrator"], signal.SIGKILL)
    assert "orchestrator was killed by SIGKILL" in await said.get()
    assert "orchestrator is back" in await said.get()
    assert await grpc_serves(stack.settings.grpc_address)
    await stack.stop()


async def test_a_taken_port_is_named_with_the_option_that_changes_it(
    settings: StackSettings, root: Path, said: list[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = StackSettings(**{**vars(settings), "http_address": Address("127.0.0.1", port)})
        with pytest.raises(CannotStart, match=f"gateway cannot listen on 127.0.0.1:{port}(.*)--http-addr"):
            await Stack(chosen, said.append, root=root).start()


async def test_what_a_killed_stack_left_behind_is_waited_for(
    settings: StackSettings, root: Path, said: list[str]
) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    (settings.data_dir / "up.lock").write_text("4711")  # it was not stopped, or nothing would stand there
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        chosen = replace(settings, grpc_address=Address("127.0.0.1", taken.getsockname()[1]))
        stack = Stack(chosen, said.append, root=root)
        starting = asyncio.create_task(stack.start())
        await asyncio.wait({starting}, timeout=0.3)
        assert not starting.done()
    await starting
    await stack.stop()
    assert (settings.data_dir / "up.lock").read_text() == ""


async def test_a_failed_migration_stops_the_start_with_its_reason(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_FAILS", "relation sessions is not ours")
    with pytest.raises(CannotStart, match="relation sessions is not ours"):
        await stack.start()
    assert stack.pids() == {}


async def test_a_data_directory_serves_one_stack_at_a_time(
    stack: Stack, settings: StackSettings, root: Path, said: list[str]
) -> None:
    await stack.start()
    with pytest.raises(CannotStart, match=rf"in use by another assent \(pid {os.getpid()}\)"):
        await Stack(settings, said.append, root=root).start()
    await stack.stop()
    again = Stack(settings, said.append, root=root)
    await again.start()
    await again.stop()


async def test_a_data_directory_that_cannot_be_made_is_named(
    settings: StackSettings, tmp_path: Path, root: Path, said: list[str]
) -> None:
    (tmp_path / "file").touch()
    chosen = StackSettings(**{**vars(settings), "data_dir": tmp_path / "file" / "data"})
    with pytest.raises(CannotStart, match="file/data is unusable: Not a directory"):
        await Stack(chosen, said.append, root=root).start()
