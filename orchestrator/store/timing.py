"""How long database transactions are open, by operation."""

from functools import cache

from prometheus_client import Histogram

from rpc.metrics import TRANSACTION_DURATION


@cache
def _of(operation: str) -> Histogram:
    return TRANSACTION_DURATION.labels(operation=operation)


def observe_transaction(operation: str, seconds: float) -> None:
    """Record one transaction; `operation` is one of a fixed few names, never data."""
    _of(operation).observe(seconds)
