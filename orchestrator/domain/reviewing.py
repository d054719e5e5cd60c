"""What a person decides about an artifact at a gate, and what comes of it; that a gate asks is gates.py's part.

An edit makes another artifact of the bytes they wrote and, so that whoever works on reads those too, one call that
writes them back into the workspace: the edit is its approval, and policy judges it like any.
"""

import json

from orchestrator.domain.arguments import parse_object
from orchestrator.domain.artifacts import current, new_artifact, record, send_back, withdraw
from orchestrator.domain.asking import ask_about_call
from orchestrator.domain.calls import new_step
from orchestrator.domain.catalog import Agent, Catalog, Tool
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import is_clients, offered_tools
from orchestrator.domain.digests import sha256, tool_preimage
from orchestrator.domain.errors import InvalidInput, Violation
from orchestrator.domain.expected import check_bytes, is_text
from orchestrator.domain.frozen import replace
from orchestrator.domain.policy import Call, Verdict, judge
from orchestrator.domain.records import Approval, Artifact, Attempt, Decision, ExpectedArtifact, Failure, Step, Subtask
from orchestrator.domain.schemas import MOST_MODEL_WORK
from orchestrator.domain.states import AttemptState, StepState
from orchestrator.domain.terms import covers
from orchestrator.domain.transitions import move_step

WRITE = "write_file"
MOST_EDITED_BYTES = 128 * 1024  # it travels as a call's arguments, escaped


def check_edited(change: Change, approval: Approval, edited: bytes, catalog: Catalog) -> None:
    """Raises InvalidInput for bytes that do not do, or that cannot be written back."""
    artifact = change.snapshot.artifacts[approval.artifact_id]
    subtask = change.snapshot.subtasks[approval.subtask_id]
    problems = list(check_bytes(_expected(subtask, artifact), edited, MOST_MODEL_WORK).errors)
    if len(edited) > MOST_EDITED_BYTES:
        problems.append(f"has {len(edited)} bytes; {MOST_EDITED_BYTES} can be written back")
    if not is_text(artifact.media_type):
        problems.append(f"cannot be edited: {artifact.media_type} is no text")
    tool, agent = offered_tools(change.session, catalog).get(WRITE), catalog.agents.get(subtask.agent)
    if tool is None or agent is None or is_clients(change.session, catalog, WRITE):
        problems.append(f"cannot be written back now: there is no {WRITE}, or no agent {subtask.agent!r}")
    elif not problems:
        verdict = _judge(change, agent, tool, _arguments(artifact, edited))
        if verdict.effect == "DENY":
            problems.append(f"is not allowed: {verdict.reason}")
    if problems:
        raise InvalidInput([Violation("edited_artifact", problem) for problem in problems])


def _judge(change: Change, agent: Agent, tool: Tool, arguments_json: str) -> Verdict:
    """What policy says of the call that writes these bytes back."""
    call = Call(WRITE, parse_object(arguments_json), agent, tool, arguments_json, change.session.labels)
    return judge(change.policy, call)


def edit_artifact(change: Change, approval: Approval, decision: Decision, edited: bytes, catalog: Catalog) -> Approval:
    """Another artifact of exactly these bytes takes its place, and a call that the edit allows writes them back."""
    artifact = change.snapshot.artifacts[approval.artifact_id]
    attempt = change.snapshot.attempts[artifact.attempt_id]
    subtask = change.snapshot.subtasks[approval.subtask_id]
    expected = _expected(subtask, artifact)
    checked = check_bytes(expected, edited, MOST_MODEL_WORK)
    made = new_artifact(change, attempt, expected, checked)
    made = record(change, replace(made, replaces_artifact_id=artifact.id, editor=decision.decider))
    step = _write_back(change, attempt, approval, _arguments(made, edited), catalog)
    decided = replace(decision, edited_artifact_id=made.id, edited_digest=sha256(step.approval_preimage))
    return change.put(replace(approval, decision=decided))


def _expected(subtask: Subtask, artifact: Artifact) -> ExpectedArtifact:
    """What an edit of it must be: of the same media type, too."""
    expected = next(e for e in subtask.artifacts if e.name == artifact.name)
    return replace(expected, media_type=artifact.media_type)


def _write_back(change: Change, attempt: Attempt, approval: Approval, arguments_json: str, catalog: Catalog) -> Step:
    """Allowed by the edit; but where policy has others decide about such a call, they are asked."""
    tool = offered_tools(change.session, catalog)[WRITE]
    ordinal = change.snapshot.next_ordinal(attempt.id)
    step = replace(
        new_step(change, attempt, "TOOL", StepState.PROPOSED, ordinal),
        tool=WRITE,
        arguments_json=arguments_json,
        side_effect=tool.side_effect,
        schema_digest=tool.schema_digest,
        approval_id=approval.id,
    )
    verdict = _judge(change, catalog.agents[attempt.agent], tool, arguments_json)
    if verdict.effect == "ASK" and not covers(approval.terms, verdict.terms):
        return ask_about_call(change, step, verdict)
    preimage = tool_preimage(step, approval.plan_version, change.policy.digest)
    return move_step(change, replace(step, approval_preimage=preimage), "allowed")


def _arguments(artifact: Artifact, edited: bytes) -> str:
    return json.dumps({"path": artifact.path, "content": edited.decode()}, ensure_ascii=False)


def _approve(change: Change, approval: Approval, decision: Decision) -> None:
    """The rules go on: the next gate, or the end."""


def _request_changes(change: Change, approval: Approval, decision: Decision) -> None:
    attempt = _attempt_of(change, approval)
    steps = [s for s in change.snapshot.steps.values() if s.attempt_id == attempt.id and s.kind == "MODEL"]
    artifact = change.snapshot.artifacts[approval.artifact_id]
    lines = [
        f"{decision.decider} has looked at {artifact.path} ({approval.gate}) and asks for changes: {decision.feedback}"
    ]
    others = current(change.snapshot, change.snapshot.subtasks[approval.subtask_id], attempt)
    lines += [f"{a.path} is now as {a.editor} has edited it: read it before you change it." for a in others if a.editor]
    withdraw(change, approval.subtask_id, f"changes were asked for at {approval.gate}")
    subtask = change.snapshot.subtasks[approval.subtask_id]
    send_back(change, subtask, max(steps, key=lambda s: s.ordinal), "\n".join(lines), decision.decider)


def _reject(change: Change, approval: Approval, decision: Decision) -> None:
    """The rules end the attempt with it, and ask what becomes of the subtask."""
    artifact = change.snapshot.artifacts[approval.artifact_id]
    words = f"{artifact.path} was rejected at {approval.gate} by {decision.decider}"
    if decision.feedback:
        words += f": {decision.feedback}"
    withdraw(change, approval.subtask_id, f"{artifact.path} was rejected")
    change.put(replace(_attempt_of(change, approval), failure=Failure("REJECTED", words, "HUMAN_REQUIRED")))


def _attempt_of(change: Change, approval: Approval) -> Attempt:
    attempt = change.snapshot.attempts[change.snapshot.artifacts[approval.artifact_id].attempt_id]
    assert attempt.state == AttemptState.RUNNING
    return attempt


EFFECTS = {
    ("ARTIFACT", "APPROVE"): _approve,
    ("ARTIFACT", "REQUEST_CHANGES"): _request_changes,
    ("ARTIFACT", "REJECT"): _reject,
}
