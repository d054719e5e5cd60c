"""What a command may touch, and how it is started so that it can touch nothing else. confine.py puts the walls up.

Without Landlock (other systems, old kernels) a command has the rights of the executor's user; the executor says so
when it starts. The network is shut as well, unless a setting opens it: on the loopback are Assent's own ports, and who
reaches them can approve.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from executor.tools import confine

_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/proc", "/sys", "/nix", "/snap",
)  # fmt: skip
_PROGRAM_DIRECTORIES = frozenset({"bin", "sbin", "shims"})


def is_available() -> bool:
    """Whether this system can shut a command in."""
    return confine.version() > 0


def can_shut_network() -> bool:
    """Whether this system can keep a command from the network; Landlock alone keeps it from the plainest ways only."""
    return confine.has_seccomp()


def confined(command: Sequence[str], writable: Sequence[Path], network: bool) -> list[str]:
    """The command line that runs `command` with only these paths to write to, and programs to read."""
    paths = {"writable": [str(path) for path in writable], "readable": [*_SYSTEM, *_toolchains()]}
    spec = {**paths, "network": network}
    return [sys.executable, "-I", "-S", confine.__file__, json.dumps(spec), *command]


def _toolchains() -> list[str]:
    """The installations that PATH leads to, wherever they are; never a whole home directory."""
    homes = {Path("/"), Path("/home"), Path("/root"), Path.home()}
    found = []
    for entry in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = Path(entry)
        installation = path.parent if path.name in _PROGRAM_DIRECTORIES else path
        if path.is_absolute():
            found.append(str(path if installation in homes else installation))
    return found
