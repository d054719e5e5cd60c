"""What exactly a person approves, as text (the preimage) and its SHA-256 (the digest).

A preimage is lines of `key: value`; the executor reads the same lines again before it runs a call.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from orchestrator.domain.records import Approval, Artifact, Decision, Plan, RetryPolicy, Run, Step, Subtask


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def plan_preimage(plan: Plan, subtasks: Iterable[Subtask], goal: str) -> str:
    """Names the plan's version and everything of it that will be carried out, and the goal its agents are told."""
    body = {
        "title": plan.title,
        "summary": plan.summary,
        "parallel_limit": plan.parallel_limit,
        **({"goal": goal} if goal != plan.title else {}),
        "subtasks": [
            {
                "key": s.key,
                "title": s.title,
                "instructions": s.instructions,
                "agent": s.agent,
                "depends_on": s.depends_on,
                **_if_said("retry_policy", s.retry_policy),
                **({"artifacts": [asdict(each) for each in s.artifacts]} if s.artifacts else {}),
                **({"gates": s.gates} if s.gates else {}),
                **_if_carried(s),
            }
            for s in sorted(subtasks, key=lambda s: s.position)
        ],
    }
    text = json.dumps(body, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return _lines(
        kind="plan",
        tenant=plan.tenant,
        session=plan.session_id,
        run=plan.run_id,
        plan=plan.id,
        version=str(plan.version),
        plan_sha256=sha256(text),
    )


def tool_preimage(step: Step, plan_version: int, policy_digest: str) -> str:
    """Names the step, the tool as its schema stands, the exact argument bytes and the policy."""
    return _call_lines("tool_call", step, plan_version, policy=policy_digest)


def question_preimage(step: Step, plan_version: int) -> str:
    """Names the call, and so the exact words of the question and what an answer must look like."""
    return _call_lines("question", step, plan_version)


def policy_digest_of(preimage: str) -> str:
    """Of the preimage of a tool call: the policy that judged it."""
    return preimage.rpartition("\npolicy: ")[2]


def doubt_preimage(step: Step, plan_version: int) -> str:
    """Names the call as it was sent, and the one dispatch that nobody knows the end of."""
    approved, dispatch = sha256(step.approval_preimage), str(step.dispatch_number)
    return _call_lines("in_doubt", step, plan_version, approved_sha256=approved, dispatch=dispatch)


def _call_lines(kind: str, step: Step, plan_version: int, **more: str) -> str:
    return _lines(
        kind=kind,
        tenant=step.tenant,
        session=step.session_id,
        run=step.run_id,
        plan_version=str(plan_version),
        step=step.id,
        tool=step.tool,
        schema_digest=step.schema_digest,
        arguments_sha256=sha256(step.arguments_json),
        **more,
    )


def failure_preimage(tenant: str, session_id: str, run_id: str, attempt_id: str, reason: str) -> str:
    """Names the attempt that failed: a decision about it cannot be meant for a later one."""
    return _lines(kind="failure", tenant=tenant, session=session_id, run=run_id, attempt=attempt_id, reason=reason)


def artifact_preimage(artifact: Artifact, plan_version: int, gate: str) -> str:
    """Names the bytes, and the one gate that they are to pass."""
    return _lines(
        kind="artifact",
        tenant=artifact.tenant,
        session=artifact.session_id,
        run=artifact.run_id,
        plan_version=str(plan_version),
        subtask=artifact.subtask_id,
        artifact=artifact.id,
        sha256=artifact.sha256,
        gate=gate,
    )


def budget_preimage(run: Run, limit_name: str, limit: int) -> str:
    """Names the limit that was reached: once it is raised, a decision about the lower one means nothing."""
    return _lines(
        kind="budget",
        tenant=run.tenant,
        session=run.session_id,
        run=run.id,
        limit=limit_name,
        maximum=str(limit),
    )


def allows(approval: Approval, step: Step) -> bool:
    """Whether this approval is a yes to exactly this step, not yet used up: after a doubt only a RETRY is one.

    What was dispatched with it and never started is sent again as the same use.
    """
    decision = approval.decision
    if decision is None or decision.digest != approval.digest:
        return False
    if approval.terms.quorum > 1 and len({v.voter for v in approval.votes}) < approval.terms.quorum:
        return False
    is_first_use = step.dispatch_number == step.doubt_number
    if is_first_use != (approval.consume_time == 0):
        return False
    if approval.kind == "ARTIFACT":
        return _allows_writing_back(decision, step)
    allowed: tuple[str, str, str]  # the step that was asked about, the digest and the arguments that may run
    match approval.kind, decision.action, step.doubt_number > 0:
        case ("TOOL_CALL", "APPROVE", False) | ("IN_DOUBT", "RETRY", True):
            allowed = (step.id, approval.digest, approval.arguments_json)
        case "TOOL_CALL", "EDIT", False:
            allowed = (step.replaces_step_id, decision.edited_digest, decision.edited_arguments_json)
        case _:
            return False
    return allowed == (approval.step_id, sha256(step.approval_preimage), step.arguments_json)


def _allows_writing_back(decision: Decision, step: Step) -> bool:
    """Whether this is the very call that the edit of an artifact has made."""
    said = step.approval_preimage
    is_edits = decision.action == "EDIT" and decision.edited_digest == sha256(said)
    named = (line_of(said, "step"), line_of(said, "arguments_sha256"))
    return is_edits and not step.doubt_number and named == (step.id, sha256(step.arguments_json))


def line_of(preimage: str, key: str) -> str:
    """What the preimage names under this key; empty: nothing."""
    found = (line.removeprefix(f"{key}: ") for line in preimage.splitlines() if line.startswith(f"{key}: "))
    return next(found, "")


def _if_said(name: str, policy: RetryPolicy | None) -> dict[str, object]:
    """What a plan leaves to the agents is no part of what is approved."""
    return {} if policy is None else {name: asdict(policy)}


def _if_carried(subtask: Subtask) -> dict[str, object]:
    """What is done already is part of what is approved: that it does not run again, and what it came to."""
    if not subtask.carried_subtask_id:
        return {}
    done = {
        "subtask": subtask.carried_subtask_id,
        "state": subtask.state,
        "result_sha256": sha256(subtask.result),
        "skip_reason": subtask.skip_reason,
    }
    return {"carried": done}


def _lines(**values: str) -> str:
    return "\n".join(f"{key}: {value}" for key, value in values.items())
