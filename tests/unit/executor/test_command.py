"""Commands: what they see of the world, what is kept of their output, and that nothing of them is left."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from executor.tools.sandbox import is_available
from executor.tools.tool import OUTPUT_LIMIT_BYTES, ToolCall, ToolResult
from executor.tools.toolbox import BUILT_IN
from executor.tools.workspace import Workspace

RUN = BUILT_IN["run_command"]


async def run(root: Path, command: str, **more: object) -> ToolResult:
    return await RUN.perform(ToolCall(json.dumps({"command": command, **more}), Workspace(root, "session")))


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that was killed and that nobody has waited for is not alive.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


async def until_dead(pid: int, seconds: float = 5) -> bool:
    give_up = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > give_up:
            return False
        await asyncio.sleep(0.01)
    return True


async def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    result = await run(tmp_path, "echo out; echo err >&2; exit 3")
    assert result.content == "out\nerr\n\n[exit code 3]"
    assert result.is_error
    assert json.loads(result.structured_json) == {"exit_code": 3, "output_bytes": 8, "output_cut": False}


async def test_it_runs_in_the_workspace(tmp_path: Path) -> None:
    assert (await run(tmp_path, "pwd; echo $HOME")).content == f"{tmp_path}/session\n" * 2


async def test_no_key_or_setting_reaches_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASSENT_DATABASE_URL", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OTEL_X"):
        monkeypatch.setenv(name, "do-not-tell")
    seen = (await run(tmp_path, "env")).content
    assert "do-not-tell" not in seen
    assert {line.split("=")[0] for line in seen.splitlines()} <= {
        "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "HOME", "PWD", "SHLVL", "_", "OLDPWD",
    }  # fmt: skip


async def test_large_output_keeps_both_ends_and_says_what_is_missing(tmp_path: Path) -> None:
    result = await run(tmp_path, "echo first; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo last")
    assert len(result.content.encode()) < OUTPUT_LIMIT_BYTES + 200
    assert result.content.startswith("first\n")
    assert result.content.endswith("last\n")
    assert "bytes left out" in result.content
    assert json.loads(result.structured_json)["output_cut"] is True


async def test_output_that_is_no_text_can_be_stored(tmp_path: Path) -> None:
    content = (await run(tmp_path, "printf 'a\\000b\\377c'")).content
    assert content == "a�b�c"


async def test_what_it_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    result = await asyncio.wait_for(run(tmp_path, "sleep 60 & echo $!"), 10)
    assert await until_dead(int(result.content))


@pytest.mark.skipif(sys.platform != "linux", reason="found through /proc")
async def test_what_left_its_process_group_ends_with_it(tmp_path: Path) -> None:
    daemon = "setsid bash -c 'echo $$ >> pids; (setsid sleep 60 & echo $! >> pids); exec sleep 60' &"
    started = "until [ -e pids ] && [ $(wc -l < pids) = 10 ]; do sleep 0.01; done; cat pids"
    result = await asyncio.wait_for(run(tmp_path, f"for i in 1 2 3 4 5; do {daemon} done; {started}"), 15)
    assert len(result.content.split()) == 10
    for pid in result.content.split():
        assert await until_dead(int(pid))


async def test_a_time_limit_ends_the_whole_tree(tmp_path: Path) -> None:
    result = await run(tmp_path, "sleep 60 & echo $!; bash -c 'echo $$; sleep 60'", timeout_seconds=0.3)
    assert result.is_error
    assert "took too long" in result.content
    for pid in result.content.split()[:2]:
        assert await until_dead(int(pid))


async def test_cancelling_the_step_ends_the_whole_tree(tmp_path: Path) -> None:
    seen: list[str] = []
    arrived = asyncio.Event()

    def on_progress(text: str) -> None:
        seen.append(text)
        arrived.set()

    arguments = json.dumps({"command": "bash -c 'echo $$; sleep 60' & wait"})
    call = ToolCall(arguments, Workspace(tmp_path, "session"), progress=on_progress)
    running = asyncio.create_task(RUN.perform(call))
    await asyncio.wait_for(arrived.wait(), 5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await until_dead(int("".join(seen)))


async def test_a_process_that_left_the_group_does_not_hold_the_step_up(tmp_path: Path) -> None:
    started = time.monotonic()
    result = await run(tmp_path, "setsid bash -c 'echo $$; exec sleep 60' & sleep 0.3")
    try:
        assert time.monotonic() - started < 10
    finally:
        os.kill(int(result.content), 9)


confined = pytest.mark.skipif(not is_available(), reason="this kernel has no Landlock")


@confined
async def test_it_reads_and_writes_nothing_outside_of_its_workspace(tmp_path: Path) -> None:
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour/secret").write_text("do-not-tell")
    for command in (
        "cat ../neighbour/secret",
        f"cat {tmp_path}/neighbour/secret",
        "ln -s ../neighbour/secret link; cat link",
        "ls ..",
        f"ls {Path.home()}",
        "echo x > ../neighbour/secret",
        "echo x > ../new",
        "rm -rf ../neighbour",
        "mv ../neighbour/secret mine",
        "ln ../neighbour/secret mine",
        "echo x > /tmp/assent-was-here",
        "python3 -c 'import os; os.truncate(\"../neighbour/secret\", 0)'",
    ):
        result = await run(tmp_path, command)
        assert result.is_error, command
        assert "do-not-tell" not in result.content
    assert (tmp_path / "neighbour/secret").read_text() == "do-not-tell"
    assert sorted(os.listdir(tmp_path)) == ["neighbour", "session"]


@confined
async def test_it_neither_looks_into_nor_signals_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "do-not-tell")
    looked = await run(tmp_path, f"cat /proc/{os.getpid()}/environ")
    assert looked.is_error
    assert (await run(tmp_path, f"cat /proc/{os.getpid()}/maps")).is_error
    assert (await run(tmp_path, f"kill -0 {os.getpid()}")).is_error
    assert not (await run(tmp_path, "sleep 5 & kill $!; cat /proc/self/environ > /dev/null")).is_error


async def test_it_works_with_files_programs_and_temporary_files(tmp_path: Path) -> None:
    command = (
        "set -e; mkdir -p a/b; echo hello > a/b/c; mv a/b/c a/d; ln -s d a/e; cat a/e; "
        'f=$(mktemp); echo "$f" | grep -q assent-; cat <<< "here"; cat <(echo piped); git init -q . ; '
        "python3 -c 'print(1 + 1)' > /dev/null; rm -rf a"
    )
    result = await run(tmp_path, command)
    assert result.content == "hello\nhere\npiped\n"
    assert (tmp_path / "session/.git").is_dir()
