"""Log lines are JSON with the ids of what was being done, and without secrets."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import structlog

from rpc import logs, tracing


@contextmanager
def configured() -> Iterator[list[dict[str, Any]]]:
    """Logs as a process has them, for a block; their lines are in the list after it."""
    root, stream, lines = logging.getLogger(), io.StringIO(), list[dict[str, Any]]()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("orchestrator", stream=stream)
        yield lines
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_carries_service_trace_and_bound_ids() -> None:
    with configured() as lines, tracing.span("run"), logs.bound(session_id="s1", run_id="r1"):
        trace_id = tracing.current_trace_id()
        structlog.get_logger("engine").info("step_started", step_id="st1")
    (line,) = lines
    assert line["event"] == "step_started"
    assert (line["service"], line["level"], line["trace_id"]) == ("orchestrator", "info", trace_id)
    assert (line["session_id"], line["run_id"], line["step_id"]) == ("s1", "r1", "st1")


def test_ids_bound_to_a_block_are_gone_after_it() -> None:
    with configured() as lines:
        with logs.bound(session_id="s1"):
            pass
        structlog.get_logger().info("later")
    assert "session_id" not in lines[0]


def test_standard_library_logs_take_the_same_form() -> None:
    with configured() as lines:
        logs.bind(session_id="s1")
        logging.getLogger("grpc").warning("peer %s is gone", "a")
    (line,) = lines
    assert (line["event"], line["level"], line["session_id"]) == ("peer a is gone", "warning", "s1")


def test_exception_is_logged_with_its_traceback_on_one_line() -> None:
    with configured() as lines:
        try:
            _ = 1 / 0
        except ZeroDivisionError as error:
            structlog.get_logger().error("failed", exc_info=error)
    (line,) = lines
    assert "ZeroDivisionError" in line["exception"]


@pytest.mark.parametrize(
    "name", ["password", "OPENAI_API_KEY", "authorization", "Cookie", "access_token", "client_secret"]
)
def test_values_under_secret_names_are_hidden(name: str) -> None:
    with configured() as lines:
        structlog.get_logger().info("settings", **{name: "s3cret", "nested": [{name: "s3cret"}]})
    assert len(lines) == 1
    assert "s3cret" not in json.dumps(lines)


def test_token_counts_are_no_secrets() -> None:
    with configured() as lines:
        structlog.get_logger().info("usage", input_tokens=17)
    assert lines[0]["input_tokens"] == 17


def test_passwords_in_urls_are_hidden_wherever_they_stand() -> None:
    url = "postgresql://assent:s3cret@db/assent"
    with configured() as lines:
        structlog.get_logger().info("connecting to " + url, targets=[url])
        logging.getLogger("asyncpg").warning("lost %s", url)
        try:
            raise ConnectionError(url)
        except ConnectionError as error:
            structlog.get_logger().error("failed", exc_info=error)
    assert lines[0]["targets"] == ["postgresql://assent:[hidden]@db/assent"]
    assert len(lines) == 3
    assert "s3cret" not in json.dumps(lines)


@pytest.mark.parametrize(
    ("value", "shown"), [(object, "<class 'object'>"), ("half a pair: \ud800", "half a pair: \ud800")]
)
def test_value_that_json_or_utf8_cannot_say_is_still_logged(value: object, shown: str) -> None:
    with configured() as lines:
        structlog.get_logger().info("odd", value=value)
    assert lines[0]["value"] == shown


def test_terminal_shows_plain_lines_and_no_local_variables() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def fails(password: str) -> None:
        raise ValueError("failed")

    terminal = Terminal()
    with configured():
        logs.configure("orchestrator", stream=terminal)
        try:
            fails("s3" + "cret")
        except ValueError as error:
            structlog.get_logger().error("step_failed", exc_info=error, session_id="s1")
    shown = terminal.getvalue()
    assert "step_failed" in shown
    assert "ValueError: failed" in shown
    assert "s3cret" not in shown


def test_lines_below_the_level_are_not_written() -> None:
    with configured() as lines:
        structlog.get_logger().debug("detail")
    assert lines == []
