"""What is asked of a model and what comes back: the one interface every provider stands behind.

Nothing here knows a provider, and no provider's own types are seen outside its module. A conversation goes on
in the orchestrator: a model answers one request and keeps nothing.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Role = Literal["SYSTEM", "USER", "ASSISTANT", "TOOL"]
DeltaKind = Literal["TEXT", "REASONING", "TOOL_ARGUMENTS"]
FinishReason = Literal["stop", "tool_calls", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class ToolCallPart:
    """A tool call as the model wrote it: `arguments_json` is its exact text."""

    call_id: str
    tool: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation; `call_id` and `tool` name the call that a TOOL message answers."""

    role: Role
    text: str
    tool_calls: tuple[ToolCallPart, ...] = ()
    call_id: str = ""
    tool: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A tool that the model may call."""

    name: str
    description: str
    schema_json: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One model call. `turn` counts the model calls before it in this attempt, `tries` those of this step.

    With `output_schema_json` the reply's text is JSON that should satisfy it. What is None is left to the
    provider.
    """

    model: str
    messages: Sequence[Message]
    agent: str = ""
    purpose: str = ""
    turn: int = 0
    tries: int = 0
    tools: Sequence[ToolOffer] = ()
    output_schema_json: str = ""
    temperature: float | None = None
    max_output_tokens: int | None = None
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """A part of the reply as it is written; `call_id` and `tool` for tool arguments only."""

    kind: DeltaKind
    text: str
    call_id: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them: cached ones are among the input, reasoning among the output."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """The whole answer; `is_priced` is False where nobody knows what it cost."""

    text: str
    finish_reason: FinishReason
    reasoning: str = ""
    tool_calls: tuple[ToolCallPart, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost_usd_micros: int = 0
    is_priced: bool = False
    provider_request_id: str = ""
    model: str = ""


class Model(Protocol):
    """Answers requests; stateless, so one serves any number at once."""

    def answer(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Deltas in order, then exactly one Reply; or StepFailed. Closing it ends the call."""


def last_user_text(messages: Sequence[Message]) -> str:
    """What the person, or the orchestrator for them, said last."""
    return next((message.text for message in reversed(messages) if message.role == "USER"), "")
