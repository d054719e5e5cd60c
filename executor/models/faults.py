"""What a provider's failure means for the step: is trying again of use, or must a person do something.

The text of a provider's answer stays here: it may quote the request, or a key.
"""

from pydantic_ai import exceptions as library

from executor.errors import Disposition, StepFailed

# The first class that fits decides, so the special ones come first.
_MEANINGS: tuple[tuple[type[Exception], str, str, Disposition], ...] = (
    (library.ModelRateLimitError, "MODEL_RATE_LIMITED", "the provider limits the rate of calls", "RETRYABLE"),
    (
        library.ModelQuotaExceededError,
        "MODEL_QUOTA_EXCEEDED",
        "the account's quota is used up",
        "HUMAN_REQUIRED",
    ),
    (
        library.ModelAuthenticationError,
        "MODEL_AUTHENTICATION",
        "the provider refused the key",
        "HUMAN_REQUIRED",
    ),
    (library.ModelNotFoundError, "MODEL_UNKNOWN", "the provider does not know this model", "HUMAN_REQUIRED"),
    (
        library.ModelContextWindowExceededError,
        "MODEL_CONTEXT_EXCEEDED",
        "the conversation is longer than the model can read",
        "FATAL",
    ),
    (
        library.ModelRequestRejectedError,
        "MODEL_REQUEST_REJECTED",
        "the provider refused the request",
        "FATAL",
    ),
    (
        library.ContentFilterError,
        "MODEL_CONTENT_FILTERED",
        "the provider's filter stopped the reply",
        "FATAL",
    ),
    (library.ModelRequestTimeout, "MODEL_TIMEOUT", "the model took too long", "RETRYABLE"),
    (library.ModelTimeoutError, "MODEL_TIMEOUT", "the provider took too long", "RETRYABLE"),
    (library.ModelConnectionError, "MODEL_UNAVAILABLE", "the provider cannot be reached", "RETRYABLE"),
    (library.ModelUnavailableError, "MODEL_UNAVAILABLE", "the provider is overloaded or down", "RETRYABLE"),
    (library.ModelServerError, "MODEL_UNAVAILABLE", "the provider failed", "RETRYABLE"),
    (
        library.UnexpectedModelBehavior,
        "MODEL_REPLY_INVALID",
        "the provider's answer makes no sense",
        "RETRYABLE",
    ),
    (library.UserError, "MODEL_MISCONFIGURED", "the model cannot do what the step asks", "HUMAN_REQUIRED"),
)


def step_failure(error: Exception) -> StepFailed:
    """The step's failure that a library error stands for."""
    retry_after = getattr(error, "retry_after", None)
    status = getattr(error, "status_code", None)
    told = f" (HTTP {status})" if status else ""
    for kind, reason, message, disposition in _MEANINGS:
        if isinstance(error, kind):
            return StepFailed(reason, message + told, disposition, retry_after)
    disposition = "FATAL" if isinstance(status, int) and 400 <= status < 500 else "RETRYABLE"
    return StepFailed("MODEL_FAILED", f"the model call failed{told}", disposition, retry_after)
