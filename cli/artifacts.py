"""`assent artifacts`: what a run's subtasks left, as a list; or the bytes of one, to a file or a pipe."""

import sys

from rich.console import Console

from cli.client import Client
from cli.trouble import Trouble
from cli.words import one_line, plural, printable
from gen.assent.v1.artifact_pb2 import Artifact
from gen.assent.v1.run_service_pb2 import GetArtifactRequest, ListArtifactsRequest


async def list_artifacts(client: Client, run_id: str, console: Console) -> None:
    """Newest first, one line each."""
    found = await artifacts_of(client, run_id)
    if not found:
        console.print("this run has left no artifacts")
    for artifact in found:
        console.print(_line(artifact), markup=False, soft_wrap=True)


async def print_artifact(client: Client, run_id: str, wanted: str) -> None:
    """The bytes as they are, of the artifact with this id, or of the newest with this name."""
    found = await artifacts_of(client, run_id)
    artifact = next((a for a in found if wanted in (a.id, a.name)), None)
    if artifact is None:
        raise Trouble(f"this run has left no artifact {one_line(wanted, 60)}")
    offset = 0
    while offset < artifact.size_bytes:
        request = GetArtifactRequest(artifact_id=artifact.id, offset=offset)
        part = (await client.call(client.runs.GetArtifact, request)).content.data
        sys.stdout.buffer.write(part)
        offset += len(part)
    sys.stdout.buffer.flush()


async def artifacts_of(client: Client, run_id: str) -> list[Artifact]:
    """Every one of the run, newest first."""
    pages = client.pages(client.runs.ListArtifacts, ListArtifactsRequest(run_id=run_id))
    return [artifact async for page in pages for artifact in page.artifacts]


def _line(artifact: Artifact) -> str:
    edited = f"  edited by {printable(artifact.editor)}" if artifact.editor else ""
    wrong = "" if artifact.valid else f"  not valid: {one_line('; '.join(artifact.errors), 80)}"
    size = plural(artifact.size_bytes, "byte")
    name, media_type = one_line(artifact.name, 60), printable(artifact.media_type)
    return f"{artifact.id}  {artifact.sha256[:12]}  {media_type}, {size}  {name}{edited}{wrong}"
