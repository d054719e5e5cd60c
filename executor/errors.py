"""Why a step could not be performed: the one error that models and tools end a step with.

A tool that ran and did not like what it saw is no error of this kind: that is a result the agent reads.
"""

from typing import Literal

Disposition = Literal["RETRYABLE", "HUMAN_REQUIRED", "FATAL"]


class StepFailed(Exception):
    """A step ended without a result; `retry_after` is in seconds, None where the engine may choose."""

    def __init__(self, reason: str, message: str, disposition: Disposition, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.disposition: Disposition = disposition
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"
