"""Starting a child process that does not outlive us. What the child is and does lives elsewhere."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The child asks for the signal itself, in a Python of its own: a `preexec_fn` would run code in a copy of a
# process that has gRPC threads. The parent may have died before it asks: hence the check. The user changes
# first, because a change of credentials forgets the signal, and here, because only root may read our Python.
_DIE_WITH_PARENT = """
import ctypes, os, sys
parent, signal, user, command = *map(int, sys.argv[1:4]), sys.argv[4:]
if user:
    os.setgroups([]), os.setgid(user), os.setuid(user)
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")
os.execvp(command[0], command)
"""


def spawn(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    before: Sequence[str] = (),
    user: int = 0,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, its output appended to `log`.

    On Linux it gets `death_signal` when the *thread* that called this ends, so call from the main thread.
    `before` is a launcher such as `unshare …` that execs what follows; it must come first, because a change
    of credentials forgets the death signal. With `user` root's child runs as that user and group.
    """
    numbers = [str(os.getpid()), str(int(death_signal)), str(user)]
    trampoline = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *numbers]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*before, *trampoline, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            cwd=directory,
            # Ctrl-C in a terminal reaches the whole process group; the order of stopping is ours to keep.
            start_new_session=True,
        )


def last_lines(log: Path, count: int = 15, size: int = 16_384, since: int = 0) -> str:
    """The end of a log file, for telling a person why a process could not start; nothing from before `since`."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(since, log.stat().st_size - size))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
