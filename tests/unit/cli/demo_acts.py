"""A short run as the orchestrator would tell it: a plan of one subtask, one write, both approved."""

from gen.assent.v1 import approval_pb2 as approvals
from gen.assent.v1 import message_pb2, plan_pb2, run_pb2, session_pb2, step_pb2
from gen.assent.v1.approval_pb2 import Approval
from gen.assent.v1.event_pb2 import SessionEvent
from gen.assent.v1.plan_pb2 import Plan, Subtask
from tests.unit.cli.stand_in import RUN, SESSION, Act, an_approval, event

PLAN, SUBTASK, MODEL_STEP, TOOL_STEP = "plan-1", "subtask-1", "step-1", "step-2"

PLAN_APPROVAL = an_approval(
    1,
    approvals.APPROVAL_KIND_PLAN,
    plan_id=PLAN,
    preview=approvals.Preview(title="An app", text="# An app\n\n1. code: Write it"),
)
WRITE_APPROVAL = an_approval(
    2,
    approvals.APPROVAL_KIND_TOOL_CALL,
    step_id=TOOL_STEP,
    tool="write_file",
    arguments_json='{"path":"main.dart","content":"void main() {}\\n"}',
    preview=approvals.Preview(
        title="write_file main.dart", path="main.dart", new_text="void main() {}\n", agent="coder"
    ),
)


def state_change(before: str, trigger: str, after: str) -> SessionEvent:
    states = session_pb2.SessionState
    return event(
        session_state_changed={
            "from_state": states.Value(f"SESSION_STATE_{before}"),
            "trigger": trigger,
            "to_state": states.Value(f"SESSION_STATE_{after}"),
        }
    )


def subtask_change(before: str, after: str) -> SessionEvent:
    states = plan_pb2.SubtaskState
    return event(
        subtask_state_changed={
            "subtask_id": SUBTASK,
            "key": "code",
            "plan_id": PLAN,
            "run_id": RUN,
            "agent": "coder",
            "attempt": 1,
            "from_state": states.Value(f"SUBTASK_STATE_{before}"),
            "to_state": states.Value(f"SUBTASK_STATE_{after}"),
        }
    )


def asked(approval: Approval) -> SessionEvent:
    copy = Approval()
    copy.CopyFrom(approval)
    return event(approval_requested={"approval": copy})


def said(text: str, *, step: str = MODEL_STEP, dispatch: int = 1) -> SessionEvent:
    return event(
        message_delta={
            "run_id": RUN,
            "subtask_id": SUBTASK,
            "attempt_id": "attempt-1",
            "step_id": step,
            "dispatch_number": dispatch,
            "kind": 1,
            "text": text,
        }
    )


def step_started(step: str, *, tool: str = "", dispatch: int = 1) -> SessionEvent:
    return event(
        step_started={
            "step_id": step,
            "run_id": RUN,
            "subtask_id": SUBTASK,
            "attempt_id": "attempt-1",
            "kind": step_pb2.STEP_KIND_TOOL if tool else step_pb2.STEP_KIND_MODEL,
            "agent": "coder",
            "dispatch_number": dispatch,
            "tool": tool,
            "arguments_json": WRITE_APPROVAL.arguments_json if tool else "",
        }
    )


def step_finished(step: str, *, tool: str = "", output: str = "") -> SessionEvent:
    return event(
        step_finished={
            "step_id": step,
            "run_id": RUN,
            "kind": step_pb2.STEP_KIND_TOOL if tool else step_pb2.STEP_KIND_MODEL,
            "agent": "coder",
            "tool": tool,
            "state": step_pb2.STEP_STATE_SUCCEEDED,
            "output_preview": output,
        }
    )


def acts() -> list[Act]:
    """Until the plan waits; until the write waits; to the end."""
    user = message_pb2.Message(text="an app", role=message_pb2.MESSAGE_ROLE_USER, author="developer")
    final = message_pb2.Message(id="m2", text="Done.", role=message_pb2.MESSAGE_ROLE_AGENT, agent="coder")
    plan = Plan(id=PLAN, run_id=RUN, version=1, title="An app", author="architect", state=plan_pb2.PLAN_STATE_DRAFT)
    subtask = Subtask(id=SUBTASK, key="code", title="Write it", agent="coder", state=plan_pb2.SUBTASK_STATE_PENDING)
    approved = {
        "plan_id": PLAN,
        "run_id": RUN,
        "version": 1,
        "from_state": plan_pb2.PLAN_STATE_DRAFT,
        "to_state": plan_pb2.PLAN_STATE_APPROVED,
        "actor": "developer",
    }
    finished = {
        "run_id": RUN,
        "state": run_pb2.RUN_STATE_COMPLETED,
        "final_message_id": "m2",
        "usage": {"model_calls": 3, "tool_calls": 1, "input_tokens": 900, "output_tokens": 100},
    }
    return [
        [
            event(session_created={"agent": "auto", "creator": "developer"}),
            event(message_created={"message": user}),
            event(run_started={"run_id": RUN, "agent": "auto", "goal": "an app"}),
            state_change("IDLE", "message_received", "CLASSIFY"),
            state_change("CLASSIFY", "is_complex", "PLAN_REQUIRED"),
            state_change("PLAN_REQUIRED", "routed_to_architect", "ARCHITECT_PLANNING"),
            event(plan_drafted={"plan": plan, "subtasks": [subtask]}),
            state_change("ARCHITECT_PLANNING", "plan_drafted", "PLAN_REVIEW"),
            asked(PLAN_APPROVAL),
        ],
        [
            event(plan_state_changed=approved),
            state_change("PLAN_REVIEW", "plan_approved", "PLAN_EXECUTION"),
            subtask_change("PENDING", "RUNNING"),
            step_started(MODEL_STEP),
            said("I wri"),
            said("te it."),
            step_finished(MODEL_STEP),
            asked(WRITE_APPROVAL),
        ],
        [
            step_started(TOOL_STEP, tool="write_file"),
            step_finished(TOOL_STEP, tool="write_file", output="wrote 15 bytes"),
            subtask_change("RUNNING", "SUCCEEDED"),
            event(message_created={"message": final}),
            event(run_finished=finished),
            state_change("PLAN_EXECUTION", "run_completed", "COMPLETED"),
        ],
    ]


def whole_log() -> list[SessionEvent]:
    """All acts in one, without decisions, numbered."""
    log = [each for act in acts() for each in act]
    sequence = 0
    for each in log:
        if each.WhichOneof("payload") != "message_delta":
            sequence += 1
            each.sequence = sequence
    return log


__all__ = ["SESSION", "acts", "whole_log"]
