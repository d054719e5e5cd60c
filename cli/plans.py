"""`assent plan show` and `edit`: a version of a plan as people read it, and the next version as they write it.

What is written is checked by the server alone; here it only has to be the text of a plan. Nothing that was written is
lost: what the server does not take is kept in a file.
"""

import asyncio
import io
import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from rich.console import Console
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from cli.client import Client, new_request_id
from cli.screen import Show, print_lines
from cli.story import Line
from cli.trouble import ExitCode, Trouble
from cli.words import one_line, printable, state_of
from gen.assent.v1.plan_pb2 import PLAN_STATE_DRAFT, Plan, Subtask, SubtaskDraft
from gen.assent.v1.plan_service_pb2 import GetPlanRequest, RevisePlanRequest

WRITTEN = ("title", "summary", "goal", "parallel_limit", "subtasks")
"""What of a request the text of a plan may hold."""

_OF_A_DRAFT = [field.name for field in SubtaskDraft.DESCRIPTOR.fields]


async def show_plan(client: Client, plan_id: str, console: Console, *, as_yaml: bool = False) -> None:
    """One version of a plan with what became of it; `as_yaml`, as it is edited."""
    plan = await get_plan(client, plan_id)
    if as_yaml:
        console.out(text_of(plan), end="", highlight=False)
        return
    print_lines(console, _lines(plan))


async def edit_plan(client: Client, plan_id: str, show: Show, text: str | None = None) -> bool:
    """Write the next version of a draft: from `text`, or in the person's editor. False when nothing was changed."""
    plan = await get_plan(client, plan_id)
    if plan.state != PLAN_STATE_DRAFT:
        raise Trouble(f"plan {plan.id} is {state_of(plan, 'state')}: only a draft can be edited")
    before = text_of(plan)
    after = text if text is not None else await _typed(before, plan)
    try:
        request = request_of(after)
        if request == request_of(before):
            show([Line("nothing was changed", "quiet")])
            return False
        request.plan_id, request.digest, request.request_id = plan.id, plan.digest, new_request_id()
        revised = (await client.call(client.plans.RevisePlan, request)).plan
    except Trouble as trouble:
        if text is not None:
            raise
        kept = _kept(after)
        again = f"what you wrote is kept: correct it, then assent plan edit {plan.id} --file {kept}"
        raise Trouble(f"{trouble}\n  {again}", trouble.code, reason=trouble.reason) from None
    show(
        [
            Line(
                f"plan {revised.id} is version {revised.version}, a draft; version {plan.version} is SUPERSEDED", "ok"
            ),
            Line(f"  digest {revised.digest}", "quiet"),
        ]
    )
    return True


async def get_plan(client: Client, plan_id: str) -> Plan:
    """The version as it is now."""
    return (await client.call(client.plans.GetPlan, GetPlanRequest(plan_id=plan_id))).plan


def text_of(plan: Plan) -> str:
    """The plan as YAML, to be edited; what is done already is only told of."""
    body: dict[str, Any] = {
        "title": _text(plan.title),
        "summary": _block(plan.summary),
        "parallel_limit": plan.parallel_limit,
        "subtasks": [_written(subtask) for subtask in plan.subtasks if not subtask.carried_subtask_id],
    }
    done = [one_line(f"{s.key} ({s.title})") for s in plan.subtasks if s.carried_subtask_id]
    out = io.StringIO()
    out.write(f"# Plan {plan.id}, version {plan.version}. What you save becomes the next version, a draft.\n")
    if done:
        out.write(f"# Done already, and staying; subtasks may depend on it: {', '.join(done)}\n")
    yaml = YAML()
    yaml.allow_unicode, yaml.width = True, 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(body, out)
    return out.getvalue()


def _written(subtask: Subtask) -> dict[str, Any]:
    draft = SubtaskDraft()
    for field, value in subtask.ListFields():
        if field.name in _OF_A_DRAFT:
            if field.is_repeated:
                getattr(draft, field.name).extend(value)
            elif field.message_type is not None:
                getattr(draft, field.name).CopyFrom(value)
            else:
                setattr(draft, field.name, value)
    fields = MessageToDict(draft, preserving_proto_field_name=True)
    fields["instructions"] = _block(draft.instructions)
    if draft.title:
        fields["title"] = _text(draft.title)
    always = {"key": "", "title": "", "instructions": "", "agent": "", "depends_on": []}
    return always | fields


def _text(text: str) -> str:
    """What cannot be seen is escaped, and so comes back: of YAML's line breaks some would be read as a space."""
    return text if text.isprintable() else DoubleQuotedScalarString(text)


def _block(text: str) -> str:
    """Several lines are easier to edit as such, if all of them can be seen."""
    is_seen = all(line.isprintable() for line in text.split("\n"))
    return LiteralScalarString(text) if "\n" in text and is_seen else _text(text)


def request_of(text: str) -> RevisePlanRequest:
    """What the text asks for. Raises Trouble for what is no text of a plan."""
    try:
        body = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise Trouble(f"this is neither YAML nor JSON: {error}", ExitCode.USAGE) from None
    if not isinstance(body, dict):
        raise Trouble(f"a plan has: {', '.join(WRITTEN)}", ExitCode.USAGE)
    if unknown := [str(name) for name in body if name not in WRITTEN]:
        raise Trouble(f"a plan has no {', '.join(unknown)}; it has: {', '.join(WRITTEN)}", ExitCode.USAGE)
    try:
        return ParseDict({name: value for name, value in body.items() if value is not None}, RevisePlanRequest())
    except ParseError as error:
        raise Trouble(f"this is no plan: {error}", ExitCode.USAGE) from None


def read_text(data: bytes) -> str:
    """What a file holds. Raises Trouble for what is no text."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Trouble("the file is not UTF-8 text", ExitCode.USAGE) from None


async def _typed(before: str, plan: Plan) -> str:
    """What the person leaves in their editor."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="assent-") as directory:
        file = Path(directory) / f"plan-v{plan.version}.yaml"
        file.write_text(before, encoding="utf-8")
        try:
            process = await asyncio.create_subprocess_exec(*shlex.split(editor), str(file))
            code = await process.wait()
        except (OSError, ValueError) as error:
            raise Trouble(f"cannot start {editor}: {error}; EDITOR names another one", ExitCode.USAGE) from None
        if code:
            raise Trouble(f"{editor} ended with {code}; nothing was changed")
        return read_text(file.read_bytes())


def _kept(text: str) -> str:
    handle, name = tempfile.mkstemp(prefix="assent-plan-", suffix=".yaml")
    with open(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def _lines(plan: Plan) -> list[Line]:
    lines = [
        Line(one_line(plan.title), "title"),
        Line(f"  {state_of(plan, 'state')}, version {plan.version}, by {printable(plan.author)}", "quiet"),
        Line(f"  plan {plan.id}", "quiet"),
        Line(f"  run {plan.run_id}  digest {plan.digest}", "quiet"),
        *(Line(f"  {line}", "plan") for line in printable(plan.summary).splitlines()),
        Line(f"  at most {plan.parallel_limit} at the same time", "quiet"),
    ]
    for subtask in plan.subtasks:
        lines += _of_subtask(subtask)
    if plan.state == PLAN_STATE_DRAFT:
        lines.append(Line(f"  edit it with: assent plan edit {plan.id}", "quiet"))
    return lines


def _of_subtask(subtask: Subtask) -> list[Line]:
    after = f" after {', '.join(subtask.depends_on)}" if subtask.depends_on else ""
    carried = ", carried from an earlier version" if subtask.carried_subtask_id else ""
    state = f"{state_of(subtask, 'state')}{carried}"
    said = [subtask.skip_reason, subtask.failure.message]
    who = f"{printable(subtask.key)}: {one_line(subtask.title)} ({printable(subtask.agent)}{after})"
    return [
        Line(f"  {who} {state}", "subtask"),
        *(Line(f"      {line}", "plan") for line in printable(subtask.instructions).splitlines()),
        *(Line(f"      {one_line(words)}", "notice") for words in said if words),
    ]
