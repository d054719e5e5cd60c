"""A child process kept alive: health, death, growing pauses, and a stop that insists."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from cli import processes
from cli.processes import Child, Program, keep_alive
from cli.trouble import CannotStart

SLEEPER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def child(tmp_path: Path, code: str, *, name: str = "service") -> Child:
    """A child that is healthy once it has printed `up`."""
    log = tmp_path / f"{name}.log"

    async def healthy() -> bool:
        return log.exists() and "up" in log.read_text()

    return Child(Program(name, [sys.executable, "-c", code], os.environ, log, healthy))


async def test_a_child_is_healthy_when_it_says_so_and_gone_after_stop(tmp_path: Path) -> None:
    service = child(tmp_path, SLEEPER)
    service.start()
    await service.wait_until_healthy()
    assert service.running
    await service.stop()
    assert not service.running
    assert service.pid == 0


async def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    service = child(tmp_path, "import sys; print('no such option: --colour'); sys.exit(7)")
    service.start()
    with pytest.raises(CannotStart, match=r"exited with code 7(.|\n)*no such option: --colour"):
        await service.wait_until_healthy()


async def test_the_reason_is_not_looked_for_in_what_an_earlier_life_wrote(tmp_path: Path) -> None:
    (tmp_path / "service.log").write_text("an earlier life\n")
    service = child(tmp_path, "import sys; print('this life'); sys.exit(1)")
    service.start()
    with pytest.raises(CannotStart, match="this life") as told:
        await service.wait_until_healthy()
    assert "an earlier life" not in str(told.value)


async def test_a_child_that_never_serves_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "HEALTHY_SECONDS", 0.0)
    service = child(tmp_path, "import signal; signal.pause()")
    service.start()
    with pytest.raises(CannotStart, match="was not healthy within"):
        await service.wait_until_healthy()
    await service.stop()


async def test_a_child_deaf_to_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.01)
    service = child(tmp_path, STUBBORN)
    service.start()
    await service.wait_until_healthy()
    pid = service.pid
    await service.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_cancelled_stop_kills_at_once(tmp_path: Path) -> None:
    service = child(tmp_path, STUBBORN)
    service.start()
    await service.wait_until_healthy()
    pid = service.pid
    stop = asyncio.create_task(service.stop())
    await asyncio.sleep(0)
    stop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stop
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_killed_child_is_started_again_and_that_is_said(tmp_path: Path) -> None:
    service = child(tmp_path, SLEEPER)
    said: asyncio.Queue[str] = asyncio.Queue()
    service.start()
    await service.wait_until_healthy()
    first = service.pid
    keeper = asyncio.create_task(keep_alive(service, said.put_nowait))
    os.kill(first, signal.SIGKILL)
    assert await said.get() == "service was killed by SIGKILL; starting it again in 0.25 s"
    assert await said.get() == f"service is back (pid {service.pid})"
    assert service.pid != first
    keeper.cancel()
    await service.stop()


async def test_pauses_grow_while_a_child_keeps_dying_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(processes, "LONGEST_PAUSE_SECONDS", 0.004)
    service = child(tmp_path, "import sys; sys.exit(1)")
    said: asyncio.Queue[str] = asyncio.Queue()
    service.start()
    keeper = asyncio.create_task(keep_alive(service, said.put_nowait))
    pauses: list[str] = []
    while len(pauses) < 4:
        text = await said.get()
        if "starting it again" in text:
            pauses.append(text.split()[-2])
    keeper.cancel()
    assert pauses == ["0.001", "0.002", "0.004", "0.004"]


async def test_a_log_grown_too_large_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 3)
    log = tmp_path / "service.log"
    log.write_text("an earlier life")
    service = child(tmp_path, SLEEPER)
    service.start()
    await service.stop()
    assert (tmp_path / "service.log.1").read_text() == "an earlier life"


async def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    program = (
        "import os, sys; from pathlib import Path; from cli.spawn import spawn\n"
        f"child = spawn([sys.executable, '-c', {SLEEPER!r}], log=Path({str(log)!r}))\n"
        "while 'up' not in Path(sys.argv[1]).read_text(): os.sched_yield()\n"
        "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[3]
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(log), cwd=root, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await parent.communicate()
    await _gone(int(output))


async def _gone(pid: int) -> None:
    """Return when no process of that number runs; a zombie of a foreign parent does not."""
    async with asyncio.timeout(20):
        while True:
            try:
                if _is_zombie(pid):
                    return
            except (ProcessLookupError, FileNotFoundError):
                return
            await asyncio.sleep(0)


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
