"""A session's directory, and the walls around it: every path is walked one name at a time, following no link.

Nothing here decides who may read or write what: the agent's file limits are the tools' to keep. A path is
resolved by opening it, so nothing can be swapped between a check and a use.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Opening a pipe for reading would otherwise wait for somebody to write to it.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH_LIMIT = 4096


class PathRefused(Exception):
    """A path that leads out of the workspace, or is no file or directory there; the text is for the agent."""


def split_path(path: str) -> tuple[str, ...]:
    """The names of a relative path; `.` and the empty path are the directory itself."""
    if "\x00" in path or len(path) > _PATH_LIMIT:
        raise PathRefused("the path contains NUL or is too long")
    if path.startswith(("/", "~")) or "\\" in path or path[1:2] == ":":
        raise PathRefused(f"{path!r} is not relative to the workspace, with forward slashes")
    names = tuple(name for name in path.split("/") if name not in ("", "."))
    if ".." in names:
        raise PathRefused(f"{path!r} leads out of the workspace with '..'")
    return names


class Workspace:
    """One session's directory under a root; made when it is first needed."""

    def __init__(self, root: Path, directory: str) -> None:
        if not directory:
            raise PathRefused("the workspace has no directory; '.' is the root itself")
        self._root = root
        self._names = split_path(directory)

    @property
    def path(self) -> Path:
        """Where it is, for what cannot work with open directories; call `ensure` first."""
        return self._root.joinpath(*self._names)

    def ensure(self) -> None:
        """Make the directory if it is not there; refuses one that is reached through a link."""
        os.close(self._open_directory((), create=False))

    def read(self, path: str, limit: int) -> bytes:
        """A regular file's bytes; PathRefused if it has more than `limit` of them."""
        with self._parent(path) as (parent, name):
            descriptor = self._open(name, _FILE, parent, path)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PathRefused(f"{path!r} is not a regular file")
            content = file.read(limit + 1)
        if len(content) > limit:
            raise PathRefused(f"{path!r} has {status.st_size} bytes; the limit is {limit}")
        return content

    def write(self, path: str, content: bytes) -> bool:
        """Put a whole file in place at once, with the directories above it; True if it is a new file."""
        with self._parent(path, create=True) as (parent, name):
            mode = self._mode_of_replaced(name, parent, path)
            temporary = f".{secrets.token_hex(8)}.assent"
            try:
                with os.fdopen(os.open(temporary, _NEW_FILE, 0o666, dir_fd=parent), "wb") as file:
                    file.write(content)
                    if mode is not None:
                        os.fchmod(file.fileno(), mode)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=parent)
                raise
        return mode is None

    @contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """An open descriptor of a directory, closed at the end of the block."""
        descriptor = self._open_directory(split_path(path), create=False)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _parent(self, path: str, create: bool = False) -> Iterator[tuple[int, str]]:
        names = split_path(path)
        if not names:
            raise PathRefused(f"{path!r} is the workspace itself, not a file in it")
        if path.endswith("/"):
            raise PathRefused(f"{path!r} names a directory, not a file")
        descriptor = self._open_directory(names[:-1], create)
        try:
            yield descriptor, names[-1]
        finally:
            os.close(descriptor)

    def _open_directory(self, names: tuple[str, ...], create: bool) -> int:
        # The workspace itself is made when it is missing; what is below it only if asked for.
        current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, name in enumerate((*self._names, *names)):
                if create or depth < len(self._names):
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=current)
                below = self._open(name, _DIRECTORY, current, "/".join(names) or ".")
                os.close(current)
                current = below
        except BaseException:
            os.close(current)
            raise
        return current

    @staticmethod
    def _open(name: str, flags: int, parent: int, shown: str) -> int:
        try:
            return os.open(name, flags, dir_fd=parent)
        except OSError as error:
            raise PathRefused(_why_not(name, parent, shown, error)) from error

    @staticmethod
    def _mode_of_replaced(name: str, parent: int, shown: str) -> int | None:
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            raise PathRefused(f"{shown!r} is {kind}: it is not replaced")
        return stat.S_IMODE(status.st_mode)


def _why_not(name: str, parent: int, shown: str, error: OSError) -> str:
    with suppress(OSError):
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return f"{shown!r} leads through a symbolic link ({name!r}), which file tools do not follow"
    return f"{shown!r} cannot be opened: {error.strerror}"
