"""Ending what a command left behind outside its process group: `setsid`, `nohup setsid`, anything that made itself a
daemon. Such a process is known by the temporary directory of the step in its environment, which it inherits.

One that cleared its environment is not found: this ends what is left by habit or by mistake. Linux only.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

_PROCESSES = Path("/proc")
# A process may have started another while they were looked through.
_ROUNDS = 50
_BETWEEN_ROUNDS_SECONDS = 0.01


def end_leftovers(temporary: Path) -> None:
    """End every process that has this directory as its TMPDIR. Blocks; for use in a thread."""
    mark = f"\0TMPDIR={temporary}\0".encode()
    for _ in range(_ROUNDS):
        found = [_end_if_marked(int(entry.name), mark) for entry in _PROCESSES.glob("[0-9]*")]
        if not any(found):
            return
        time.sleep(_BETWEEN_ROUNDS_SECONDS)


def _end_if_marked(pid: int, mark: bytes) -> bool:
    with suppress(OSError):  # not there any more, or somebody else's
        process = os.pidfd_open(pid)  # before its environment is read: the number may go to another process
        try:
            if mark in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        finally:
            os.close(process)
    return False
