"""What models say and tools do in the simulated world: drawn from the seed, and every real start written down."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any

from executor.errors import StepFailed
from executor.models.model import Delta, ModelRequest, Reply, ToolCallPart, Usage
from executor.performer import Performer
from executor.steps import Outcome, Ref, Start, Tell
from executor.tools.tool import Arguments, SideEffect, Tool, ToolCall, ToolResult
from gen.assent.executor.v1 import frames_pb2
from tests.simulator.catalog import CLIENT_TOOLS, MODEL_SECONDS, QUESTION_SCHEMA, TOOL_SECONDS, TOOLS

_CALLED = [name for name in TOOLS if name != "write_file"]
STEP: ContextVar[Start] = ContextVar("step")

OnStart = Callable[[Start], None]


class What(Arguments):
    """The arguments of every tool here."""

    what: str


class WriteFile(Arguments):
    path: str
    content: str


class Script:
    """The seed's models and tools; `trouble` is the chance that one of them fails or takes too long."""

    def __init__(self, random: Random, on_start: OnStart) -> None:
        self.random = random
        self.on_start = on_start
        self.trouble = 0.1
        self.longest = random.choice([0.3, 1.5, 4.0])  # seconds of an ordinary call
        self._calls = 0
        self.files: dict[str, bytes] = {}  # what somebody wrote; all others are there too, as they were

    def tools(self) -> dict[str, Tool]:
        return {name: self._tool(name, SideEffect(effect)) for name, effect in TOOLS.items()}

    def _tool(self, name: str, effect: SideEffect) -> Tool:
        if name == "glance":
            return Tool(name, f"does {name}", effect, instant=self._glance)
        if name == "write_file":
            return Tool(name, "writes", effect, arguments=WriteFile, running=self._write)
        return Tool(name, f"does {name}", effect, arguments=What, running=self._perform)

    async def _write(self, arguments: WriteFile, call: ToolCall) -> ToolResult:
        self.on_start(STEP.get())
        await self._take_time(TOOL_SECONDS)
        self.files[arguments.path] = arguments.content.encode()
        return ToolResult("written")

    async def chunks(self, ref: Ref, asked: frames_pb2.ReadArtifact, _roots: object) -> AsyncGenerator[Any, None]:
        """Stands for the reading of files: each is there, unless there is trouble."""
        await asyncio.sleep(self.random.uniform(0.01, self.longest))
        said = frames_pb2.ArtifactChunk(path=asked.path, last=True)
        if self.random.random() < self.trouble:
            said.error, said.missing = "there is no such file", True
        else:
            said.data = self.files.get(asked.path, f"what {asked.path} says".encode())
            said.size_bytes, said.sha256 = len(said.data), hashlib.sha256(said.data).hexdigest()
        yield frames_pb2.ExecutorFrame(
            step_id=ref.step_id, epoch=ref.epoch, dispatch_number=ref.dispatch, artifact_chunk=said
        )

    def _glance(self, call: ToolCall) -> ToolResult:
        self.on_start(STEP.get())
        return ToolResult("seen")

    async def _perform(self, arguments: What, call: ToolCall) -> ToolResult:
        self.on_start(STEP.get())
        await self._take_time(TOOL_SECONDS)
        return ToolResult(f"done: {arguments.what}", is_error=self.random.random() < self.trouble / 2)

    async def _take_time(self, limit: float) -> None:
        """Usually soon; else an error that may pass, one that does not, or no answer before the deadline."""
        draw = self.random.random()
        if draw >= self.trouble:
            await asyncio.sleep(self.random.uniform(0.01, self.longest))
            return
        await asyncio.sleep(self.random.uniform(0.01, self.longest) if draw > self.trouble / 5 else limit * 1.5)
        if draw > self.trouble / 2:
            raise StepFailed("MODEL_FAILED", "it may pass", "RETRYABLE", self.random.choice([None, None, 0.3, 2.0]))
        raise StepFailed("MODEL_FAILED", "it will not pass", "HUMAN_REQUIRED")

    # The model

    async def answer(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        yield Delta("TEXT", "well, ")
        await self._take_time(MODEL_SECONDS)
        if request.purpose == "SUBTASK" and self.random.random() < self.trouble:
            raise StepFailed("MODEL_FAILED", "a person has to look at it", "HUMAN_REQUIRED")
        text, calls = self._words(request)
        yield Reply(text, "tool_calls" if calls else "stop", tool_calls=calls, usage=Usage(10, 0, 5), is_priced=True)

    def _words(self, request: ModelRequest) -> tuple[str, tuple[ToolCallPart, ...]]:
        if self.random.random() < self.trouble / 5:
            return "not what was asked for", ()
        match request.purpose:
            case "ROUTING":
                way = self.random.choice(["atomic", "complex"])
                return json.dumps({"complexity": way, "agent": self._agent(), "reason": "so it is"}), ()
            case "PLANNING":
                return json.dumps({"title": "A plan", "summary": "", **draw_plan(self.random)}), ()
        if self.random.random() < (0.75, 0.4, 0.2, 0.0)[min(request.turn, 3)]:
            return "let me", tuple(self._call(request) for _ in range(self.random.choice([1, 1, 1, 2, 3])))
        return "that is it", ()

    def _call(self, request: ModelRequest) -> ToolCallPart:
        self._calls += 1
        if any(tool.name == "ask_user" for tool in request.tools) and self.random.random() < 0.1:
            asked = {"question": f"which way {self._calls}?", "answer_schema": QUESTION_SCHEMA}
            return ToolCallPart(f"call{self._calls}", "ask_user", json.dumps(asked))
        clients = [tool.name for tool in request.tools if tool.name in CLIENT_TOOLS]
        tool = self.random.choice([*_CALLED, "mail", "mail", "deploy", "deploy", *clients, *clients])
        return ToolCallPart(f"call{self._calls}", tool, json.dumps({"what": f"w{self._calls}"}))

    def _agent(self) -> str:
        return self.random.choice(["coder", "coder", "ask"])


def draw_plan(random: Random, *, with_artifacts: bool = False) -> dict[str, Any]:
    """One to three subtasks, in a chain, side by side, or both; some are to leave a file, which passes gates."""
    keys = ["a", "b", "c"][: random.randint(1, 3)]
    subtasks: list[dict[str, Any]] = [
        {
            "key": key,
            "title": f"Do {key}",
            "instructions": f"Do {key} well.",
            "agent": random.choice(["coder", "coder", "ask"]),
            "depends_on": [before for before in keys[:at] if random.random() < 0.5],
        }
        for at, key in enumerate(keys)
    ]
    for subtask in subtasks if with_artifacts else ():
        if random.random() < 0.3:
            subtask["artifacts"] = [{"name": f"{subtask['key']}.txt", "media_type": "text/plain"}]
            subtask["gates"] = ["review", "release"][: random.randint(0, 2)]
    return {"parallel_limit": random.randint(1, 3), "subtasks": subtasks}


class ScriptedRoster:
    """Every model's name leads to the script."""

    providers = ("scripted",)

    def __init__(self, script: Script) -> None:
        self._script = script

    def offers(self, name: str) -> bool:
        return True

    def full_name(self, name: str) -> str:
        return name or "scripted:world"

    async def get(self, name: str) -> Script:
        return self._script


class ScriptedPerformer(Performer):
    """The real performer, which lets the script's tools know the step they are called for."""

    def __init__(self, script: Script) -> None:
        super().__init__(ScriptedRoster(script), script.tools(), {"root": Path("/nowhere")})  # type: ignore[arg-type]  # as far as it is used

    def instantly(self, start: Start) -> Outcome | None:
        STEP.set(start)
        return super().instantly(start)

    async def perform(self, start: Start, tell: Tell) -> Outcome:
        STEP.set(start)
        return await super().perform(start, tell)
