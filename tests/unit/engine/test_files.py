"""Reading a workspace's file over the link: whole or not at all, bounded, and never in anybody's way."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from gen.assent.executor.v1 import frames_pb2
from orchestrator.domain.records import Workspace
from orchestrator.engine.files import AT_ONCE, FileRefused, NobodyReads
from tests.unit.engine.fake_executor import LIMIT_SECONDS, Frame, Stream
from tests.unit.engine.linked import Linked, linking

HERE = Workspace("root", "s1")
CONTENT = bytes(range(256)) * 3


@pytest.fixture
async def linked(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Linked]:
    async with linking(monkeypatch) as made:
        yield made


def reading(
    linked: Linked, path: str = "a.txt", most: int = 10_000, seconds: float = LIMIT_SECONDS
) -> "asyncio.Task[bytes]":
    return asyncio.create_task(linked.executors.files.read(HERE, "a.txt", most_bytes=most, seconds=seconds))


def parts(read_id: str, content: bytes, *, size: int | None = None, sha256: str | None = None) -> list[Frame]:
    """The content in pieces of 100 bytes, as an executor sends it."""
    frames = []
    for begin in range(0, max(1, len(content)), 100):
        chunk = frames_pb2.ArtifactChunk(path="a.txt", offset=begin, data=content[begin : begin + 100])
        if begin + 100 >= len(content):
            chunk.last = True
            chunk.size_bytes = len(content) if size is None else size
            chunk.sha256 = hashlib.sha256(content).hexdigest() if sha256 is None else sha256
        frames.append(Frame(step_id=read_id, artifact_chunk=chunk))
    return frames


async def asked(stream: Stream, count: int = 1) -> frames_pb2.OrchestratorFrame:
    return (await stream.heard(count))[-1]


@pytest.mark.parametrize("content", [CONTENT, b"", b"\x00\xff" * 50])
async def test_a_file_is_put_together_from_its_chunks(linked: Linked, content: bytes) -> None:
    stream = await linked.greeted()
    read = reading(linked)
    frame = await asked(stream)
    assert (frame.read_artifact.path, frame.read_artifact.length) == ("a.txt", 10_000)
    assert (frame.read_artifact.workspace.root_id, frame.read_artifact.workspace.directory) == ("root", "s1")
    stream.say(*parts(frame.step_id, content))
    assert await read == content


async def test_what_the_executor_refuses_is_an_answer(linked: Linked) -> None:
    stream = await linked.greeted()
    read = reading(linked)
    refusal = frames_pb2.ArtifactChunk(last=True, error="'a.txt' leads through a symbolic link")
    stream.say(Frame(step_id=(await asked(stream)).step_id, artifact_chunk=refusal))
    with pytest.raises(FileRefused, match="symbolic link"):
        await read


@pytest.mark.parametrize("missing", [True, False])
async def test_that_there_is_no_such_file_is_told_from_other_refusals(linked: Linked, missing: bool) -> None:
    stream = await linked.greeted()
    read = reading(linked)
    refusal = frames_pb2.ArtifactChunk(last=True, error="it cannot be opened", missing=missing)
    stream.say(Frame(step_id=(await asked(stream)).step_id, artifact_chunk=refusal))
    with pytest.raises(FileRefused) as refused:
        await read
    assert refused.value.missing == missing


async def test_a_file_that_is_larger_than_asked_for_is_refused_and_not_cut(linked: Linked) -> None:
    stream = await linked.greeted()
    read = reading(linked, most=len(CONTENT) - 1)
    cut = CONTENT[:-1]
    stream.say(*parts((await asked(stream)).step_id, cut, size=len(CONTENT)))
    with pytest.raises(FileRefused, match=f"has {len(CONTENT)} bytes; the limit is {len(CONTENT) - 1}"):
        await read


async def test_an_executor_that_sends_more_than_asked_for_is_not_listened_to(linked: Linked) -> None:
    stream = await linked.greeted()
    read = reading(linked, most=100)
    stream.say(*parts((await asked(stream)).step_id, CONTENT))
    with pytest.raises(NobodyReads):
        await read


async def test_the_hash_is_over_every_byte(linked: Linked) -> None:
    """Bytes that changed on their way, behind the first ones and with the same length, are found."""
    stream = await linked.greeted()
    read = reading(linked)
    changed = CONTENT[:-1] + b"!"
    stream.say(*parts((await asked(stream)).step_id, changed, sha256=hashlib.sha256(CONTENT).hexdigest()))
    with pytest.raises(NobodyReads, match="did not arrive"):
        await read


async def test_a_chunk_that_is_missing_is_found(linked: Linked) -> None:
    stream = await linked.greeted()
    read = reading(linked)
    frames = parts((await asked(stream)).step_id, CONTENT)
    stream.say(frames[0], *frames[2:])
    with pytest.raises(NobodyReads, match="out of order"):
        await read


async def test_a_stream_that_breaks_ends_its_reads(linked: Linked) -> None:
    stream = await linked.greeted()
    read = reading(linked)
    frames = parts((await asked(stream)).step_id, CONTENT)
    stream.say(frames[0])
    stream.end()
    with pytest.raises(NobodyReads, match="broke"):
        await read


async def test_nobody_who_offers_the_root_is_found_at_once(linked: Linked) -> None:
    await linked.greeted()
    elsewhere = Workspace("another root", "s1")
    assert linked.executors.files.may_read(HERE)
    assert not linked.executors.files.may_read(elsewhere)
    with pytest.raises(NobodyReads, match="another root"):
        await linked.executors.files.read(elsewhere, "a.txt", most_bytes=1, seconds=LIMIT_SECONDS)


async def test_an_executor_that_says_nothing_is_given_up(linked: Linked) -> None:
    await linked.greeted()
    with pytest.raises(NobodyReads, match="did not answer"):
        await linked.executors.files.read(HERE, "a.txt", most_bytes=1, seconds=0.01)


async def test_more_reads_than_the_executor_bears_wait_for_their_turn(linked: Linked) -> None:
    """Also those that nobody waits for any more count, until the executor has answered them."""
    stream = await linked.greeted()
    reads = [reading(linked, seconds=LIMIT_SECONDS) for _ in range(AT_ONCE + 1)]
    first = (await stream.heard(AT_ONCE))[0]
    reads[0].cancel()
    await asyncio.gather(reads[0], return_exceptions=True)
    assert len(stream.frames) == AT_ONCE
    stream.say(*parts(first.step_id, CONTENT))
    await stream.heard(AT_ONCE + 1)
    for frame in stream.frames[1:]:
        stream.say(*parts(frame.step_id, CONTENT))
    assert await asyncio.gather(*reads[1:]) == [CONTENT] * AT_ONCE
