"""Files read for a session while its worker goes on: kept before they are recorded, and read again by whoever comes."""

import asyncio
import hashlib
from dataclasses import replace

from gen.assent.executor.v1 import frames_pb2
from orchestrator.domain.records import ExpectedArtifact, Workspace
from tests.unit.domain.build import draft, task
from tests.unit.engine.scene import TOOLS, Scene
from tests.unit.engine.virtual_time import in_virtual_time, settle

FILE = b"# Report\n"


async def validating(*artifacts: str, gates: tuple[str, ...] = ("review",)) -> Scene:
    """A subtask whose agent has answered; its files are asked for."""
    scene = Scene(slots=0)
    scene.ground.join(slots=4, tools=TOOLS, roots=["root"])
    rows = scene.store.sessions["s1"]
    rows.session = replace(rows.session, workspace=Workspace("root", "s1"))
    expected = tuple(ExpectedArtifact(name) for name in artifacts or ("report.md",))
    scene.submit(draft(replace(task("a"), artifacts=expected, gates=gates)))
    scene.approve()
    await scene.begin()
    await scene.reply()
    return scene


def asked(scene: Scene) -> list[frames_pb2.OrchestratorFrame]:
    return [f for f in scene.ground.line.frames if f.WhichOneof("frame") == "read_artifact"]


async def answer(scene: Scene, content: bytes | None = FILE, number: int = -1) -> None:
    """The executor says what the last file that was asked for holds."""
    chunk = frames_pb2.ArtifactChunk(last=True, error="" if content is not None else "there is no such file")
    if content is not None:
        chunk.data, chunk.size_bytes, chunk.sha256 = content, len(content), hashlib.sha256(content).hexdigest()
    frame = frames_pb2.ExecutorFrame(step_id=asked(scene)[number].step_id, artifact_chunk=chunk)
    scene.ground.executors.receive(frame)
    await settle()


def state(scene: Scene) -> str:
    [subtask] = scene.store.sessions["s1"].subtasks.values()
    return subtask.state


@in_virtual_time
async def test_a_session_with_a_file_on_its_way_is_held_and_then_recorded_and_released() -> None:
    scene = await validating()
    assert (state(scene), scene.session().owner, scene.is_released) == ("VALIDATING", "replica-1", False)
    [frame] = asked(scene)
    assert (frame.read_artifact.path, frame.read_artifact.workspace.directory) == ("report.md", "s1")
    await answer(scene)
    [artifact] = scene.store.sessions["s1"].artifacts.values()
    assert scene.store.contents == {artifact.sha256: FILE}
    assert (state(scene), scene.is_released) == ("AWAITING_APPROVAL", True)


@in_virtual_time
async def test_files_are_asked_for_one_after_the_other_and_recorded_together() -> None:
    scene = await validating("one.md", "two.md")
    await answer(scene, b"1")
    assert (len(asked(scene)), scene.store.sessions["s1"].artifacts) == (2, {})
    await answer(scene, b"2")
    assert [a.size_bytes for a in scene.store.sessions["s1"].artifacts.values()] == [1, 1]


@in_virtual_time
async def test_a_file_that_is_missing_is_an_answer_and_the_model_goes_on() -> None:
    scene = await validating()
    await answer(scene, None)
    assert state(scene) == "RUNNING"
    [step] = scene.flying()
    assert step.kind == "MODEL"


@in_virtual_time
async def test_what_is_written_meanwhile_by_others_does_not_read_it_twice() -> None:
    scene = await validating()
    scene.worker.nudge()
    await settle()
    assert len(asked(scene)) == 1
    await answer(scene)
    assert state(scene) == "AWAITING_APPROVAL"


@in_virtual_time
async def test_an_executor_that_is_lost_while_it_reads_leaves_the_session_waiting_for_another() -> None:
    scene = await validating()
    scene.ground.executors.left(scene.ground.line.address)
    await asyncio.sleep(2)
    assert (state(scene), scene.is_released, len(scene.waits_for_room)) == ("VALIDATING", True, 1)
    scene.ground.join("i2", slots=4, tools=TOOLS, roots=["root"])
    await scene.begin(scene.new_worker())
    await answer(scene)
    assert state(scene) == "AWAITING_APPROVAL"


@in_virtual_time
async def test_bytes_that_cannot_be_kept_are_read_again_and_nothing_speaks_of_them() -> None:
    scene = await validating()
    scene.store.is_away = True
    await answer(scene)
    assert scene.store.sessions["s1"].artifacts == {}
    scene.store.is_away = False
    await asyncio.sleep(5)
    assert len(asked(scene)) == 2
    await answer(scene)
    assert state(scene) == "AWAITING_APPROVAL"


@in_virtual_time
async def test_a_worker_that_dies_between_keeping_and_recording_leaves_the_reading_to_the_next() -> None:
    scene = await validating()
    scene.store.faults.append("fenced")  # the bytes are kept, and the change set that speaks of them is not written
    await answer(scene)
    rows = scene.store.sessions["s1"]
    assert (len(scene.store.contents), rows.artifacts, state(scene)) == (1, {}, "VALIDATING")
    rows.session = replace(rows.session, owner="")
    await scene.begin(scene.new_worker())
    assert len(asked(scene)) == 2
    await answer(scene, b"another")
    [artifact] = rows.artifacts.values()
    assert (artifact.preview, state(scene)) == ("another", "AWAITING_APPROVAL")


@in_virtual_time
async def test_a_cancel_ends_the_reading() -> None:
    scene = await validating()
    scene.cancel()
    scene.worker.nudge()
    await settle()
    assert (state(scene), scene.is_released) == ("CANCELLED", True)
    await answer(scene)
    assert scene.store.sessions["s1"].artifacts == {}
