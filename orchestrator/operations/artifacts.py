"""Reading the bytes of artifacts."""

from dataclasses import dataclass

from orchestrator.domain.errors import InvalidInput, NotFound, Violation
from orchestrator.domain.records import Artifact
from orchestrator.operations.context import Caller, Context
from orchestrator.store import contents, queries

MOST_PART_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Part:
    """Some of an artifact's bytes."""

    artifact: Artifact
    data: bytes


async def read(ctx: Context, caller: Caller, artifact_id: str, offset: int, length: int) -> Part:
    """`length` bytes from `offset` on, or as many as fit into one answer; fewer at the end.

    Raises NotFound, and InvalidInput for an offset behind the end.
    """
    artifact = await queries.get_artifact(ctx.database, caller.tenant, artifact_id)
    if artifact is None:
        raise NotFound("artifact", artifact_id)
    if offset > artifact.size_bytes:
        raise InvalidInput([Violation("offset", f"is behind the end: there are {artifact.size_bytes} bytes")])
    most = min(length or MOST_PART_BYTES, MOST_PART_BYTES)
    data = await contents.read(ctx.database, caller.tenant, artifact.session_id, artifact.sha256, offset, most)
    if data is None:
        raise NotFound("artifact", artifact_id)
    return Part(artifact, data)
