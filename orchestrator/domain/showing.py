"""What a person is shown before deciding, from the exact bytes that will run: pure, and the same wherever it is asked.

Every preview goes through `presentable` once, whoever wrote it: visible and bounded. A file as it is now is not known
here; what is made of it when somebody looks is in differing.py.
"""

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Preview, Step
from orchestrator.domain.visible import MOST_BYTES, cut, lookalikes, title_of, visible, visible_line

MOST_WORDS_BYTES = 8 * 1024
SHORT_JSON = 80
INDENT = "  "
MOST_DEPTH = 8


def presentable(preview: Preview) -> Preview:
    """Every text of it visible and bounded; `truncated` when something is left out."""
    texts = {name: _bounded(getattr(preview, name), most) for name, most in _MOST.items()}
    return replace(
        preview,
        title=title_of(preview.title),
        path=visible_line(preview.path),
        agent=visible_line(preview.agent),
        truncated=preview.truncated or any(is_cut for _, is_cut in texts.values()),
        **{name: shown for name, (shown, _) in texts.items()},
    )


_MOST = {"text": MOST_BYTES, "new_text": MOST_BYTES, "agent_words": MOST_WORDS_BYTES, "reason": MOST_WORDS_BYTES}


def _bounded(text: str, most_bytes: int) -> tuple[str, bool]:
    shown = visible(text)
    bounded = cut(shown, most_bytes)
    return bounded, bounded != shown


def call_preview(step: Step, reason: str, agent_words: str) -> Preview:
    """A tool call: the file it writes, the command line it runs, or its arguments. Not yet presentable."""
    shown = _write(step) or _command(step) or _call(step)
    return replace(shown, agent=step.agent, reason=reason, agent_words=agent_words)


def one_line(text: str) -> str:
    """For a text among others, so that no line of it can pose as one of theirs."""
    return text.replace("\n", " ↵ ")


def written(tool: str, arguments_json: str) -> tuple[str, str] | None:
    """The path and the new content of a call that does nothing but write a file whole."""
    if tool != "write_file":
        return None
    arguments = _arguments(arguments_json)
    path, content = arguments.get("path"), arguments.get("content")
    if arguments.keys() != {"path", "content"} or not isinstance(path, str) or not isinstance(content, str):
        return None
    return path, content


def _write(step: Step) -> Preview | None:
    if (write := written(step.tool, step.arguments_json)) is None:
        return None
    path, content = write
    return Preview(_titled("Write", path), content, path, content)


def _command(step: Step) -> Preview | None:
    """A shell's line or a list of arguments, and beside it whatever else the call says."""
    if step.tool != "run_command":
        return None
    command = _arguments(step.arguments_json).get("command")
    if isinstance(command, list) and command and all(isinstance(each, str) for each in command):
        command = shlex.join(command)
    if not isinstance(command, str):
        return None
    members = _members(step.arguments_json)
    rest = [f"{INDENT}{name}: {value}" for name, value in members if json.loads(name) != "command"]
    return Preview(_titled("Run:", command), _command_text(command, rest), format="COMMAND")


def _command_text(command: str, rest: list[str]) -> str:
    """A plain line stands by itself. Otherwise the command's lines are marked as a shell marks them, so that none of
    them can pose as one of the other arguments."""
    lines = command.split("\n")
    if len(lines) == 1 and not rest and not command.startswith("$ "):
        return command
    return "\n".join([f"$ {lines[0]}", *(f"> {line}" for line in lines[1:]), *rest])


def _call(step: Step) -> Preview:
    return Preview(f"Call {step.tool}", indented(step.arguments_json), format="JSON")


def _titled(what: str, text: str) -> str:
    """The note comes before the text, which may be cut."""
    noted = lookalikes(text)
    return f"{what} {text}" if not noted else f"[letters outside ASCII: {noted}] {what} {text}"


def _arguments(text: str) -> dict[str, Any]:
    try:
        return parse_object(text)
    except BadJson:
        return {}


# JSON text, laid out anew without reading its values: numbers and strings stay as they are written.


def indented(text: str) -> str:
    """JSON text with one member a line, down to a depth. What is short or very long, or no JSON, stays as it stands."""
    if (len(text) <= SHORT_JSON and "\n" not in text) or len(text) > MOST_BYTES:
        return text
    try:
        parse_object(text)
    except BadJson:
        return text
    pieces: list[str] = []
    depth, previous = 0, ""
    for mark in _TOKEN.findall(text):
        closes = mark in ("]", "}")
        is_empty = closes and previous in ("[", "{")
        if depth <= MOST_DEPTH and previous and not is_empty and (closes or previous in _BEFORE_LINE):
            pieces.append("\n" + INDENT * (depth - closes))
        pieces.append(": " if mark == ":" else mark)
        depth += (mark in ("[", "{")) - closes
        previous = mark
    return "".join(pieces)


def _members(text: str) -> Iterator[tuple[str, str]]:
    """The names and the values of an object, as they are written."""
    depth, name, value = 0, "", ""
    for mark in _TOKEN.findall(text):
        depth -= mark in ("]", "}")
        if value and (depth == 0 or (depth == 1 and mark == ",")):
            yield name, value[1:]
            name, value = "", ""
        elif name:
            value += mark
        elif depth:
            name = mark
        depth += mark in ("[", "{")


_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}:,]|[^\s\[\]{}:,"]++', re.DOTALL)
_BEFORE_LINE = ("[", "{", ",")
