"""Why something failed, and how it is tried again."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed, in the words of the contract's reasons."""

    reason: str = ""
    message: str = ""
    disposition: str = ""  # RETRYABLE, HUMAN_REQUIRED or FATAL
    retry_after: int = 0  # microseconds, where whoever failed said so


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failed attempt is followed by others; durations in microseconds."""

    max_attempts: int = 3
    first_backoff: int = 5_000_000
    longest_backoff: int = 300_000_000
    factor: float = 2.0
    non_retryable_reasons: list[str] = field(default_factory=list)
