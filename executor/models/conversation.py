"""A conversation in the library's words. What the messages say was decided in the orchestrator."""

import json
from collections.abc import Sequence
from typing import Literal

from pydantic_ai import messages as library
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.tools import ToolDefinition

from executor.errors import StepFailed
from executor.models.model import Message, ModelRequest


def messages(conversation: Sequence[Message]) -> list[library.ModelMessage]:
    """What was said, with neighbours from the same side as one message."""
    result: list[library.ModelMessage] = []
    asked: list[library.ModelRequestPart] = []
    tools: dict[str, str] = {}
    for message in conversation:
        if message.role != "ASSISTANT":
            asked.append(_request_part(message, message.tool or tools.get(message.call_id, "")))
            continue
        tools |= {call.call_id: call.tool for call in message.tool_calls}
        if asked:
            result.append(library.ModelRequest(parts=asked))
            asked = []
        result.append(library.ModelResponse(parts=_response_parts(message)))
    if asked:
        result.append(library.ModelRequest(parts=asked))
    return result


def parameters(request: ModelRequest, *, knows_schemas: bool) -> ModelRequestParameters:
    """The tools on offer, and the form the reply must have: enforced where the model can, else asked for."""
    tools = [
        ToolDefinition(name=tool.name, description=tool.description, parameters_json_schema=_schema(tool.schema_json))
        for tool in request.tools
    ]
    if not request.output_schema_json:
        return ModelRequestParameters(function_tools=tools)
    mode: Literal["native", "prompted"] = "native" if knows_schemas else "prompted"
    output = OutputObjectDefinition(json_schema=_schema(request.output_schema_json), name="result")
    return ModelRequestParameters(function_tools=tools, output_mode=mode, output_object=output)


def _request_part(message: Message, tool: str) -> library.ModelRequestPart:
    if message.role == "SYSTEM":
        return library.SystemPromptPart(message.text)
    if message.role == "USER":
        return library.UserPromptPart(message.text)
    return library.ToolReturnPart(
        tool, message.text, message.call_id, outcome="failed" if message.is_error else "success"
    )


def _response_parts(message: Message) -> list[library.ModelResponsePart]:
    parts: list[library.ModelResponsePart] = [library.TextPart(message.text)] if message.text else []
    calls = (library.ToolCallPart(call.tool, call.arguments_json, call.call_id) for call in message.tool_calls)
    return [*parts, *calls]


def _schema(text: str) -> dict[str, object]:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise StepFailed("INVALID_JSON", f"the step carries a schema that is no JSON: {error}", "FATAL") from error
    if not isinstance(schema, dict):
        raise StepFailed("INVALID_JSON", "the step carries a schema that is no JSON object", "FATAL")
    return schema
