"""What a subtask leaves: read once its agent has answered, recorded as it was then, sent back if it is wrong.

VALIDATING means that the files have still to be read, and nothing else: whoever has the session in hand reads them, and
reads them again after a crash. The gates that recorded artifacts pass are in gates.py.
"""

from orchestrator.domain.change import Change
from orchestrator.domain.events import ArtifactRecorded
from orchestrator.domain.expected import Checked, path_of
from orchestrator.domain.frozen import replace
from orchestrator.domain.reading import FoundFile, Gathered
from orchestrator.domain.records import Artifact, Attempt, ExpectedArtifact, Step, Subtask
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.states import AttemptState, StepState, SubtaskState
from orchestrator.domain.transitions import end_attempt, move_subtask, settle_approval

CORRECTIONS = 2
"""How often files that do not do go back to the agent by themselves, in one attempt."""


def take_files(change: Change, gathered: Gathered) -> bool:
    """Record what was found. Whether it was still wanted: after this very answer, and by nobody's reading before."""
    subtask = change.snapshot.subtasks.get(gathered.subtask_id)
    answer = change.snapshot.steps.get(gathered.answer_id)
    if subtask is None or answer is None or subtask.state != SubtaskState.VALIDATING:
        return False
    attempt = change.snapshot.attempts[answer.attempt_id]
    if attempt.state != AttemptState.RUNNING or answer.feedback or not _is_last(change.snapshot, answer):
        return False
    problems = [problem for found in gathered.files for problem in _record(change, attempt, subtask, found)]
    if problems:
        send_back(change, subtask, answer, _correction(problems))
    elif subtask.gates:
        move_subtask(change, subtask, "gate_asked")
    else:
        assert answer.reply is not None
        attempt = end_attempt(change, attempt, "succeeded", result=answer.reply.text)
        move_subtask(change, subtask, "succeeded", result=attempt.result)
    return True


def send_back(change: Change, subtask: Subtask, answer: Step, words: str, actor: str = "engine") -> None:
    """The agent reads what is wrong with what it left, and goes on in the same conversation."""
    change.put(replace(answer, feedback=words))
    move_subtask(change, subtask, "changes_requested", actor=actor, reason=words[:500])


def withdraw(change: Change, subtask_id: str, reason: str) -> None:
    """What is still asked about the subtask's artifacts: they will be others, or none."""
    for approval in change.snapshot.pending:
        if (approval.kind, approval.subtask_id) == ("ARTIFACT", subtask_id):
            settle_approval(change, approval, "superseded", reason=reason)


def is_exhausted(change: Change, attempt: Attempt, steps: list[Step]) -> bool:
    """Whether its files have gone back as often as they may; what a person asks for does not count."""
    asked = [
        a
        for a in change.snapshot.approvals.values()
        if a.kind == "ARTIFACT" and a.decision is not None and a.decision.action == "REQUEST_CHANGES"
    ]
    mine = [a for a in asked if change.snapshot.artifacts[a.artifact_id].attempt_id == attempt.id]
    return sum(1 for s in steps if s.feedback) - len(mine) > CORRECTIONS


def current(snapshot: Snapshot, subtask: Subtask, attempt: Attempt) -> list[Artifact]:
    """The newest of each name, in the order in which the plan names them."""
    newest: dict[str, Artifact] = {}
    for artifact in sorted(snapshot.artifacts.values(), key=lambda a: a.create_time):
        if artifact.subtask_id == subtask.id and artifact.attempt_id == attempt.id:
            newest[artifact.name] = artifact
    return [newest[e.name] for e in subtask.artifacts if e.name in newest]


def record(change: Change, artifact: Artifact) -> Artifact:
    change.emit(ArtifactRecorded(artifact))
    return change.put(artifact)


def new_artifact(change: Change, attempt: Attempt, expected: ExpectedArtifact, checked: Checked) -> Artifact:
    return Artifact(
        attempt.tenant,
        change.new_id(),
        attempt.session_id,
        attempt.run_id,
        attempt.subtask_id,
        attempt.id,
        expected.name,
        checked.media_type,
        checked.sha256,
        checked.size_bytes,
        path=path_of(expected),
        schema_digest=checked.schema_digest,
        valid=not checked.errors,
        errors=list(checked.errors),
        create_time=change.now,
        preview=checked.preview,
    )


def _record(change: Change, attempt: Attempt, subtask: Subtask, found: FoundFile) -> list[str]:
    """What is wrong with it. The same bytes as before in this attempt stay the artifact they are, and what that has
    passed it has passed."""
    if found.checked is None:
        return [f"{path_of(found.expected)}: {found.refusal}"]
    known = next((a for a in current(change.snapshot, subtask, attempt) if a.name == found.expected.name), None)
    if known is None or known.sha256 != found.checked.sha256:
        record(change, new_artifact(change, attempt, found.expected, found.checked))
    return [f"{path_of(found.expected)}: {error}" for error in found.checked.errors]


def _is_last(snapshot: Snapshot, answer: Step) -> bool:
    models = [s for s in snapshot.steps.values() if s.attempt_id == answer.attempt_id and s.kind == "MODEL"]
    return answer.state == StepState.SUCCEEDED and max(models, key=lambda s: s.ordinal).id == answer.id


def _correction(problems: list[str]) -> str:
    lines = "\n".join(f"- {problem}" for problem in problems)
    return f"The files that this subtask must leave do not do:\n{lines}\nPut them right, then answer again."
