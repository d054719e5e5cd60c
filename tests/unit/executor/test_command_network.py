"""Commands reach no port, Assent's own included, unless the executor's setting says that they may."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from executor.bootstrap import build
from executor.settings import Settings
from executor.tools import confine
from executor.tools.sandbox import can_shut_network
from executor.tools.tool import ToolCall, ToolResult
from executor.tools.toolbox import built_in
from executor.tools.workspace import Workspace

WARNING = "command_network_not_shut"

# Every way to a TCP port that we know of; PORT is the server's. Landlock lets fast open and MPTCP through.
CONNECT = {
    "bash": "exec 3<>/dev/tcp/127.0.0.1/PORT; echo hello >&3; cat <&3",
    "tcp": """python3 -c 'import socket
s = socket.create_connection(("127.0.0.1", PORT))
s.send(b"hello\\n"); print(s.recv(9).decode())'""",
    "fast open": """python3 -c 'import socket
s = socket.socket(); s.sendto(b"hello\\n", socket.MSG_FASTOPEN, ("127.0.0.1", PORT))
print(s.recv(9).decode())'""",
    "ipv6": """python3 -c 'import socket
s = socket.socket(socket.AF_INET6); s.connect(("::ffff:127.0.0.1", PORT))
s.send(b"hello\\n"); print(s.recv(9).decode())'""",
}
MPTCP = """python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.connect(("127.0.0.1", PORT))
s.send(b"hello\\n"); print(s.recv(9).decode())'"""
BIND = 'python3 -c \'import socket; socket.create_server(("127.0.0.1", 0)); print("bound")\''


class Server:
    """A server on the loopback that answers, and knows who came."""

    def __init__(self, port: int, seen: list[bytes]) -> None:
        self.port = port
        self.seen = seen


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        writer.write(b"reached")
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        yield Server(listening.sockets[0].getsockname()[1], seen)


async def run(root: Path, command: str, network: bool) -> ToolResult:
    call = ToolCall(json.dumps({"command": command}), Workspace(root, "session"))
    return await built_in(network)["run_command"].perform(call)


async def warnings(root: Path, command_network: bool = False) -> list[object]:
    with capture_logs() as logs:
        await build(Settings(data_dir=root, executor_addr="127.0.0.1:0", command_network=command_network))
    return [line["event"] for line in logs]


@pytest.mark.parametrize("way", [*CONNECT, "mptcp"])
async def test_a_command_reaches_no_port_of_this_machine(tmp_path: Path, server: Server, way: str) -> None:
    if not can_shut_network():
        assert WARNING in await warnings(tmp_path)
        return
    command = {**CONNECT, "mptcp": MPTCP}[way].replace("PORT", str(server.port))
    result = await run(tmp_path, command, network=False)
    assert result.is_error
    assert "denied" in result.content or (way == "mptcp" and "not supported" in result.content)
    assert "reached" not in result.content
    assert server.seen == []


async def test_landlock_alone_refuses_plain_tcp(server: Server) -> None:
    program = (
        "import socket, sys; from executor.tools import confine\n"
        "confine._libc.prctl(38, 1, 0, 0, 0); confine.confine([], [], network=False)\n"
        "socket.create_connection(('127.0.0.1', int(sys.argv[1]))).send(b'hello\\n')"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(server.port), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    # Older kernels leave this to seccomp.
    assert (b"Permission denied" in said) is (confine.version() >= 4)


async def test_a_command_listens_on_no_port(tmp_path: Path) -> None:
    if not can_shut_network():
        assert WARNING in await warnings(tmp_path)
        return
    result = await run(tmp_path, BIND, network=False)
    assert result.is_error
    assert "denied" in result.content


@pytest.mark.parametrize("way", CONNECT)
async def test_the_setting_opens_the_network(tmp_path: Path, server: Server, way: str) -> None:
    result = await run(tmp_path, CONNECT[way].replace("PORT", str(server.port)), network=True)
    assert result.content.strip() == "reached"
    assert server.seen == [b"hello\n"]
    assert (await run(tmp_path, BIND, network=True)).content == "bound\n"


async def test_local_sockets_stay(tmp_path: Path) -> None:
    command = "python3 -c 'import socket; socket.socketpair(); socket.socket(socket.AF_UNIX).bind(\"s\")'"
    assert not (await run(tmp_path, command, network=False)).is_error


@pytest.mark.parametrize("allowed", [False, True])
async def test_the_executor_gives_its_setting_to_the_tool(tmp_path: Path, server: Server, allowed: bool) -> None:
    parts = await build(Settings(data_dir=tmp_path, executor_addr="127.0.0.1:0", command_network=allowed))
    tool = parts.executor.performer.tools["run_command"]
    command = json.dumps({"command": CONNECT["bash"].replace("PORT", str(server.port))})
    result = await tool.perform(ToolCall(command, Workspace(tmp_path, "session")))
    assert ("reached" in result.content) is (allowed or not can_shut_network())


async def test_an_executor_that_cannot_shut_the_network_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (WARNING in await warnings(tmp_path)) is not can_shut_network()
    monkeypatch.setattr(confine, "has_seccomp", lambda: False)
    assert (await warnings(tmp_path)).count(WARNING) == 1
    assert WARNING not in await warnings(tmp_path, command_network=True)
