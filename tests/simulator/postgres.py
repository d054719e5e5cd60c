"""The database as the replicas see it: connections that take time, break, wait for locks and lose answers.

Every statement is really carried out, one at a time, by physical.py. Here is decided when, and who hears of it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg

from orchestrator.store.database import STATEMENT_SECONDS
from tests.simulator.loop import Node, SimLoop
from tests.simulator.physical import Options, Physical
from tests.simulator.weather import Weather, between

LOCK_SECONDS = STATEMENT_SECONDS
LOOK_AGAIN_SECONDS = 0.01

OnStatement = Callable[[Node, str, Sequence[Any], Any], None]


@dataclass(eq=False)
class Asked:
    """A statement on its way."""

    query: str
    args: Sequence[Any]
    carry_out: Callable[[Any], Awaitable[Any]]
    answer: asyncio.Future[Any]
    waits_since: float | None = None


class Connection:
    """What asyncpg's connection is to the store, as far as the store uses it."""

    def __init__(self, server: "Postgres", node: Node, options: Options) -> None:
        self.node = node
        self.options = options
        self.closed = False
        self.held: asyncpg.Connection | None = None  # in a transaction
        self.queue: deque[Asked] = deque()
        self.uncommitted: list[tuple[str, Sequence[Any], Any]] = []
        self.ears: dict[str, Callable[..., object]] = {}  # by channel
        self.last_notice = 0.0
        self._mourners: list[Callable[[Any], object]] = []
        self._server = server

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await self._ask(query, args, lambda c: c.fetch(query, *args))
        return _in_order(query, rows)

    async def fetchrow(self, query: str, *args: Any) -> asyncpg.Record | None:
        return next(iter(await self.fetch(query, *args)), None)

    async def fetchval(self, query: str, *args: Any) -> Any:
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        said: str = await self._ask(query, args, lambda c: c.execute(query, *args))
        return said

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self.execute("BEGIN")
        try:
            yield
        except BaseException:
            if not self.closed:
                await self.execute("ROLLBACK")
            raise
        await self.execute("COMMIT")

    async def add_listener(self, channel: str, hear: Callable[..., object]) -> None:
        await self.execute(f"LISTEN {channel}")
        self.ears[channel] = hear

    def add_termination_listener(self, mourn: Callable[[Any], object]) -> None:
        self._mourners.append(mourn)

    def end(self) -> None:
        """Closed, by whomever."""
        self.closed = True
        self.ears.clear()
        for mourn in self._mourners:
            self.node.later(0.0, mourn, self)

    def is_closed(self) -> bool:
        return self.closed

    def is_in_transaction(self) -> bool:
        return self.held is not None or bool(self.queue)

    def terminate(self) -> None:
        self._server.hang_up(self)

    async def close(self, *, timeout: float | None = None) -> None:
        self.terminate()

    async def _ask(self, query: str, args: Sequence[Any], carry_out: Callable[[Any], Awaitable[Any]]) -> Any:
        if self.closed:
            raise asyncpg.InterfaceError("the connection is closed")
        asked = Asked(query, args, carry_out, asyncio.get_running_loop().create_future())
        self._server.send(self, asked)
        async with asyncio.timeout(STATEMENT_SECONDS):
            return await asked.answer


@dataclass
class Postgres:
    """The server. `on_statement` hears of each statement that was carried out, in the order they were."""

    loop: SimLoop
    physical: Physical
    weather: Weather
    random: Random
    clock: Callable[[], int]
    on_statement: OnStatement
    is_up: bool = True
    connections: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._node = self.loop.node("postgres")

    # What clients do

    async def connect(self, **options: str) -> Connection:
        await asyncio.sleep(self._delay())
        if not self.is_up:
            raise ConnectionRefusedError("the server is down")
        connection = Connection(self, self.loop.current(), tuple(sorted(options.items())))
        self.connections.append(connection)
        return connection

    def send(self, connection: Connection, asked: Asked) -> None:
        connection.queue.append(asked)
        strays = self.random.random() < self.weather.stray
        delay = self.random.uniform(2, 8) if strays else self._delay()
        self._node.later(delay, self._arrived, connection, asked)

    def hang_up(self, connection: Connection) -> None:
        """The client is gone; what it had sent may have arrived all the same."""
        if not connection.closed:
            connection.end()
            connection.queue = deque(asked for asked in connection.queue if self.random.random() < 0.5)
            self._node.later(self._delay() * 3, self._forget, connection)

    # What befalls it

    def crash(self) -> None:
        """Every connection breaks, every open transaction is undone; nobody can connect until it is up again."""
        self.is_up = False
        for connection in list(self.connections):
            self._break(connection)

    def come_up(self) -> None:
        self.is_up = True

    def open_transactions(self) -> list[str]:
        return [connection.node.name for connection in self.connections if connection.held is not None]

    # Inside

    def _delay(self) -> float:
        return between(self.random, self.weather.statement_delay)

    def _arrived(self, connection: Connection, asked: Asked) -> None:
        if asked not in connection.queue or connection.queue[0] is not asked:
            return  # it never arrives, or its turn comes with the one before
        if asked.answer.cancelled() and self.random.random() < 0.5:  # the cancellation came in time
            self._next(connection)
        elif self.random.random() < self.weather.lose_statement:
            self._break(connection)
        else:
            self._carry_out(connection, asked)

    def _carry_out(self, connection: Connection, asked: Asked) -> None:
        if "pg_notify" in asked.query or asked.query.startswith("LISTEN"):
            for text in asked.args[1] if asked.args else ():
                self._notify(asked.args[0], text)
            self._next(connection)
            self._node.later(self._delay(), _settle, asked.answer, "")
            return
        physical = connection.held or self.physical.take(connection.options)
        try:
            result = self.physical.ask(physical, self.clock(), asked.query, asked.carry_out)
        except asyncpg.LockNotAvailableError as error:
            asked.waits_since = asked.waits_since or self.loop.time()
            if self.loop.time() - asked.waits_since < LOCK_SECONDS:
                self._node.later(between(self.random, LOOK_AGAIN_SECONDS), self._arrived, connection, asked)
                return
            result = error
        except asyncpg.PostgresError as error:
            result = error
        finally:
            self._keep(connection, physical)
        if not isinstance(result, BaseException):
            self._tell(connection, asked, result)
        if self.random.random() < self.weather.lose_answer:
            self._break(connection)
            return
        self._next(connection)
        self._node.later(self._delay(), _settle, asked.answer, result)

    def _tell(self, connection: Connection, asked: Asked, result: Any) -> None:
        """What is done in a transaction is done when it is committed."""
        connection.uncommitted.append((asked.query, asked.args, result))
        if connection.held is None:
            if asked.query != "ROLLBACK":
                for done in connection.uncommitted:
                    self.on_statement(connection.node, *done)
            connection.uncommitted.clear()

    def _notify(self, channel: str, text: str) -> None:
        """Told to whoever listens, each in its time and in order."""
        for connection in self.connections:
            if channel in connection.ears:
                arrival = connection.last_notice = max(connection.last_notice, self.loop.time() + self._delay())
                connection.node.later(arrival - self.loop.time(), _hear, connection, channel, text)

    def _keep(self, connection: Connection, physical: asyncpg.Connection) -> None:
        if physical.is_in_transaction():
            connection.held = physical
        else:
            connection.held = None
            self.physical.give_back(connection.options, physical)

    def _next(self, connection: Connection) -> None:
        if connection.queue:
            connection.queue.popleft()
        if connection.queue:
            self._node.later(0.0, self._arrived, connection, connection.queue[0])

    def _break(self, connection: Connection) -> None:
        connection.end()
        lost = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        for asked in connection.queue:
            self._node.later(self._delay(), _settle, asked.answer, lost)
        connection.queue.clear()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        if connection.queue:
            self._node.later(self._delay(), self._forget, connection)
            return
        self.connections.remove(connection)
        if connection.held is not None:
            self.physical.give_back(connection.options, connection.held)
            connection.held = None


def _hear(connection: Connection, channel: str, text: str) -> None:
    if (hear := connection.ears.get(channel)) is not None:
        hear(connection, 0, channel, text)


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def _in_order(query: str, rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
    """The server gives rows in any order where none is asked for; a seed must not depend on it."""
    if len(rows) < 2:
        return rows
    if "n" in rows[0].keys() and "outcome" in rows[0].keys():
        return sorted(rows, key=lambda row: row["n"])
    return rows if "ORDER BY" in query else sorted(rows, key=repr)
