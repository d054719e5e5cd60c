"""What models say and tools do in a scenario: told beforehand, word for word, with the faults that befall them."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from executor.errors import StepFailed
from executor.models.model import Delta, ModelRequest, Reply, ToolCallPart, Usage
from executor.tools.tool import ToolCall, ToolResult
from tests.simulator.script import STEP, OnStart, Script, What

MODEL_SECONDS = TOOL_SECONDS = 0.5

Turns = list[list[str]]
"""The tools that a model calls in its first reply, in its second, and so on; then it is done."""


OTHERWISE = "says anna: otherwise"
"""What an architect is told who is to plan otherwise."""


@dataclass
class Told:
    """What is told by keywords: the word after "do:" in the message or in the subtask's instructions."""

    turns: dict[str, Turns] = field(default_factory=dict)
    plan: dict[str, Any] | None = None  # makes every message that is routed a complex one
    otherwise: dict[str, Any] | None = None  # the plan once somebody has said what to do otherwise
    faults: dict[str, list[StepFailed]] = field(default_factory=dict)  # by keyword or tool, one for each try
    seconds: dict[str, float] = field(default_factory=dict)  # by tool, where it is not the usual time; "": of models


class ToldScript(Script):
    """Plays one telling; what has failed once does not fail again, whoever dies."""

    def __init__(self, told: Told, on_start: OnStart) -> None:
        super().__init__(Random(0), on_start)
        self._told = told
        self.trouble = 0.0
        self._faults = {key: list(faults) for key, faults in told.faults.items()}

    async def _perform(self, arguments: What, call: ToolCall) -> ToolResult:
        start = STEP.get()
        self.on_start(start)
        tool: str = start.work.tool  # type: ignore[union-attr]  # a tool is performed
        await asyncio.sleep(self._told.seconds.get(tool, TOOL_SECONDS))
        self._fail(tool)
        return ToolResult(f"done: {arguments.what}")

    async def answer(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        yield Delta("TEXT", "well, ")
        await asyncio.sleep(self._told.seconds.get("", MODEL_SECONDS))
        key = self._key(request)
        self._fail(request.purpose if request.purpose in ("ROUTING", "PLANNING") else key)
        text, calls = self._said(request, key)
        yield Reply(text, "tool_calls" if calls else "stop", tool_calls=calls, usage=Usage(10, 0, 5), is_priced=True)

    def _key(self, request: ModelRequest) -> str:
        text = " ".join(message.text for message in request.messages if message.role == "USER")
        return next((key for key in self._told.turns if f"do: {key}" in text), "")

    def _said(self, request: ModelRequest, key: str) -> tuple[str, tuple[ToolCallPart, ...]]:
        match request.purpose:
            case "ROUTING":
                way = "complex" if self._told.plan else "atomic"
                return json.dumps({"complexity": way, "agent": "coder", "reason": "so it is"}), ()
            case "PLANNING":
                was_told = any(OTHERWISE in message.text for message in request.messages)
                plan = self._told.otherwise if was_told else self._told.plan
                return json.dumps({"title": "A plan", "summary": "", **(plan or {})}), ()
        turns = self._told.turns.get(key, [])
        if request.turn >= len(turns):
            return "that is it", ()
        calls = (
            ToolCallPart(f"{key}-{request.turn}-{n}", tool, _arguments(tool, f"{key} {request.turn} {n}"))
            for n, tool in enumerate(turns[request.turn])
        )
        return "let me", tuple(calls)

    def _fail(self, key: str) -> None:
        if faults := self._faults.get(key):
            raise faults.pop(0)


def _arguments(tool: str, what: str) -> str:
    return json.dumps({"question": what} if tool == "ask_user" else {"what": what})
