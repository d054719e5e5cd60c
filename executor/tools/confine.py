"""Run as a program of its own: shut this process in with Landlock, then become the command.

    python -I -S confine.py SPEC COMMAND …

SPEC is JSON: `writable` and `readable` paths. Everything below the first may be changed, everything below the
second be read and run, and nothing else of the file system be touched. Processes outside can neither be signalled
nor looked into, and the command dies with whoever started it. Where the kernel has no Landlock nothing is shut in.
Standard library only: it is started once a command, and must not see the executor's own modules.
"""

import ctypes
import json
import os
import stat
import struct
import sys

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_VERSION = 1
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_NO_NEW_PRIVS = 1, 4, 38
_SIGKILL = 9

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FIRST_VERSION = (1 << 13) - 1
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READING = _EXECUTE | _READ_FILE | _READ_DIR
# No signals and no abstract sockets to processes outside.
_SCOPES = 0b11

# What is left of root's rights: those over files, which the walls limit. Above all not to look into processes.
_CAPABILITIES = sum(1 << number for number in (0, 1, 2, 3, 4, 6, 7, 10))
_CAPABILITY_VERSION_3 = 0x20080522

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The kernel's version of Landlock; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))))


def confine(writable: list[str], readable: list[str]) -> None:
    """Shut this process and its children in for good."""
    abi = version()
    if not abi:
        return
    handled = _OF_FIRST_VERSION
    handled |= (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    attributes = struct.pack("=QQQ", handled, 0, _SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    rules = _call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint(0))
    for path in writable:
        _allow(rules, path, handled)
    for path in readable:
        _allow(rules, path, _READING)
    for name in _DEVICES:
        _allow(rules, f"/dev/{name}", (_READ_FILE | _WRITE_FILE | _IOCTL_DEV) & handled)
    _call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint(0))
    os.close(rules)


def drop_capabilities() -> None:
    """Give up what root may do beyond files and identities; without new privileges it does not come back."""
    low, high = _CAPABILITIES & 0xFFFFFFFF, _CAPABILITIES >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if os.geteuid() == 0 and _libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)) < 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")


def hide() -> None:
    """Keep this process' memory and environment, where keys are, from others of the same user."""
    if sys.platform == "linux":
        _libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def _allow(rules: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be allowed
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        access &= _ON_FILES
    rule = struct.pack("=Qi", access, descriptor)
    _call(_ADD_RULE, ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0))
    os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
    return result


def main(specification: str, command: list[str]) -> None:
    """Shut in and become the command; a wall that cannot be put up means that nothing is run."""
    spec = json.loads(specification)
    if sys.platform == "linux":
        _libc.prctl(_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        confine(spec["writable"], spec["readable"])
        drop_capabilities()
    os.execvp(command[0], command)  # noqa: S606 - to become the command is what this program is for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
