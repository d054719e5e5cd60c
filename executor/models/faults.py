"""What a provider's failure means for the step: is trying again of use, or must a person do something.

The text of a provider's answer stays here: it may quote the request, or a key.
"""

from pydantic_ai import exceptions as library

from executor.errors import Disposition, StepFailed

# The first class that fits decides, so the special ones come first.
_MEANINGS: tuple[tuple[type[Exception], str, str, Disposition], ...] = (
    (library.ModelRateLimitError, "MODEL_RATE_LIMITED", "asks to slow down", "RETRYABLE"),
    (library.ModelQuotaExceededError, "MODEL_ERROR", "says that the account's quota is used up", "HUMAN_REQUIRED"),
    (library.ModelAuthenticationError, "MODEL_ERROR", "refused the key", "HUMAN_REQUIRED"),
    (library.ModelNotFoundError, "MODEL_NOT_FOUND", "does not know this model", "HUMAN_REQUIRED"),
    (library.ModelContextWindowExceededError, "MODEL_ERROR", "cannot read so long a conversation", "FATAL"),
    (library.ModelRequestRejectedError, "MODEL_ERROR", "refused the request", "FATAL"),
    (library.ContentFilterError, "MODEL_ERROR", "stopped the reply by its content filter", "FATAL"),
    (library.ModelRequestTimeout, "DEADLINE_EXCEEDED", "took too long", "RETRYABLE"),
    (library.ModelTimeoutError, "MODEL_ERROR", "took too long", "RETRYABLE"),
    (library.ModelConnectionError, "MODEL_ERROR", "cannot be reached", "RETRYABLE"),
    (library.ModelUnavailableError, "MODEL_ERROR", "is overloaded or down", "RETRYABLE"),
    (library.ModelServerError, "MODEL_ERROR", "failed", "RETRYABLE"),
    (library.UnexpectedModelBehavior, "MODEL_OUTPUT_INVALID", "answered what makes no sense", "RETRYABLE"),
    (library.UserError, "MODEL_ERROR", "cannot do what the step asks", "HUMAN_REQUIRED"),
)


def step_failure(error: Exception, model: str) -> StepFailed:
    """The step's failure that a library error stands for."""
    retry_after = getattr(error, "retry_after", None)
    status = getattr(error, "status_code", None)
    told = f" (HTTP {status})" if status else ""
    for kind, reason, what, disposition in _MEANINGS:
        if isinstance(error, kind):
            return StepFailed(reason, f"{model} {what}{told}", disposition, retry_after)
    disposition = "FATAL" if isinstance(status, int) and 400 <= status < 500 else "RETRYABLE"
    return StepFailed("MODEL_ERROR", f"{model} failed{told}", disposition, retry_after)
