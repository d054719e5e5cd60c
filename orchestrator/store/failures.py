"""What the drivers' errors mean to us: the data is refused, or the storage does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.domain.errors import StorageUnavailable

UNAVAILABLE = "the database did not answer in time"  # what drivers say goes into the error's cause, not to callers

# 21: one row written twice by one statement; 22: data that cannot be; 23: a constraint.
_DATA_CLASSES = ("21", "22", "23")
# 08: the connection; 53: no more of them; 57: the server is going down or coming up; 0A: a plan before a migration.
_AWAY_CLASSES = ("08", "53", "57", "0A")

# InternalClientError too: it comes where a backend's last words and the next statement cross each other.
_CLIENT_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)

DRIVER_ERRORS = (asyncpg.PostgresError, *_CLIENT_ERRORS)
"""Everything asyncpg raises when a statement was not carried out (or nobody knows)."""


def is_about_data(error: BaseException) -> bool:
    """Whether the same data would be refused again, by any connection at any time."""
    sqlstate = getattr(error, "sqlstate", None) or ""
    return sqlstate[:2] in _DATA_CLASSES


def is_repeated_request(error: BaseException) -> bool:
    """Whether another change set with the same request id was written first."""
    return isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "request_pkey"


def is_about_connection(error: BaseException) -> bool:
    """Whether the same statement may well succeed on another connection, or on this server a little later."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, TimeoutError):
        return False  # it had its time
    sqlstate = getattr(cause, "sqlstate", None)
    return sqlstate is None or sqlstate[:2] in _AWAY_CLASSES


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate what the drivers raise when the database is away or too slow; defects pass as they are."""
    try:
        yield
    except (*_CLIENT_ERRORS, PoolTimeout) as error:
        raise StorageUnavailable(UNAVAILABLE) from error
    except asyncpg.PostgresError as error:
        if _is_defect(error.sqlstate):
            raise
        raise StorageUnavailable(UNAVAILABLE) from error
    except DBAPIError as error:
        if _is_defect(getattr(error.orig, "sqlstate", None)):
            raise
        raise StorageUnavailable(UNAVAILABLE) from error


def _is_defect(sqlstate: str | None) -> bool:
    """Bad data or bad SQL (42): trying again would not help."""
    return (sqlstate or "")[:2] in (*_DATA_CLASSES, "42")
