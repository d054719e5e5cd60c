"""The databases tests run on: a server, a migrated template in it, and a clone of the template for each test.

Not here: the launcher of the embedded server (cli/postgres.py), the migrations, and the fixtures themselves.
"""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from cli.postgres import EmbeddedPostgres


@contextmanager
def embedded_server() -> Iterator[EmbeddedPostgres]:
    """A server of one's own, started, which a test may also stop, kill and start again."""
    directory = Path(tempfile.mkdtemp(prefix="assent-tests-"))
    server = EmbeddedPostgres(directory, fsync=False)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)


async def migrate(url: str) -> None:
    """Apply every migration to the database at `url`."""
    from orchestrator.store.migrations import upgrade_async  # only tests that touch a database load Alembic

    await upgrade_async(url)


class Databases:
    """Creates databases on one server under names of its own, so that test processes may share the server."""

    def __init__(self, admin: asyncpg.Connection, url: str) -> None:
        self._admin = admin
        self._url = url

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str) -> AsyncIterator["Databases"]:
        admin = await asyncpg.connect(url)
        try:
            yield cls(admin, url)
        finally:
            await admin.close()

    @asynccontextmanager
    async def database(self, *, template: str = "template1") -> AsyncIterator[str]:
        """The URL of a new database, a clone of `template` (a name, or the URL of one that nobody uses)."""
        source = urlsplit(template).path.lstrip("/")
        name = f"assent_test_{secrets.token_hex(8)}"
        await self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        try:
            yield urlsplit(self._url)._replace(path=f"/{name}").geturl()
        finally:
            await self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
