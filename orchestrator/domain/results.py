"""Results that somebody hands in instead of an executor: what a person or a client says a call came to.

The text is checked strictly and kept as it is; nothing is decided here.
"""

from orchestrator.domain.arguments import BadJson, parse_strictly
from orchestrator.domain.errors import InvalidJson, Violation
from orchestrator.domain.records import ToolResult

MAX_RESULT_BYTES = 1024 * 1024


def read_result(text: str, field: str) -> ToolResult:
    """The result that JSON text stands for: of a string the string itself, of anything else the text as it is.

    Raises InvalidJson, naming the request's field.
    """
    try:
        value = parse_strictly(text, MAX_RESULT_BYTES)
    except BadJson as error:
        raise InvalidJson([Violation(field, str(error))]) from None
    return ToolResult(value) if isinstance(value, str) else ToolResult(text, structured_json=text)
