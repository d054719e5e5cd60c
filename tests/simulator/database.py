"""The store's Database over simulated connections: everything of it is real but the way to the server."""

from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import asyncpg
from sqlalchemy import Executable, Row
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.engine.default import DefaultDialect

from orchestrator.store.database import POOL_SIZE, Database, _patiently
from tests.simulator.postgres import Connection, Postgres

_DIALECT: DefaultDialect = dialect.dialect()  # type: ignore[no-untyped-call]


class SimRow(tuple[Any, ...]):
    """A row as SQLAlchemy gives it: values in order, and by name."""

    names: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[self.names.index(name)]
        except ValueError:
            raise AttributeError(name) from None


class SimPool:
    """As many connections as are needed at once, up to the pool's size."""

    def __init__(self, database: "SimDatabase") -> None:
        self._database = database
        self._idle: deque[Connection] = deque()

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        connection = self._idle.pop() if self._idle else await self._database.connect()
        try:
            rows = await connection.fetch(query, *args)
        except asyncpg.PostgresError:
            self._give_back(connection)
            raise
        except BaseException:
            connection.terminate()
            raise
        self._give_back(connection)
        return rows

    def _give_back(self, connection: Connection) -> None:
        if not connection.closed and len(self._idle) < POOL_SIZE:
            self._idle.append(connection)
        else:
            connection.terminate()

    async def close(self) -> None:
        self.terminate()

    def terminate(self) -> None:
        while self._idle:
            self._idle.pop().terminate()


class SimDatabase(Database):
    """Made by `bootstrap` as the real one is, on the world's server."""

    def __init__(self, server: Postgres) -> None:
        super().__init__("postgresql://")
        self._server = server
        self._pool = cast(asyncpg.Pool, SimPool(self))

    async def connect(self, **options: str) -> Any:
        return await self._server.connect(**options)

    async def rows(self, statement: Executable) -> Sequence[Row[Any]]:
        compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]  # every Executable of ours is a ClauseElement
        values = compiled.construct_params()
        args = [values[name] for name in compiled.positiontup or ()]
        found = await _patiently(lambda: self._opened_pool().fetch(str(compiled), *args))
        return [_row(record) for record in found]

    async def ready(self) -> bool:
        return self._server.is_up


class SimDatabases:
    """Stands for the class Database where replicas are put together."""

    def __init__(self, server: Postgres) -> None:
        self._server = server

    async def open(self, url: str) -> SimDatabase:
        return SimDatabase(self._server)


def _row(record: asyncpg.Record) -> Any:
    row = SimRow(record.values())
    row.names = tuple(record.keys())
    return row
