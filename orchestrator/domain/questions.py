"""What an agent asks a person: the tool `ask_user`, which no executor performs. Its result is the person's answer.

The question, its options and the schema of its answer are a model's words: bounded here, and never believed.
"""

import json
from typing import Any

from orchestrator.domain.arguments import BadJson, parse_strictly
from orchestrator.domain.asking import ask_about_question
from orchestrator.domain.catalog import Tool
from orchestrator.domain.change import Change
from orchestrator.domain.digests import sha256
from orchestrator.domain.errors import InvalidInput, InvalidJson, Violation
from orchestrator.domain.records import Approval, Decision, Step
from orchestrator.domain.schemas import fault_of_models, problems_of

SOURCE = "assent"
MAX_ANSWER_BYTES = 64 * 1024
MAX_SCHEMA_BYTES = 16 * 1024  # it is kept with the question, and told with it to whoever watches

_SCHEMA_JSON = json.dumps(
    {
        "type": "object",
        "properties": {
            "question": {"type": "string", "minLength": 1, "maxLength": 8000},
            "options": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": 500},
                "minItems": 1,
                "maxItems": 20,
                "uniqueItems": True,
                "description": "Answers to choose from.",
            },
            "answer_schema": {
                "type": "object",
                "description": "The JSON Schema of the answer, without $ref and pattern. Left out: any text.",
            },
        },
        "required": ["question"],
        "additionalProperties": False,
    }
)
ASK_USER = Tool(
    "ask_user",
    "Asks the person you work for, and waits for the answer, which may take days. Use it only for what you can neither "
    "find out nor decide yourself, and ask everything at once. The person may give another answer than the options, "
    "unless answer_schema says otherwise.",
    _SCHEMA_JSON,
    sha256(_SCHEMA_JSON),
    "READ_ONLY",
    SOURCE,
)


def faults_of(arguments: dict[str, Any]) -> list[str]:
    """What is wrong with a question whose arguments fit the tool's schema."""
    if "answer_schema" not in arguments:
        return []
    if (size := len(_schema_of(arguments).encode())) > MAX_SCHEMA_BYTES:
        return [f"$.answer_schema: is {size} bytes; {MAX_SCHEMA_BYTES} are allowed"]
    fault = fault_of_models(arguments["answer_schema"])
    return [f"$.answer_schema: {fault}"] if fault else []


def _schema_of(arguments: dict[str, Any]) -> str:
    schema = arguments.get("answer_schema")
    return "" if schema is None else json.dumps(schema, ensure_ascii=False)


def ask(change: Change, step: Step, arguments: dict[str, Any], rule: str) -> Step:
    """The call awaits its answer from a person."""
    options = [str(option) for option in arguments.get("options", [])]
    return ask_about_question(change, step, str(arguments["question"]), options, _schema_of(arguments), rule)


def check_answer(approval: Approval, decision: Decision) -> None:
    """Raises InvalidJson, or InvalidInput for an answer that is not of the form that was asked for."""
    if (approval.kind, decision.action) != ("QUESTION", "RESPOND"):
        return
    try:
        answer = parse_strictly(decision.response_json, MAX_ANSWER_BYTES)
    except BadJson as error:
        raise InvalidJson([Violation("response_json", str(error))]) from None
    schema_json = approval.response_schema_json
    if schema_json and (problems := problems_of(answer, schema_json, by_model=True)):
        raise InvalidInput([Violation("response_json", problem) for problem in problems])
