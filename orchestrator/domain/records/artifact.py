"""A file that a subtask left, as it was when it was recorded."""

from dataclasses import field

from orchestrator.domain.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file-like output of a subtask, as it was when it was recorded; its bytes are kept by their SHA-256."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    subtask_id: str
    attempt_id: str
    name: str
    media_type: str
    sha256: str
    size_bytes: int
    path: str = ""
    schema_digest: str = ""  # of the JSON Schema it was checked against
    valid: bool = True
    errors: list[str] = field(default_factory=list)
    replaces_artifact_id: str = ""
    editor: str = ""
    create_time: int = 0
    preview: str = ""  # the beginning of its text, for those who decide
