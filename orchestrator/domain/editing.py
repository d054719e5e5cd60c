"""A person's edit of a tool call: a new call of exactly the bytes they wrote, in the place of the one asked about.

The edit is its approval; what policy denies no edit makes possible. Whether it may be made at all is `deciding`'s.
"""

from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from orchestrator.domain.arguments import BadJson, parse_object, parse_strictly
from orchestrator.domain.catalog import Catalog, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import SOURCE, offered_tools
from orchestrator.domain.digests import sha256, tool_preimage
from orchestrator.domain.errors import InvalidInput, InvalidJson, Violation
from orchestrator.domain.frozen import replace
from orchestrator.domain.policy import judge
from orchestrator.domain.records import Approval, Decision, Session, Step
from orchestrator.domain.states import StepState
from orchestrator.domain.transitions import finish_step

FIELD = "edited_arguments_json"
MOST_PROBLEMS = 10


def check_edit(session: Session, step: Step, decision: Decision, catalog: Catalog) -> None:
    """Raises InvalidJson, or InvalidInput for arguments that do not fit the tool or that policy denies."""
    try:
        arguments = parse_object(decision.edited_arguments_json)
    except BadJson as error:
        raise InvalidJson([Violation(FIELD, str(error))]) from None
    agent, tool = catalog.agents.get(step.agent), offered_tools(session, catalog).get(step.tool)
    if agent is None or tool is None:
        words = f"there is no agent {step.agent!r}" if agent is None else f"there is no tool {step.tool!r}"
        raise InvalidInput([Violation("action", f"cannot be EDIT now: {words}")])
    # What a client does with its own tool's arguments is its own to check: its schema is not run here.
    if tool.source != SOURCE and (problems := _problems(tool, arguments)):
        raise InvalidInput([Violation(FIELD, problem) for problem in problems])
    verdict = judge(catalog.policy, agent, tool, step.tool, arguments)
    if verdict.effect == "DENY":
        raise InvalidInput([Violation(FIELD, f"is not allowed: {verdict.reason}")])


def edit_call(change: Change, approval: Approval, decision: Decision, catalog: Catalog) -> Approval:
    """The call that was asked about ends EDITED; the one that replaces it is proposed, and approved by the edit."""
    step = change.snapshot.steps[approval.step_id]
    tool = offered_tools(change.session, catalog)[step.tool]
    finish_step(change, step, "edited", actor=decision.decider)
    edited = replace(
        step,
        id=change.new_id(),
        state=StepState.PROPOSED,
        ordinal=1 + max(s.ordinal for s in change.snapshot.steps.values() if s.attempt_id == step.attempt_id),
        arguments_json=decision.edited_arguments_json,
        side_effect=tool.side_effect,
        schema_digest=tool.schema_digest,
        replaces_step_id=step.id,
        create_time=change.now,
    )
    edited = replace(edited, approval_preimage=tool_preimage(edited, approval.plan_version, catalog.policy.digest))
    change.put(edited)
    decided = replace(decision, edited_digest=sha256(edited.approval_preimage))
    return change.put(replace(approval, decision=decided))


def _problems(tool: Tool, arguments: dict[str, Any]) -> list[str]:
    """What does not fit the tool's schema, in words. A schema is never fetched from elsewhere."""
    try:
        schema = parse_strictly(tool.input_schema_json or "{}")
        Draft202012Validator.check_schema(schema)
        errors = Draft202012Validator(schema, registry=Registry()).iter_errors(arguments)
        return [f"{error.json_path}: {error.message}"[:500] for error in islice(errors, MOST_PROBLEMS)]
    except (BadJson, SchemaError, Unresolvable, RecursionError) as error:
        return [f"cannot be checked: the schema of {tool.name} does not do ({type(error).__name__})"]
