"""Tools that a session's client executes itself: offered beside the executors', handed over, claimed, answered.

A call of one goes through policy and approval as any other; then it is READY for a client, and no executor has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import Catalog, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.digests import sha256
from orchestrator.domain.errors import ClaimedByAnother, InvalidInput, InvalidJson, Violation, WrongState
from orchestrator.domain.events import ToolCallClaimed, ToolCallReady, ToolResultRecorded
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import ClientTool, Failure, Run, Session, Step, ToolResult, Usage
from orchestrator.domain.starting import permitted, use_up
from orchestrator.domain.states import RunState, StepState
from orchestrator.domain.transitions import PREVIEW_CHARACTERS, finish_step, move_run, move_step

SOURCE = "client"
ANY_OBJECT = '{"type": "object"}'
MAX_SCHEMA_VALUES = 2_000  # in all their schemas: a value takes the meta-schema up to a millisecond
MAX_TOOLS_BYTES = 64 * 1024  # of names, descriptions and schemas together: they are read with every look at the session


def offered_tools(session: Session, catalog: Catalog) -> Mapping[str, Tool]:
    """What models of this session may be offered, by name. Its own tools keep their names, whatever else appears."""
    if not session.client_tools:
        return catalog.tools
    return {**catalog.tools, **{tool.name: _as_tool(tool) for tool in session.client_tools}}


def is_clients(session: Session, tool: str) -> bool:
    return any(own.name == tool for own in session.client_tools)


def _as_tool(tool: ClientTool) -> Tool:
    """What it does when it runs twice nobody knows: as if it must not."""
    schema = tool.input_schema_json or ANY_OBJECT
    return Tool(tool.name, tool.description, schema, sha256(schema), "NON_IDEMPOTENT", SOURCE)


def check_client_tools(tools: Sequence[ClientTool], catalog: Catalog) -> None:
    """Raises InvalidJson for a schema that is no JSON object, InvalidInput for what else is wrong with them."""
    size = sum(len((t.name + t.description + t.input_schema_json).encode()) for t in tools)
    if size > MAX_TOOLS_BYTES:
        words = f"take {size} bytes together; {MAX_TOOLS_BYTES} are allowed"
        raise InvalidInput([Violation("client_tools", words)])
    schemas = [_schema(tool, f"client_tools[{index}].input_schema_json") for index, tool in enumerate(tools)]
    if (values := sum(_values(schema) for schema in schemas)) > MAX_SCHEMA_VALUES:
        words = f"have {values} values in their schemas together; {MAX_SCHEMA_VALUES} are allowed"
        raise InvalidInput([Violation("client_tools", words)])
    problems = []
    for index, tool in enumerate(tools):
        if tool.name in catalog.tools:
            problems.append(Violation(f"client_tools[{index}].name", f"the server has a tool {tool.name!r}"))
        if any(other.name == tool.name for other in tools[:index]):
            problems.append(Violation(f"client_tools[{index}].name", f"there are two tools {tool.name!r}"))
        if fault := _fault_of(schemas[index]):
            problems.append(Violation(f"client_tools[{index}].input_schema_json", fault))
    if problems:
        raise InvalidInput(problems)


def _schema(tool: ClientTool, path: str) -> dict[str, Any]:
    try:
        return parse_object(tool.input_schema_json)
    except BadJson as error:
        raise InvalidJson([Violation(path, str(error))]) from None


def _values(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_values(each) for each in inner)


def _fault_of(schema: dict[str, Any]) -> str:
    """Why it is no JSON Schema; empty when it is one."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"is no JSON Schema: {error.json_path}: {error.message}"[:500]
    return ""


def hand_to_client(change: Change, step: Step, catalog: Catalog) -> None:
    """The call waits for a client from now on, for as long as its agent lets a tool take."""
    agent = permitted(change, step, catalog)
    if agent is None:
        return
    use_up(change, step)
    deadline = change.now + agent.tool_timeout
    step = replace(step, start_time=change.now, dispatch_time=change.now, deadline_time=deadline)
    change.emit(
        ToolCallReady(
            step.id,
            step.run_id,
            step.subtask_id,
            step.attempt_id,
            step.agent,
            step.tool,
            step.arguments_json,
            step.approval_id,
            step.deadline_time,
        )
    )
    move_step(change, step, "handed_to_client")


def claim_call(change: Change, step: Step, client_id: str, lease: int, actor: str) -> Step:
    """The client takes the call, or renews its lease: nobody else may have it meanwhile, and it is not timed out.

    Raises WrongState for a call that is not READY, ClaimedByAnother.
    """
    _check_free(change, step, client_id, actor, "claimed")
    expire = change.now + lease
    step = replace(
        step,
        client_id=client_id,
        claimer=actor,
        lease_expire_time=expire,
        deadline_time=max(step.deadline_time, expire),
    )
    change.emit(ToolCallClaimed(step.id, step.run_id, client_id, actor, expire))
    return change.put(step)


def record_result(change: Change, step: Step, client_id: str, actor: str, result: ToolResult) -> Step:
    """The first result of the call wins. Raises WrongState for a call that is not READY, ClaimedByAnother."""
    trigger = "failed" if result.is_error else "succeeded"
    _check_free(change, step, client_id, actor, trigger)
    preview = result.content[:PREVIEW_CHARACTERS]
    change.emit(ToolResultRecorded(step.id, step.run_id, client_id, actor, step.tool, result.is_error, preview))
    failure = Failure("TOOL_FAILED", result.content[:2000], "HUMAN_REQUIRED") if result.is_error else Failure()
    step = replace(
        step,
        client_id=client_id,
        claimer=actor,
        result=result,
        failure=failure,
        usage=step.usage + Usage(tool_calls=1),
        latency=change.now - step.dispatch_time,
    )
    step = finish_step(change, step, trigger, actor=actor)
    run = change.snapshot.runs[step.run_id]
    _resume(change, change.put(replace(run, usage=run.usage + Usage(tool_calls=1))), actor)
    return step


def end_overdue(change: Change, run: Run) -> bool:
    """Calls that no client has answered in time have their result: that nobody did. True when there was one."""
    overdue = [
        s for s in change.snapshot.steps.values() if s.state == StepState.READY and s.deadline_time <= change.now
    ]
    for step in overdue:
        words = f"No client answered this call of {step.tool} in time."
        if step.client_id:
            words += f" Client {step.client_id} had taken it: it may have taken effect."
        failure = Failure("DEADLINE_EXCEEDED", words, "HUMAN_REQUIRED")
        finish_step(change, replace(step, result=ToolResult(words, is_error=True), failure=failure), "failed")
    if overdue:
        _resume(change, change.snapshot.runs[run.id], "")
    return bool(overdue)


def _check_free(change: Change, step: Step, client_id: str, actor: str, trigger: str) -> None:
    if step.state != StepState.READY:
        raise WrongState("tool step", step.id, step.state, trigger, (StepState.READY.value,))
    is_own = (step.client_id, step.claimer) == (client_id, actor)
    if step.lease_expire_time > change.now and not is_own:
        raise ClaimedByAnother(step.id, step.client_id)


def _resume(change: Change, run: Run, actor: str) -> None:
    if run.state == RunState.WAITING:
        move_run(change, run, "resumed", actor=actor)
