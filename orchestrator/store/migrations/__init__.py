"""Bringing a database to this version's schema: the revisions are in versions/, this applies them.

Safe to run from several processes at once (an advisory lock lets one work, the rest find nothing to do), and
all or nothing: one transaction.
"""

import asyncio
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store.failures import DRIVER_ERRORS

LOCK = 0x417373656E74  # "Assent"


def upgrade(url: str) -> None:
    """Apply every missing revision to the database at `url`. Blocks; for use where no event loop runs.

    Raises StorageUnavailable when no connection can be made, in words for the person who starts it.
    """
    asyncio.run(upgrade_async(url))


async def upgrade_async(url: str) -> None:
    """Apply every missing revision to the database at `url`."""

    async def connect() -> asyncpg.Connection:
        try:
            return await asyncpg.connect(url, timeout=10, server_settings={"application_name": "assent migrate"})
        except DRIVER_ERRORS as error:
            raise StorageUnavailable(f"cannot connect to the database: {str(error) or 'no answer in 10 s'}") from error

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def head() -> str:
    """The newest revision this version knows."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
