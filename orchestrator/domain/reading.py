"""What is to be read of a workspace, and what was found: the words between the rules and whoever reads."""

from orchestrator.domain.expected import Checked
from orchestrator.domain.frozen import dataclass
from orchestrator.domain.records import ExpectedArtifact, Workspace


@dataclass(frozen=True, slots=True)
class Reading:
    """Files that are to be read: those that a subtask must leave, after this answer of its agent."""

    subtask_id: str
    answer_id: str
    workspace: Workspace
    expected: tuple[ExpectedArtifact, ...]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """What became of reading one of them."""

    expected: ExpectedArtifact
    checked: Checked | None = None  # its bytes are safe
    refusal: str = ""  # why there are none


@dataclass(frozen=True, slots=True)
class Gathered:
    """A Reading done, each file in its turn."""

    subtask_id: str
    answer_id: str
    files: tuple[FoundFile, ...]


def of_nothing(reading: Reading) -> Gathered:
    """For a workspace that no executor has made yet."""
    words = "nothing was written in the workspace yet"
    return Gathered(reading.subtask_id, reading.answer_id, tuple(FoundFile(e, None, words) for e in reading.expected))
