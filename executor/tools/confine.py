"""Run as a program of its own: shut this process in with Landlock and seccomp, then become the command.

    python -I -S confine.py SPEC COMMAND …

SPEC is JSON: `writable` and `readable` paths, and `network`. Everything below the first may be changed, everything
below the second be read and run, and nothing else of the file system be touched. Without `network` there is none, the
loopback included. Processes outside can neither be signalled nor looked into, and the command dies with whoever
started it. Where the kernel has neither Landlock nor seccomp, nothing is shut in.
Standard library only: it is started once a command, and must not see the executor's own modules.
"""

import ctypes
import errno
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
_SET_SECCOMP, _SECCOMP_FILTER = 22, 2

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FIRST_VERSION = (1 << 13) - 1
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_READING = _EXECUTE | _READ_FILE | _READ_DIR
# No signals and no abstract sockets to processes outside.
_SCOPES = 0b11
# To bind and to connect TCP. No rule ever allows a port.
_NETWORK = 0b11

# What is left of root's rights: those over files, which the walls limit. Above all not to look into processes.
_CAPABILITIES = sum(1 << number for number in (0, 1, 2, 3, 4, 6, 7, 10))
_CAPABILITY_VERSION_3 = 0x20080522

# By machine: how the kernel calls it, and the number of `socket`.
_MACHINES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
# The same number everywhere; it makes sockets without calling `socket`.
_IO_URING_SETUP = 425
# Numbers from here on are those of another calling convention (x32).
_FOREIGN_CALLS = 0x40000000
_UNIX, _NETLINK = 1, 16
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
_ALLOWED, _REFUSED = 0x7FFF0000, 0x00050000 | errno.EACCES

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The kernel's version of Landlock; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION))))


def has_seccomp() -> bool:
    """Whether calls can be filtered: a kernel that can complains of the missing filter, not of the request."""
    if sys.platform != "linux" or sys.maxsize < 2**32 or os.uname().machine not in _MACHINES:
        return False
    return _libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, None, 0, 0) < 0 and ctypes.get_errno() == errno.EFAULT


def confine(writable: list[str], readable: list[str], network: bool) -> None:
    """Shut this process and its children in for good."""
    abi = version()
    if not abi:
        return
    handled = _OF_FIRST_VERSION
    handled |= (_REFER if abi >= 2 else 0) | (_TRUNCATE if abi >= 3 else 0) | (_IOCTL_DEV if abi >= 5 else 0)
    ports = 0 if network or abi < 4 else _NETWORK
    attributes = struct.pack("=QQQ", handled, ports, _SCOPES if abi >= 6 else 0)
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


def shut_network() -> None:
    """Let this process and its children make no socket but local ones.

    Landlock alone leaves ways to the same ports open: MPTCP, TCP fast open, and all that is not TCP.
    """
    architecture, socket = _MACHINES[os.uname().machine]
    # (what to do, with what, how many to skip if it holds, how many if not); 16 is where the first argument is.
    filters = (
        (_LOAD, 4, 0, 0),
        (_IF_EQUAL, architecture, 0, 7),
        (_LOAD, 0, 0, 0),
        (_IF_AT_LEAST, _FOREIGN_CALLS, 5, 0),
        (_IF_EQUAL, _IO_URING_SETUP, 4, 0),
        (_IF_EQUAL, socket, 0, 4),
        (_LOAD, 16, 0, 0),
        (_IF_EQUAL, _UNIX, 2, 0),
        (_IF_EQUAL, _NETLINK, 1, 0),
        (_ANSWER, _REFUSED, 0, 0),
        (_ANSWER, _ALLOWED, 0, 0),
    )
    code = b"".join(struct.pack("=HBBI", what, yes, no, value) for what, value, yes, no in filters)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(filters), ctypes.addressof(kept))
    if _libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


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
        confine(spec["writable"], spec["readable"], spec["network"])
        drop_capabilities()
        if not spec["network"] and has_seccomp():
            shut_network()
    os.execvp(command[0], command)  # noqa: S606 - to become the command is what this program is for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
