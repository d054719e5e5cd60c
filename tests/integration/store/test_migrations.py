"""The migrations make exactly what tables.py describes, once, whoever starts first."""

import asyncio

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.store import migrations, tables
from orchestrator.store.database import Database
from orchestrator.store.migrations import upgrade, upgrade_async

# Everything a schema consists of, each as the text PostgreSQL itself gives for it.
CATALOG = {
    "columns": """
        SELECT format('%s.%s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0""",
    "constraints": """
        SELECT format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'""",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "storage": """
        SELECT format('%s %s', relname, (SELECT array_agg(option ORDER BY option) FROM unnest(reloptions) AS option))
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'""",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}


async def schema(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    try:
        found = {}
        for part, query in CATALOG.items():
            lines = [row[0] for row in await connection.fetch(query)]
            found[part] = sorted(line for line in lines if "alembic_version" not in line)
        return found
    finally:
        await connection.close()


async def test_the_migrations_make_what_the_tables_say(database_url: str, empty_database_url: str) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(empty_database_url))
    async with engine.begin() as connection:
        await connection.run_sync(tables.metadata.create_all)
    await engine.dispose()
    assert await schema(database_url) == await schema(empty_database_url)


async def test_replicas_that_start_together_migrate_once(empty_database_url: str) -> None:
    await asyncio.gather(*(upgrade_async(empty_database_url) for _ in range(4)))
    await asyncio.to_thread(upgrade, empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    assert [row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")] == [migrations.head()]
    assert await connection.fetchval("SELECT count(*) FROM probe") == 1
    await connection.close()


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE probe (id int)")  # in the way of the last table
    with pytest.raises(DBAPIError, match="probe"):
        await upgrade_async(empty_database_url)
    left = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row[0] for row in left] == ["probe"]
    await connection.close()


async def test_a_database_that_was_not_migrated_is_not_ready(empty_database_url: str) -> None:
    database = await Database.open(empty_database_url)
    assert not await database.ready()
    await upgrade_async(empty_database_url)
    assert await database.ready()
    await database.close()


async def test_who_cannot_connect_is_told_why_in_one_line() -> None:
    with pytest.raises(StorageUnavailable, match=r"^cannot connect to the database: .*Connect call failed.*$"):
        await upgrade_async("postgresql://127.0.0.1:1/assent")
