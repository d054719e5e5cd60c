"""Structured logs: one JSON object a line, or colours on a terminal; both through one place.

Every line carries the trace id and what the running task has bound (session_id, run_id, step_id). Values
under names that hold secrets are hidden, as are passwords in URLs. What to log is for the callers to say.
"""

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from rpc.tracing import current_trace_id

_SECRET_NAMES = re.compile(
    r"authorization|password|passwd|secret|cookie|api_?key|private_?key|credential|(^|_)(token|bearer)$", re.I
)
_URL_PASSWORD = re.compile(r"(\w://[^\s/:@]*):[^\s/@]+@")
_HIDDEN = "[hidden]"

_noisy = ("asyncio", "httpx", "httpcore", "alembic.runtime.plugins", "mcp", "urllib3")


def configure(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send this process's logs, the standard library's included, to standard error (or `stream`)."""
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_context(service),
    ]
    last: list[Processor] = [structlog.processors.format_exc_info, _hide_secrets]
    last.append(_for_people() if stream.isatty() else _to_json)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _noisy:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def bind(**values: str) -> None:
    """Carry these values on every later line of this task and of the tasks it starts."""
    structlog.contextvars.bind_contextvars(**values)


@contextmanager
def bound(**values: str) -> Iterator[None]:
    """Carry these values on the lines of a block."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def _with_context(service: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        trace_id = current_trace_id()
        if trace_id:
            event["trace_id"] = trace_id
        return event

    return add


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    shown: EventDict = _without_secrets(event)
    return shown


def _without_secrets(value: Any) -> Any:
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", value) if "://" in value else value
    if isinstance(value, dict):
        return {
            key: _HIDDEN if _SECRET_NAMES.search(str(key)) else _without_secrets(inner) for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_secrets(inner) for inner in value]
    return value


def _for_people() -> Processor:
    # Plain tracebacks: the prettier ones print local variables, secrets among them.
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # Escaped ASCII: no model's or tool's output, lone surrogates included, can make a line unwritable.
    return json.dumps(event, default=repr, separators=(",", ":"))
