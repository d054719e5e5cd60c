"""What a tool is: a name, arguments with a schema, a side-effect class, and a function that does the work.

Which tools there are is in toolbox.py; whether a call may run is the orchestrator's to decide.
"""

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from executor.errors import StepFailed
from executor.text import clean
from executor.tools.arguments import BadArguments, parse, sha256_hex
from executor.tools.workspace import PathRefused, Workspace

OUTPUT_LIMIT_BYTES = 64 * 1024


class SideEffect(Enum):
    """What repeating a call may do: nothing, the same again, or something twice."""

    READ_ONLY = "READ_ONLY"
    IDEMPOTENT = "IDEMPOTENT"
    NON_IDEMPOTENT = "NON_IDEMPOTENT"


class Arguments(BaseModel):
    """The arguments of a tool: strict, and without anything the schema does not name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the agent reads; `structured_json` is for programs, `is_error` says that the call failed."""

    content: str
    structured_json: str = ""
    is_error: bool = False


def failed(content: str) -> ToolResult:
    """A result that tells the agent what was wrong with its call."""
    return ToolResult(content, is_error=True)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: the exact arguments and where it may act."""

    arguments_json: str
    place: Workspace | None = None
    write_globs: Sequence[str] = ()
    progress: Callable[[str], None] = lambda _text: None

    @property
    def workspace(self) -> Workspace:
        """The session's workspace; a step without one is the orchestrator's mistake, not the agent's."""
        if self.place is None:
            raise StepFailed("TOOL_FAILED", "this tool needs a workspace, and the step has none", "FATAL")
        return self.place


InstantWork = Callable[[ToolCall], ToolResult]
BlockingWork = Callable[[Any, ToolCall], ToolResult]
AsyncWork = Callable[[Any, ToolCall], Awaitable[ToolResult]]

# What the file system says when it is the machine's fault and not the agent's.
_INFRASTRUCTURE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE})


@dataclass(frozen=True)
class Tool:
    """One tool that agents may call; the work is done in one of three ways.

    `instant`: at once, on any JSON object; `blocking`: in a thread; `running`: in the step's task.
    """

    name: str
    description: str
    side_effect: SideEffect
    arguments: type[Arguments] | None = None
    instant: InstantWork | None = None
    blocking: BlockingWork | None = None
    running: AsyncWork | None = None
    schema_json: str = field(init=False)
    schema_digest: str = field(init=False)

    def __post_init__(self) -> None:
        schema = self.arguments.model_json_schema() if self.arguments else {"type": "object"}
        text = json.dumps(_plain(schema), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        object.__setattr__(self, "schema_json", text)
        object.__setattr__(self, "schema_digest", sha256_hex(text))

    def perform_instantly(self, call: ToolCall) -> ToolResult:
        """Do the work of an instant tool."""
        assert self.instant is not None
        try:
            parse(call.arguments_json)
        except BadArguments as error:
            return failed(str(error))
        return self.instant(call)

    async def perform(self, call: ToolCall) -> ToolResult:
        """Do the work; what is wrong with the call is a result, what is wrong here is StepFailed."""
        if self.arguments is None:
            return self.perform_instantly(call)
        try:
            arguments = self.arguments.model_validate(parse(call.arguments_json))
            if self.running is not None:
                return await self.running(arguments, call)
            assert self.blocking is not None
            return await _in_thread(self.blocking, arguments, call)
        except (BadArguments, PathRefused) as error:
            return failed(clean(str(error)))
        except ValidationError as error:
            return failed(clean(_misfits(error)))
        except OSError as error:
            if error.errno in _INFRASTRUCTURE:
                raise StepFailed("TOOL_FAILED", os.strerror(error.errno), "RETRYABLE") from error
            return failed(f"{self.name} failed: {error.strerror}")


async def _in_thread(work: BlockingWork, arguments: Arguments, call: ToolCall) -> ToolResult:
    running = asyncio.get_running_loop().run_in_executor(None, work, arguments, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # A thread cannot be stopped; what it does is short, and a cancelled step must not go on unseen.
        await asyncio.wait([running])
        raise


def _misfits(error: ValidationError) -> str:
    lines = [
        f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
    return "the arguments do not fit the tool's schema:\n" + "\n".join(lines)


def _plain(schema: Any) -> Any:
    """The schema without pydantic's generated titles, which say nothing and cost tokens on every call."""
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if not (key == "title" and isinstance(value, str))}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema
