"""The script file of the scripted model: its format, and which entry answers a request.

docs/scripted-models.md describes the format for people. How an entry is played is in scripted.py.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from executor.errors import Disposition
from executor.models.model import ModelRequest

_SUBTASK = re.compile(r"^Subtask (\S+):", re.MULTILINE)


class BadScript(Exception):
    """A script file that cannot be read, with the place that is wrong."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class When(_Entry):
    """What a request must be like; everything left out fits anything.

    `subtask` is the key in the last line that reads `Subtask KEY: …`; `tool_failed` is about the results that the
    model has just been given; `contains` and `matches` look at all that users said.
    """

    agent: str | None = None
    purpose: Literal["ROUTING", "PLANNING", "SUBTASK", "ANSWER"] | None = None
    turn: int | None = Field(None, ge=0)
    subtask: str | None = None
    tool_failed: bool | None = None
    contains: tuple[str, ...] = ()
    last_contains: tuple[str, ...] = ()
    matches: re.Pattern[str] | None = None

    @field_validator("contains", "last_contains", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    def fits(self, request: ModelRequest, user_texts: Sequence[str]) -> bool:
        """Whether the request is of this kind."""
        return (
            self.agent in (None, request.agent)
            and self.purpose in (None, request.purpose)
            and self.turn in (None, request.turn)
            and self.subtask in (None, _subtask(user_texts))
            and self.tool_failed in (None, _tool_failed(request))
            and all(any(_is_in(part, text) for text in user_texts) for part in self.contains)
            and all(_is_in(part, user_texts[-1] if user_texts else "") for part in self.last_contains)
            and (self.matches is None or any(self.matches.search(text) for text in user_texts))
        )


class ScriptedCall(_Entry):
    """A tool call; `arguments_json` is used as it stands, where the exact text matters."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    arguments_json: str | None = None

    @property
    def text(self) -> str:
        """The arguments as the model writes them."""
        if self.arguments_json is not None:
            return self.arguments_json
        return json.dumps(self.arguments, ensure_ascii=False)


class ScriptedError(_Entry):
    """A failure; with `times` only the first so many tries of a step have it."""

    reason: str = "MODEL_ERROR"
    message: str = "the script says so"
    disposition: Disposition = "RETRYABLE"
    retry_after: float | None = Field(None, ge=0)
    times: int | None = Field(None, ge=1)

    def is_due(self, request: ModelRequest) -> bool:
        """Whether this try of the step has the failure."""
        return self.times is None or request.tries < self.times


class ScriptedUsage(_Entry):
    """What the reply says it used; left out, it is estimated from the texts' lengths."""

    input_tokens: int | None = Field(None, ge=0)
    cached_input_tokens: int = Field(0, ge=0)
    output_tokens: int | None = Field(None, ge=0)
    reasoning_tokens: int = Field(0, ge=0)
    cost_usd_micros: int = Field(0, ge=0)


class Pace(_Entry):
    """How fast a reply is written: seconds before it, seconds between its pieces, and their length."""

    delay: float = Field(0, ge=0, le=600)
    delta_delay: float = Field(0, ge=0, le=60)
    delta_characters: int = Field(24, ge=1)


class ScriptedReply(Pace):
    """One entry: when it is used, and what is said."""

    when: When = When()
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ScriptedCall, ...] = ()
    output: dict[str, Any] | str | None = None
    error: ScriptedError | None = None
    usage: ScriptedUsage = ScriptedUsage()

    @model_validator(mode="after")
    def _says_one_thing(self) -> "ScriptedReply":
        if self.output is not None and self.text:
            raise ValueError("an entry has either text or output")
        return self

    @property
    def says_something(self) -> bool:
        """Whether there is a reply besides an error."""
        return bool(self.text or self.tool_calls or self.output is not None)

    def answers(self, request: ModelRequest, user_texts: Sequence[str]) -> bool:
        """Whether this entry is for the request; one with only a failure that is over is for none."""
        is_over = self.error is not None and not self.error.is_due(request) and not self.says_something
        return not is_over and self.when.fits(request, user_texts)


class Script(_Entry):
    """A whole file: the first reply that fits a request answers it."""

    pace: Pace = Pace()
    replies: tuple[ScriptedReply, ...]

    def reply_to(self, request: ModelRequest) -> ScriptedReply | None:
        """The entry that answers the request, if there is one."""
        user_texts = [message.text for message in request.messages if message.role == "USER"]
        return next((entry for entry in self.replies if entry.answers(request, user_texts)), None)


def _is_in(part: str, text: str) -> bool:
    return part.casefold() in text.casefold()


def _subtask(user_texts: Sequence[str]) -> str:
    """The key of the subtask that was named last, in a line that begins with `Subtask KEY:`."""
    named = [match for text in user_texts for match in _SUBTASK.findall(text)]
    return named[-1] if named else ""


def _tool_failed(request: ModelRequest) -> bool:
    """Whether one of the results that the model has just been given is an error."""
    for message in reversed(request.messages):
        if message.role == "ASSISTANT":
            return False
        if message.role == "TOOL" and message.is_error:
            return True
    return False


def load_script(path: Path) -> Script:
    """Read a script file; BadScript says what is wrong and where."""
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text())
    except OSError as error:
        raise BadScript(f"{path}: {error.strerror}") from error
    except (MarkedYAMLError, UnicodeDecodeError) as error:
        raise BadScript(f"{path}: {error}") from error
    try:
        return _with_pace(data)
    except ValidationError as error:
        places = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
        raise BadScript(f"{path}: " + "; ".join(places)) from error


def _with_pace(data: Any) -> Script:
    """The script, with the file's pace on every reply that sets none."""
    script = Script.model_validate(data)
    pace = script.pace.model_dump(exclude_unset=True)
    replies = [
        reply.model_copy(update={name: value for name, value in pace.items() if name not in reply.model_fields_set})
        for reply in script.replies
    ]
    return script.model_copy(update={"replies": tuple(replies)})
