"""Running a command in a workspace, with nothing of this process' environment but what a shell needs.

It may change files of the workspace and of a temporary directory of its own, and no others (sandbox.py). Whoever
starts it ends it: when the step is over, for whatever reason, its whole process group is, and what left the group.
"""

import asyncio
import codecs
import json
import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import Field

from executor.text import clean
from executor.tools.leftovers import end_leftovers
from executor.tools.sandbox import confined
from executor.tools.tool import OUTPUT_LIMIT_BYTES, Arguments, SideEffect, Tool, ToolCall, ToolResult

_HEAD_BYTES = OUTPUT_LIMIT_BYTES // 4 * 3
_TAIL_BYTES = OUTPUT_LIMIT_BYTES - _HEAD_BYTES
# How long a process that could not be ended may go on writing.
_LAST_WORDS_SECONDS = 0.5
# Names whose values a command needs and that hold no secret; everything else stays with the executor.
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")


class RunCommand(Arguments):
    command: str = Field(min_length=1, max_length=32_768, description="What bash runs, in the workspace.")
    timeout_seconds: float | None = Field(None, gt=0, description="When to give up; the step's deadline holds too.")


class _Output:
    """The first and the last bytes of a stream, and how many there were."""

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        room = _HEAD_BYTES - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        del self._tail[:-_TAIL_BYTES]

    @property
    def is_cut(self) -> bool:
        return self.size > OUTPUT_LIMIT_BYTES

    def text(self) -> str:
        if not self.is_cut:
            return clean((self._head + self._tail).decode(errors="replace"))
        head, tail = self._head.decode(errors="ignore"), self._tail.decode(errors="ignore")
        left_out = self.size - OUTPUT_LIMIT_BYTES
        return clean(f"{head}\n[cut: {left_out} of {self.size} bytes left out]\n{tail}")


class _Process(asyncio.SubprocessProtocol):
    """Hears what bash writes and when it has ended."""

    def __init__(self, output: _Output, progress: Callable[[str], None]) -> None:
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        self._output = output
        self._progress = progress
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if not self._output.is_cut:
            self._progress(clean(self._decode(data)))
        self._output.add(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.silent.set()

    def process_exited(self) -> None:
        self.exited.set()


async def _run(network: bool, arguments: RunCommand, call: ToolCall) -> ToolResult:
    call.workspace.ensure()
    with TemporaryDirectory(prefix="assent-", ignore_cleanup_errors=True) as temporary:
        return await _run_with(Path(temporary), network, arguments, call)


async def _run_with(temporary: Path, network: bool, arguments: RunCommand, call: ToolCall) -> ToolResult:
    output = _Output()
    workspace = call.workspace.path
    transport, process = await asyncio.get_running_loop().subprocess_exec(
        lambda: _Process(output, call.progress),
        *confined(["bash", "-c", arguments.command], [workspace, temporary], network),
        cwd=workspace,
        env=environment(workspace, temporary),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    group = transport.get_pid()
    timed_out = False
    try:
        async with asyncio.timeout(arguments.timeout_seconds):
            await process.exited.wait()
    except TimeoutError:
        timed_out = True
    finally:
        # What bash left running in the background ends with it, also because it may hold the pipe open.
        _kill_group(group)
        await process.exited.wait()
        await asyncio.to_thread(end_leftovers, temporary)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.silent.wait(), _LAST_WORDS_SECONDS)
        transport.close()
    return _result(output, transport.get_returncode(), arguments.timeout_seconds if timed_out else None)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _result(output: _Output, exit_code: int | None, timeout_seconds: float | None) -> ToolResult:
    text = output.text()
    if timeout_seconds is not None:
        text += f"\n[ended after {timeout_seconds:g} s: it took too long]"
    elif exit_code != 0:
        text += f"\n[exit code {exit_code}]"
    structured = {"exit_code": exit_code, "output_bytes": output.size, "output_cut": output.is_cut}
    return ToolResult(text, json.dumps(structured), is_error=exit_code != 0)


def environment(home: Path, temporary: Path) -> dict[str, str]:
    """What a command may know of the world: no key, token or setting of this process."""
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    places = {"HOME": str(home), "PWD": str(home), "TMPDIR": str(temporary)}
    return {"PATH": os.defpath, "LANG": "C.UTF-8", **passed_on, **places}


def run_command(network: bool) -> Tool:
    """The tool, whose commands reach the network or do not."""
    return Tool(
        name="run_command",
        description="Run a bash command in the workspace and read its output and exit code.",
        side_effect=SideEffect.NON_IDEMPOTENT,
        arguments=RunCommand,
        running=partial(_run, network),
    )
