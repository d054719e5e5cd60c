"""The embedded PostgreSQL on the real binaries: first start, adoption, sudden death, failures."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from cli import postgres as launcher
from cli.postgres import EmbeddedPostgres, PostgresError
from cli.postgres_host import NOBODY, Account

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres", fsync=False)
    server.start()
    yield server
    server.stop()


def ask(url: str, statement: str) -> object:
    async def fetch() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def kill(server: EmbeddedPostgres) -> None:
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server)


def wait_until_gone(server: EmbeddedPostgres) -> None:
    assert ends_soon(lambda: server.running), "the server still runs"


def ends_soon(runs: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while runs() and time.monotonic() < deadline:
        time.sleep(0.005)
    return not runs()


def test_first_start_creates_the_database_assent(server: EmbeddedPostgres) -> None:
    assert ask(server.url, "SELECT current_database()") == "assent"
    assert ask(server.url, "SELECT lower('ОТКРЫТ')") == "открыт"
    assert ask(server.url, "SHOW listen_addresses") == ""


def test_url_works_for_sqlalchemy_after_a_scheme_swap(server: EmbeddedPostgres) -> None:
    async def fetch() -> object:
        engine = create_async_engine(server.url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.connect() as connection:
            answer: object = (await connection.execute(text("SELECT 1"))).scalar()
        await engine.dispose()
        return answer

    assert asyncio.run(fetch()) == 1


def test_a_wrong_password_is_refused(server: EmbeddedPostgres) -> None:
    password = (server.data_dir / "password").read_text()
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(server.url.replace(password, "wrong"), "SELECT 1")


def test_password_and_data_are_readable_by_their_owner_only(server: EmbeddedPostgres) -> None:
    for path in (server.data_dir / "password", server.data_dir, server.data_dir / "cluster"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_second_start_is_a_no_op(server: EmbeddedPostgres) -> None:
    pid = server.pid
    server.start()
    assert server.pid == pid


def test_a_killed_server_starts_again_with_every_committed_row(server: EmbeddedPostgres) -> None:
    ask(server.url, "CREATE TABLE kept AS SELECT generate_series(1, 100) AS n")
    old = (server.pid, server.url)
    kill(server)
    server.start()
    assert server.pid != old[0]
    assert server.url == old[1]
    assert ask(server.url, "SELECT count(*) FROM kept") == 100


def test_a_pid_file_naming_a_strange_live_process_is_cleared(server: EmbeddedPostgres) -> None:
    kill(server)
    pid_file = server.data_dir / "cluster" / "postmaster.pid"
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        _, *rest = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(bystander.pid), *rest]) + "\n")
        server.start()
        assert ask(server.url, "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.communicate()


def test_a_live_leftover_server_is_adopted_and_can_be_stopped(server: EmbeddedPostgres) -> None:
    later = EmbeddedPostgres(server.data_dir, fsync=False)
    later.start()
    assert later.pid == server.pid
    assert ask(later.url, "SELECT 1") == 1
    later.stop()
    wait_until_gone(server)


def test_a_killed_parent_takes_the_server_down_cleanly(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from cli.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start(); print(server.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "postgres")]
    parent = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    heir = EmbeddedPostgres(tmp_path / "postgres")
    assert ends_soon(lambda: heir._alive(int(parent.stdout))), "the server has outlived its parent"
    assert "database system is shut down" in heir.log.read_text()


def test_a_long_data_directory_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("long-" * 20) / "postgres", fsync=False)
    server.start()
    try:
        assert ask(server.url, "SELECT 1") == 1
        elsewhere = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        assert elsewhere.is_dir()
        assert not elsewhere.is_relative_to(tmp_path)
    finally:
        server.stop()
    assert not elsewhere.exists(), "a socket directory was left behind"


def test_half_an_initialisation_is_never_mistaken_for_a_cluster(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", fsync=False)
    unfinished = server.data_dir / "cluster.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    server.start()
    try:
        assert ask(server.url, "SELECT 1") == 1
    finally:
        server.stop()


def test_a_cluster_of_an_unknown_version_is_refused_with_advice(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(PostgresError, match="ASSENT_DATABASE_URL"):
        EmbeddedPostgres(tmp_path).start()


def test_a_server_that_cannot_start_says_what_its_log_says(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.data_dir / "cluster" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(PostgresError, match="no_such_setting"):
        server.start()
    assert server.pid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_user_namespaces_runs_it_as_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Path(tempfile.mkdtemp())  # pytest's own are closed to nobody
    directory.chmod(0o755)
    monkeypatch.setattr(launcher, "current_account", lambda: Account(user=NOBODY))
    server = EmbeddedPostgres(directory / "postgres", fsync=False)
    server.start()
    try:
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY
        assert ask(server.url, "SELECT 1") == 1
    finally:
        server.stop()
        shutil.rmtree(directory)
