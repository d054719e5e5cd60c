"""Tools that clients execute, brought by a session or declared in the catalog: handed over, claimed, answered.

A call of one goes through policy and approval as any other; then it is READY for a client, and no executor has it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.asking import ask_about_doubt
from orchestrator.domain.catalog import Agent, Catalog, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.control import OF_A_RESUME, go_on, pause
from orchestrator.domain.digests import sha256
from orchestrator.domain.errors import ClaimedByAnother, InvalidInput, InvalidJson, Violation, WrongState
from orchestrator.domain.events import ToolCallClaimed, ToolCallReady, ToolResultRecorded
from orchestrator.domain.frozen import replace
from orchestrator.domain.questions import ASK_USER
from orchestrator.domain.records import ClientTool, Failure, Session, Step, ToolResult, Usage
from orchestrator.domain.schemas import count_values, fault_of, problems_of
from orchestrator.domain.starting import permitted, use_up
from orchestrator.domain.states import StepState
from orchestrator.domain.transitions import ENGINE, PREVIEW_CHARACTERS, finish_step, move_step

SOURCE = "client"
ANY_OBJECT = '{"type": "object"}'
MAX_SCHEMA_VALUES = 2_000  # in all their schemas: a value takes the meta-schema up to a millisecond
MAX_TOOLS_BYTES = 64 * 1024  # of names, descriptions and schemas together: they are read with every look at the session


def offered_tools(session: Session, catalog: Catalog) -> Mapping[str, Tool]:
    """What models of this session may be offered, by name. Its own tools keep their names, whatever else appears;
    executors' give way to the catalog's and to the orchestrator's own."""
    return {**common_tools(catalog), **{tool.name: _as_tool(tool) for tool in session.client_tools}}


def common_tools(catalog: Catalog) -> dict[str, Tool]:
    """What there is in every session, by name."""
    return {**catalog.tools, **catalog.client_tools, ASK_USER.name: ASK_USER}


def is_clients(session: Session, catalog: Catalog, tool: str) -> bool:
    return _is_own(session, tool) or tool in catalog.client_tools


def unfit(session: Session, tool: Tool, arguments: dict[str, Any]) -> list[str]:
    """What of the arguments does not fit the tool's schema, in words.

    What a client does with its own tool's arguments is its own to check: a stranger's schema is not run here.
    """
    return [] if _is_own(session, tool.name) else problems_of(arguments, tool.input_schema_json)


def _is_own(session: Session, tool: str) -> bool:
    return any(own.name == tool for own in session.client_tools)


def _as_tool(tool: ClientTool) -> Tool:
    """What it does when it runs twice nobody knows: as if it must not."""
    schema = tool.input_schema_json or ANY_OBJECT
    digest, limit, then = sha256(schema), tool.time_limit, tool.on_timeout
    return Tool(tool.name, tool.description, schema, digest, "NON_IDEMPOTENT", SOURCE, limit, then)


def check_client_tools(tools: Sequence[ClientTool], catalog: Catalog) -> None:
    """Raises InvalidJson for a schema that is no JSON object, InvalidInput for what else is wrong with them."""
    size = sum(len((t.name + t.description + t.input_schema_json).encode()) for t in tools)
    if size > MAX_TOOLS_BYTES:
        words = f"take {size} bytes together; {MAX_TOOLS_BYTES} are allowed"
        raise InvalidInput([Violation("client_tools", words)])
    schemas = [_schema(tool, f"client_tools[{index}].input_schema_json") for index, tool in enumerate(tools)]
    if (values := sum(count_values(schema) for schema in schemas)) > MAX_SCHEMA_VALUES:
        words = f"have {values} values in their schemas together; {MAX_SCHEMA_VALUES} are allowed"
        raise InvalidInput([Violation("client_tools", words)])
    problems = []
    for index, tool in enumerate(tools):
        if tool.name in common_tools(catalog):
            problems.append(Violation(f"client_tools[{index}].name", f"the server has a tool {tool.name!r}"))
        if any(other.name == tool.name for other in tools[:index]):
            problems.append(Violation(f"client_tools[{index}].name", f"there are two tools {tool.name!r}"))
        if fault := fault_of(schemas[index]):
            problems.append(Violation(f"client_tools[{index}].input_schema_json", fault))
    if problems:
        raise InvalidInput(problems)


def _schema(tool: ClientTool, path: str) -> dict[str, Any]:
    try:
        return parse_object(tool.input_schema_json)
    except BadJson as error:
        raise InvalidJson([Violation(path, str(error))]) from None


def hand_to_client(change: Change, step: Step, catalog: Catalog) -> None:
    """The call waits for a client from now on, for as long as its tool or its agent says."""
    agent = permitted(change, step, catalog)
    if agent is None:
        return
    use_up(change, step)
    step = replace(
        step,
        dispatch_number=step.dispatch_number + 1,
        start_time=step.start_time or change.now,
        dispatch_time=change.now,
        client_id="",
        claimer="",
        lease_expire_time=0,
    )
    move_step(change, _with_time(change, step, agent, catalog), "handed_to_client")


def _with_time(change: Change, step: Step, agent: Agent, catalog: Catalog) -> Step:
    """The call as clients are told of it, with all the time there is for it."""
    limit = offered_tools(change.session, catalog)[step.tool].time_limit or agent.tool_timeout
    step = replace(step, deadline_time=change.now + limit)
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
            step.grant_id,
        )
    )
    return step


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
    change.put(replace(run, usage=run.usage + Usage(tool_calls=1)))
    go_on(change, run.id, actor)
    return step


def end_overdue(change: Change, catalog: Catalog) -> bool:
    """What becomes of calls that no client has answered in time. True when there was one."""
    overdue = [
        s for s in change.snapshot.steps.values() if s.state == StepState.READY and s.deadline_time <= change.now
    ]
    for step in overdue:
        tool = offered_tools(change.session, catalog).get(step.tool)
        _TIMEOUTS[tool.on_timeout if tool else ""](change, step, catalog)
    return bool(overdue)


def _fail(change: Change, step: Step, catalog: Catalog) -> None:
    """Its result is that nobody answered."""
    words = f"{_not_answered(step)}."
    if step.client_id:
        words += f" Client {step.client_id} had taken it: it may have taken effect."
    failure = Failure("DEADLINE_EXCEEDED", words, "HUMAN_REQUIRED")
    finish_step(change, replace(step, result=ToolResult(words, is_error=True), failure=failure), "failed")
    go_on(change, step.run_id, "")


def _doubt(change: Change, step: Step, catalog: Catalog) -> None:
    """A person says what became of it. Should they have it done again, the client's time for this one is over."""
    failure = Failure("IN_DOUBT", f"{_not_answered(step)}; it may have taken effect", "HUMAN_REQUIRED")
    finish_step(change, replace(step, failure=failure, doubt_number=step.dispatch_number), "doubted")
    ask_about_doubt(change, change.snapshot.steps[step.id], "no client answered in time")


def _halt(change: Change, step: Step, catalog: Catalog) -> None:
    """The run is PAUSED; once it is resumed the call has as much time again."""
    run, agent = change.snapshot.runs[step.run_id], catalog.agents.get(step.agent)
    if agent is None:
        _fail(change, step, catalog)
    elif step.deadline_time == OF_A_RESUME:
        change.put(_with_time(change, step, agent, catalog))
    elif run.pause is None:
        pause(change, run.id, ENGINE, _not_answered(step))


def _not_answered(step: Step) -> str:
    return f"No client answered this call of {step.tool} in time"


_TIMEOUTS = {"": _fail, "FAIL": _fail, "ASK": _doubt, "HALT": _halt}


def _check_free(change: Change, step: Step, client_id: str, actor: str, trigger: str) -> None:
    if step.state != StepState.READY:
        raise WrongState("tool step", step.id, step.state, trigger, (StepState.READY.value,))
    is_own = (step.client_id, step.claimer) == (client_id, actor)
    if step.lease_expire_time > change.now and not is_own:
        raise ClaimedByAnother(step.id, step.client_id)
