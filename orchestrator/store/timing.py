"""What is measured of the store: how long transactions are open, and in how many tries a change is written."""

from functools import cache

from prometheus_client import Histogram

from rpc.metrics import TRANSACTION_DURATION

WRITE_TRIES = Histogram(
    "assent_write_tries",
    "How often a change was decided until it was written, by operation. More than 5 is a defect.",
    ["operation"],
    buckets=(1, 2, 3, 4, 5, 10, 100),
)


@cache
def _of(operation: str) -> Histogram:
    return TRANSACTION_DURATION.labels(operation=operation)


@cache
def _tries_of(operation: str) -> Histogram:
    return WRITE_TRIES.labels(operation=operation)


def observe_transaction(operation: str, seconds: float) -> None:
    """Record one transaction; `operation` is one of a fixed few names, never data."""
    _of(operation).observe(seconds)


def observe_tries(operation: str, tries: int) -> None:
    """Record one change that was written; `operation` is one of a fixed few names, never data."""
    _tries_of(operation).observe(tries)
