"""A connection that its holder alone uses, made when first needed and again when it was lost."""

from collections.abc import Awaitable, Callable

import asyncpg

Connect = Callable[[], Awaitable[asyncpg.Connection]]


class OwnConnection:
    """Not from a pool: nobody else's transaction can ever be found open on it."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None

    async def get(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        return self._connection

    def drop(self) -> None:
        """Cut it, with whatever it was doing; what that was may be done or not."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def drop_unfinished(self) -> None:
        """Cut it if it is in the middle of a transaction."""
        if self._connection is not None and self._connection.is_in_transaction():
            self.drop()
