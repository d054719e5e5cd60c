"""Reading a file of a workspace for an orchestrator, block by block. Who keeps the bytes is not decided here."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from executor.steps import Ref
from executor.tools.workspace import PathRefused, Workspace
from gen.assent.executor.v1 import frames_pb2 as pb

LIMIT_BYTES = 32 * 1024 * 1024
_BLOCK_BYTES = 192 * 1024


async def chunks(ref: Ref, asked: pb.ReadArtifact, roots: Mapping[str, Path]) -> AsyncIterator[pb.ExecutorFrame]:
    """The frames that answer: the bytes that were asked for, or why there are none."""
    try:
        content = await asyncio.to_thread(_content, asked, roots)
    except (PathRefused, OSError) as error:
        missing = isinstance(error.__cause__, FileNotFoundError)
        yield _frame(ref, pb.ArtifactChunk(path=asked.path, last=True, error=str(error), missing=missing))
        return
    end = min(len(content), asked.offset + asked.length) if asked.length else len(content)
    sent = hashlib.sha256()
    begin = asked.offset
    while True:
        data = content[begin : min(begin + _BLOCK_BYTES, end)]
        sent.update(data)
        chunk = pb.ArtifactChunk(path=asked.path, offset=begin, data=data)
        begin += len(data)
        if begin >= end:
            chunk.last, chunk.size_bytes, chunk.sha256 = True, len(content), sent.hexdigest()
        yield _frame(ref, chunk)
        if chunk.last:
            return


def _content(asked: pb.ReadArtifact, roots: Mapping[str, Path]) -> bytes:
    root = roots.get(asked.workspace.root_id)
    if root is None:
        raise PathRefused(f"there is no workspace root {asked.workspace.root_id} here")
    return Workspace(root, asked.workspace.directory).read(asked.path, LIMIT_BYTES)


def _frame(ref: Ref, chunk: pb.ArtifactChunk) -> pb.ExecutorFrame:
    return pb.ExecutorFrame(step_id=ref.step_id, epoch=ref.epoch, dispatch_number=ref.dispatch, artifact_chunk=chunk)
