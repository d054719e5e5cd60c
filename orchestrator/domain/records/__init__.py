"""The things Assent keeps, as frozen dataclasses; each is both the row's content and the domain's view of it.

Field names equal those of the public protobuf resources where a resource has them, so one converter driven by
descriptors serves them all. Times are Unix microseconds (0: not yet), ids UUIDv7 strings (empty: none).
Nothing here decides anything. Each noun has a file of its own; all are imported from here.
"""

from orchestrator.domain.records.approval import Approval, ApprovalTerms, Decision, Preview, Remember, Vote
from orchestrator.domain.records.artifact import Artifact
from orchestrator.domain.records.attempt import Attempt
from orchestrator.domain.records.failure import Failure, RetryPolicy
from orchestrator.domain.records.grant import Grant
from orchestrator.domain.records.message import Message
from orchestrator.domain.records.plan import Plan
from orchestrator.domain.records.run import Pause, Run, is_open
from orchestrator.domain.records.session import FIRST_HASH, PRIORITIES, ClientTool, Key, Session, Workspace
from orchestrator.domain.records.step import ModelReply, Step, ToolCall, ToolResult, WaitingFor, is_done
from orchestrator.domain.records.subtask import ExpectedArtifact, Subtask
from orchestrator.domain.records.usage import Budget, Usage

Row = Session | Message | Run | Plan | Subtask | Attempt | Step | Approval | Grant | Artifact

__all__ = [
    "FIRST_HASH",
    "PRIORITIES",
    "Approval",
    "ApprovalTerms",
    "Artifact",
    "Attempt",
    "Budget",
    "ClientTool",
    "Decision",
    "ExpectedArtifact",
    "Failure",
    "Grant",
    "Key",
    "Message",
    "ModelReply",
    "Pause",
    "Plan",
    "Preview",
    "Remember",
    "RetryPolicy",
    "Row",
    "Run",
    "Session",
    "Step",
    "Subtask",
    "ToolCall",
    "ToolResult",
    "Usage",
    "Vote",
    "WaitingFor",
    "Workspace",
    "is_done",
    "is_open",
]
