"""Whatever reason the code gives for an error or a failure, the contract documents it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from gen.assent.executor.v1 import frames_pb2
from gen.assent.v1 import error_reason_pb2
from tests.contract import descriptors as contracts

_ROOT = Path(__file__).parents[2]
_REASON = re.compile(r"[A-Z]+(_[A-Z]+)*")
_NOT_REASONS = {"RETRYABLE", "HUMAN_REQUIRED", "FATAL"}
# What errors and failures are made with, across the processes; each takes its reason as a literal.
_MAKERS = {"Failure", "Problem", "Refusal", "StepFailed"}
# Documented for what the contract has and this version does not do.
_LATER = {
    *(f"{kind}_NOT_FOUND" for kind in ("MESSAGE", "SCHEMA", "SUBTASK", "WORKFLOW")),
    "INVALID_DEFINITION",
    "PLANNING_FAILED",
    "SUBTASK_FAILED",
}
_DOCUMENTED = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.keys()}


def test_every_reason_the_code_gives_is_documented() -> None:
    given = {reason for call in _calls() if _name(call) in _MAKERS for reason in _literals(call)}
    assert {"IN_DOUBT", "MALFORMED_REQUEST", "MODEL_ERROR"} <= given, "the search finds nothing any more"
    assert given - _NOT_REASONS <= _DOCUMENTED


def test_whatever_is_not_found_has_a_reason() -> None:
    assert "SESSION_NOT_FOUND" in _not_found(), "the search finds nothing any more"
    assert _not_found() <= _DOCUMENTED


def test_every_documented_reason_is_given_or_belongs_to_what_comes_later() -> None:
    written = {node.value for node in _nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    refusals = {name.removeprefix("REFUSAL_REASON_") for name in frames_pb2.RefusalReason.keys()}
    assert _DOCUMENTED - written - _not_found() - refusals == _LATER


def test_what_an_executor_refuses_with_may_become_a_failure() -> None:
    refusals = {name.removeprefix("REFUSAL_REASON_") for name in frames_pb2.RefusalReason.keys()}
    assert refusals - {"WRONG_DIGEST"} <= _DOCUMENTED  # that one is told as DIGEST_MISMATCH


def test_dispositions_are_the_contracts() -> None:
    (enum,) = (each for each in contracts.enums(contracts.PUBLIC) if each.name == "Disposition")
    assert {value.name.removeprefix("DISPOSITION_") for value in enum.values} - {"UNSPECIFIED"} == _NOT_REASONS


def _not_found() -> set[str]:
    kinds = {
        str(call.args[0].value)
        for call in _calls()
        if _name(call) == "NotFound" and call.args and isinstance(call.args[0], ast.Constant)
    }
    return {f"{kind.upper()}_NOT_FOUND" for kind in kinds}


def _calls() -> Iterator[ast.Call]:
    return (node for node in _nodes() if isinstance(node, ast.Call))


def _nodes() -> Iterator[ast.AST]:
    for process in ("rpc", "orchestrator", "executor", "gateway"):
        for path in (_ROOT / process).rglob("*.py"):
            yield from ast.walk(ast.parse(path.read_text("utf-8")))


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _literals(call: ast.Call) -> Iterator[str]:
    """The words in capitals among the call's own arguments; those of `grpc.StatusCode` are no literals."""
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str) and _REASON.fullmatch(argument.value):
            yield argument.value
