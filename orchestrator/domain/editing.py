"""A person's edit of a tool call: a new call of exactly the bytes they wrote, in the place of the one asked about.

The edit is its approval; what policy denies no edit makes possible. Whether it may be made at all is `deciding`'s.
"""

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import Catalog
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import offered_tools, unfit
from orchestrator.domain.digests import sha256, tool_preimage
from orchestrator.domain.errors import InvalidInput, InvalidJson, Violation
from orchestrator.domain.frozen import replace
from orchestrator.domain.policy import Call, judge
from orchestrator.domain.records import Approval, Decision, Session, Step
from orchestrator.domain.states import StepState
from orchestrator.domain.transitions import finish_step

FIELD = "edited_arguments_json"


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
    if problems := unfit(session, tool, arguments):
        raise InvalidInput([Violation(FIELD, problem) for problem in problems])
    call = Call(step.tool, arguments, agent, tool, decision.edited_arguments_json, session.labels)
    verdict = judge(catalog.policy_of(session), call)
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
        ordinal=change.snapshot.next_ordinal(step.attempt_id),
        arguments_json=decision.edited_arguments_json,
        side_effect=tool.side_effect,
        schema_digest=tool.schema_digest,
        replaces_step_id=step.id,
        create_time=change.now,
    )
    edited = replace(edited, approval_preimage=tool_preimage(edited, approval.plan_version, change.policy.digest))
    change.put(edited)
    decided = replace(decision, edited_digest=sha256(edited.approval_preimage))
    return change.put(replace(approval, decision=decided))
