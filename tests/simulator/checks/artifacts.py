"""What a subtask leaves is kept byte for byte, and passes every gate by somebody's yes to exactly it."""

from collections.abc import Iterator

from orchestrator.domain.records import Artifact, Subtask
from tests.simulator.history import History


def check_artifacts(history: History) -> Iterator[str]:
    for artifact in history.rows.artifacts:
        if artifact.valid and (artifact.session_id, artifact.sha256) not in history.rows.contents:
            yield f"the bytes of artifact {artifact.id} are not kept"
    for subtask in history.rows.subtasks:
        if subtask.state == "SUCCEEDED" and not subtask.carried_subtask_id:
            yield from (f"subtask {subtask.id} ({subtask.key}): {words}" for words in _left(history, subtask))


def _left(history: History, subtask: Subtask) -> Iterator[str]:
    """By its last attempt; of each name the newest."""
    attempts = [a for a in history.rows.attempts if a.subtask_id == subtask.id and a.state == "SUCCEEDED"]
    last = max(attempts, key=lambda a: a.number, default=None)
    if last is None:
        yield "no attempt of it has succeeded"
        return
    for expected in subtask.artifacts:
        found = [a for a in history.rows.artifacts if (a.attempt_id, a.name) == (last.id, expected.name)]
        if not found:
            yield f"it has left no {expected.name}"
            continue
        newest = max(found, key=lambda a: (a.create_time, a.id))
        for gate in subtask.gates:
            if not _has_passed(history, newest, gate):
                yield f"{newest.name} has not passed {gate}"


def _has_passed(history: History, artifact: Artifact, gate: str) -> bool:
    for approval in history.rows.approvals:
        said = approval.decision
        if (approval.kind, approval.gate, approval.state) != ("ARTIFACT", gate, "RESOLVED") or said is None:
            continue
        if (said.action, approval.artifact_id) == ("APPROVE", artifact.id) and artifact.sha256 in approval.preimage:
            return True
        if (said.action, said.edited_artifact_id) == ("EDIT", artifact.id):
            return True
    return False
