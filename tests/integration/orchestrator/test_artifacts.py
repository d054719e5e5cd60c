"""What subtasks leave, read through the executor it is made for: kept as it was, to the last byte; decided about."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from executor import artifacts as of_executor
from gen.assent.v1 import artifact_pb2, run_service_pb2, workflow_pb2
from orchestrator.domain.expected import MOST_BYTES
from orchestrator.store import contents
from tests.e2e.services import until
from tests.integration.orchestrator.client import Client, state, subtask
from tests.integration.orchestrator.over_http import over_http
from tests.integration.orchestrator.real_executor import serving
from tests.integration.orchestrator.replica import Replica, Replicas, Tables, all_let_go

SCRIPT = """
replies:
- when: {agent: coder, contains: asks for changes}
  text: changed
- when: {agent: coder, turn: 1, contains: No such file}
  tool_calls: [{tool: write_file, arguments: {path: report.md, content: "put right\\n"}}]
- when: {agent: coder}
  text: done
"""
QUICK = {"lease_seconds": 1.0, "lease_renew_seconds": 0.2}


def expected(name: str = "report.md", **more: str) -> workflow_pb2.ExpectedArtifact:
    return workflow_pb2.ExpectedArtifact(name=name, **more)


@dataclass
class Bench:
    """A replica with an executor and the workspace that both see."""

    replica: Replica
    workspace: Path
    address: str

    @property
    def client(self) -> Client:
        return self.replica.client

    def leave(self, content: bytes, path: str = "report.md") -> None:
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    async def run(self, *artifacts: workflow_pb2.ExpectedArtifact, gates: tuple[str, ...] = ()) -> tuple[str, str]:
        """An approved plan whose agent says at once that it is done; the session and the run."""
        session = await self.client.new_session(workspace={"directory": "project"})
        only = subtask("a", artifacts=artifacts or [expected()], gates=gates)
        plan = await self.client.new_plan(session.id, [only])
        await self.client.decide(await self.client.asked(session.id), "APPROVE")
        return session.id, plan.run_id

    async def left(self, run_id: str) -> list[artifact_pb2.Artifact]:
        request = run_service_pb2.ListArtifactsRequest(run_id=run_id)
        found = list((await self.client.call(self.client.runs.ListArtifacts, request)).artifacts)
        return sorted(found, key=lambda a: (a.create_time.ToMicroseconds(), a.name))

    async def bytes_of(self, artifact: artifact_pb2.Artifact, **part: int) -> bytes:
        request = run_service_pb2.GetArtifactRequest(artifact_id=artifact.id, **part)
        answer = await self.client.call(self.client.runs.GetArtifact, request)
        assert answer.artifact == artifact
        assert answer.content.content_type == artifact.media_type
        data: bytes = answer.content.data
        return data


@pytest.fixture
async def bench(replicas: Replicas, tmp_path: Path) -> AsyncIterator[Bench]:
    async with serving(tmp_path, SCRIPT) as (_, address):
        replica = await replicas.start(executor_addrs=address, **QUICK)
        await until(lambda: replica.has_workspaces)
        yield Bench(replica, tmp_path / "root/project", address)
        await replicas.stop()


# --- reading and keeping


async def test_a_file_that_changes_after_it_was_recorded_does_not_change_the_artifact(bench: Bench) -> None:
    bench.leave(b"as it was")
    session_id, run_id = await bench.run(gates=("review",))
    asked = await bench.client.asked(session_id)
    bench.leave(b"changed behind everybody's back")
    [artifact] = await bench.left(run_id)
    assert await bench.bytes_of(artifact) == b"as it was"
    assert asked.artifact_id == artifact.id
    assert f"sha256: {artifact.sha256}" in asked.preimage.splitlines()
    await bench.client.decide(asked, "APPROVE")
    await bench.client.settled(session_id)
    assert await bench.left(run_id) == [artifact]


async def test_the_hash_of_an_artifact_is_over_all_of_its_bytes(bench: Bench) -> None:
    """Of the same length and with the same beginning, two files are two artifacts."""
    one, other = b"x" * 64 + b"one", b"x" * 64 + b"two"
    bench.leave(one, "one.txt")
    bench.leave(other, "other.txt")
    _, run_id = await bench.run(expected("one.txt"), expected("other.txt"))
    await until_ended(bench, run_id)
    left = await bench.left(run_id)
    assert [a.sha256 for a in left] == [hashlib.sha256(content).hexdigest() for content in (one, other)]
    assert [await bench.bytes_of(a) for a in left] == [one, other]


async def until_ended(bench: Bench, run_id: str) -> None:
    run = await bench.client.get_run(run_id)
    await bench.client.settled(run.session_id)
    assert state(await bench.client.get_run(run_id)) == "COMPLETED"


async def test_any_bytes_are_kept_as_they_are_and_read_in_parts(bench: Bench) -> None:
    contents_by_path = {
        "binary.bin": bytes(range(256)) * 12_000,
        "empty.txt": b"",
        "deep/er/plot.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 10,
    }
    for path, content in contents_by_path.items():
        bench.leave(content, path)
    _, run_id = await bench.run(
        expected("binary.bin"), expected("empty.txt"), expected("plot", path="deep/er/plot.png", media_type="image/png")
    )
    await until_ended(bench, run_id)
    binary, empty, plot = await bench.left(run_id)
    assert [a.media_type for a in (binary, empty, plot)] == ["application/octet-stream", "text/plain", "image/png"]
    whole = contents_by_path["binary.bin"]
    first = await bench.bytes_of(binary)
    assert first == whole[: 2 * 1024 * 1024]
    assert first + await bench.bytes_of(binary, offset=len(first)) == whole
    assert await bench.bytes_of(binary, offset=255, length=3) == b"\xff\x00\x01"
    assert await bench.bytes_of(binary, offset=len(whole)) == b""
    problem = await bench.client.refusal(bench.bytes_of(binary, offset=len(whole) + 1))
    assert (problem.reason, [v.field for v in problem.fields]) == ("INVALID_REQUEST", ["offset"])
    assert (empty.size_bytes, await bench.bytes_of(empty), empty.valid) == (0, b"", True)
    assert (plot.path, await bench.bytes_of(plot)) == ("deep/er/plot.png", contents_by_path["deep/er/plot.png"])


async def test_a_file_up_to_the_limit_is_kept_and_a_larger_one_goes_back_to_the_agent(bench: Bench) -> None:
    bench.leave(b"\0" * MOST_BYTES, "large.bin")
    _, run_id = await bench.run(expected("large.bin"))
    await until_ended(bench, run_id)
    [artifact] = await bench.left(run_id)
    assert (artifact.size_bytes, artifact.sha256) == (MOST_BYTES, hashlib.sha256(b"\0" * MOST_BYTES).hexdigest())
    bench.leave(b"\0" * (MOST_BYTES + 1), "larger.bin")
    session_id, run_id = await bench.run(expected("larger.bin"))
    failed = await bench.client.asked(session_id)
    assert "ARTIFACT_INVALID" in failed.preview.title
    assert f"the limit is {MOST_BYTES}" in failed.preview.text
    assert await bench.left(run_id) == []


async def test_a_file_that_is_not_there_goes_back_to_the_agent_who_makes_it(bench: Bench) -> None:
    bench.leave(b"something else", "other.md")
    session_id, run_id = await bench.run()
    write = await bench.client.asked(session_id)  # it has read what is missing, and wants to write it
    assert (write.tool, write.preview.path) == ("write_file", "report.md")
    await bench.client.decide(write, "APPROVE")
    await until_ended(bench, run_id)
    [artifact] = await bench.left(run_id)
    assert await bench.bytes_of(artifact) == b"put right\n"


async def test_a_link_that_leads_out_of_the_workspace_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    bench.workspace.mkdir(parents=True)
    (bench.workspace / "report.md").symlink_to(tmp_path / "secret")
    session_id, run_id = await bench.run()
    failed = await bench.client.asked(session_id)
    assert "symbolic link" in failed.preview.text
    assert "secret" not in failed.preview.text
    assert await bench.left(run_id) == []


async def test_a_file_that_breaks_its_schema_is_recorded_as_wrong_and_asked_about_in_the_end(bench: Bench) -> None:
    bench.leave(b'{"count": "many"}', "data.json")
    schema = '{"properties": {"count": {"type": "integer"}}}'
    session_id, run_id = await bench.run(expected("data.json", schema_json=schema))
    failed = await bench.client.asked(session_id)
    assert "$.count: 'many' is not of type 'integer'" in failed.preview.text
    [artifact] = await bench.left(run_id)  # the same bytes three times are one artifact
    assert (artifact.valid, list(artifact.errors)) == (False, ["$.count: 'many' is not of type 'integer'"])
    assert artifact.schema_digest == hashlib.sha256(schema.encode()).hexdigest()
    bench.leave(b'{"count": 3}', "data.json")
    await bench.client.decide(failed, "RETRY")
    await until_ended(bench, run_id)
    assert [a.valid for a in await bench.left(run_id)] == [False, True]


async def test_an_artifact_of_another_tenant_is_not_found(bench: Bench) -> None:
    bench.leave(b"x")
    _, run_id = await bench.run()
    await until_ended(bench, run_id)
    [artifact] = await bench.left(run_id)
    stranger = bench.client.acting_as("mallory", tenant="another")
    request = run_service_pb2.GetArtifactRequest(artifact_id=artifact.id)
    assert (await stranger.refusal(stranger.call(stranger.runs.GetArtifact, request))).reason == "ARTIFACT_NOT_FOUND"


async def test_bytes_are_kept_for_sessions_that_are_there_only(bench: Bench, tables: Tables) -> None:
    bench.leave(b"x")
    session_id, run_id = await bench.run()
    await until_ended(bench, run_id)
    [artifact] = await bench.left(run_id)
    database = bench.replica._orchestrator._database
    before = await tables.count("content")
    await contents.keep(database, "default", "a session that is gone", "0" * 64, b"its bytes")
    await contents.keep(database, "default", session_id, artifact.sha256, b"x")
    assert await tables.count("content") == before
    assert await contents.read(database, "default", session_id, artifact.sha256, 0, 10) == b"x"


# --- faults


async def test_what_was_read_and_not_recorded_when_its_replica_died_is_read_again(
    bench: Bench, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two the bytes are kept, and nothing speaks of them; the file is another one by then."""
    keep, is_kept = contents.keep, asyncio.Event()

    async def keep_and_die(*args: Any) -> None:
        await keep(*args)
        is_kept.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(contents, "keep", keep_and_die)
    bench.leave(b"early")
    session_id, run_id = await bench.run()
    await is_kept.wait()
    assert await bench.left(run_id) == []
    await bench.replica.crash()
    bench.leave(b"late")
    monkeypatch.setattr(contents, "keep", keep)
    bench.replica = await replicas.start(executor_addrs=bench.address, **QUICK)
    await until_ended(bench, run_id)
    [artifact] = await bench.left(run_id)
    assert await bench.bytes_of(artifact) == b"late"
    log = await bench.client.events(session_id)
    assert len(log.of("artifact_recorded")) == 1


async def test_an_executor_that_is_lost_while_it_reads_costs_the_reading_and_nothing_else(
    replicas: Replicas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_asked = asyncio.Event()

    async def never(*_args: Any) -> Any:
        is_asked.set()
        await asyncio.Event().wait()
        yield

    real = of_executor.chunks
    async with serving(tmp_path, SCRIPT) as (_, address):
        replica = await replicas.start(executor_addrs=address)
        await until(lambda: replica.has_workspaces)
        bench = Bench(replica, tmp_path / "root/project", address)
        bench.leave(b"here")
        monkeypatch.setattr(of_executor, "chunks", never)
        _, run_id = await bench.run()
        await is_asked.wait()
    await all_let_go()  # nobody can read it: the session waits, and holds nothing
    run = await bench.client.get_run(run_id)
    [waiting] = (await bench.client.get_plan(run.plan_id)).subtasks
    assert state(waiting) == "VALIDATING"
    monkeypatch.setattr(of_executor, "chunks", real)
    async with serving(tmp_path, SCRIPT, executor_addr=address):
        await until_ended(bench, run_id)
        [artifact] = await bench.left(run_id)
        assert await bench.bytes_of(artifact) == b"here"
        await replicas.stop()


# --- gates


async def test_two_gates_and_two_artifacts_are_decided_in_order_also_from_another_replica(
    bench: Bench, replicas: Replicas
) -> None:
    bench.leave(b"# Report")
    bench.leave(b"{}", "data.json")
    session_id, run_id = await bench.run(expected(), expected("data.json"), gates=("content", "release"))
    other = (await replicas.start(executor_addrs=bench.address, **QUICK)).client
    for gate in ("content", "release"):
        await bench.client.settled(session_id)
        pending = await bench.client.pending(session_id)
        assert sorted((a.gate, a.preview.path) for a in pending) == [(gate, "data.json"), (gate, "report.md")]
        await other.decide(pending[0], "APPROVE")
        await bench.client.decide(pending[1], "APPROVE")
    await until_ended(bench, run_id)
    log = await bench.client.events(session_id)
    assert [e["action"] for e in log.of("approval_resolved", kind="APPROVAL_KIND_ARTIFACT")].count("APPROVE") in (0, 4)
    report = await bench.client.call(bench.client.runs.GetRunReport, run_service_pb2.GetRunReportRequest(run_id=run_id))
    assert {a.name for a in report.report.artifacts} == {"report.md", "data.json"}
    assert "- report.md (text/markdown, 8 bytes), SHA-256" in report.report.markdown


async def test_an_edit_is_kept_and_written_back_into_the_workspace(bench: Bench) -> None:
    bench.leave(b"draft")
    session_id, run_id = await bench.run(gates=("review",))
    asked = await bench.client.asked(session_id)
    decided = await bench.client.decide(asked, "EDIT", edited_artifact=b"# Final\n", feedback="better so")
    again = await bench.client.decide(asked, "EDIT", edited_artifact=b"# Final\n", feedback="better so")
    assert again.decision == decided.decision
    await until_ended(bench, run_id)
    draft, final = await bench.left(run_id)
    assert (final.id, final.replaces_artifact_id, final.editor) == (
        decided.decision.edited_artifact_id,
        draft.id,
        "developer",
    )
    assert [await bench.bytes_of(a) for a in (draft, final)] == [b"draft", b"# Final\n"]
    assert (bench.workspace / "report.md").read_bytes() == b"# Final\n"


async def test_asked_for_changes_the_agent_goes_on_and_what_it_leaves_then_is_asked_about(bench: Bench) -> None:
    bench.leave(b"draft")
    session_id, run_id = await bench.run(gates=("review",))
    first = await bench.client.asked(session_id)
    bench.leave(b"better")
    await bench.client.decide(first, "REQUEST_CHANGES", feedback="say more")
    second = await bench.client.asked(session_id)
    assert second.digest != first.digest
    problem = await bench.client.refusal(bench.client.decide(second, "APPROVE", digest=first.digest))
    assert problem.reason == "DIGEST_MISMATCH"
    await bench.client.decide(second, "APPROVE")
    await until_ended(bench, run_id)
    assert [await bench.bytes_of(a) for a in await bench.left(run_id)] == [b"draft", b"better"]


async def test_rejected_the_subtask_has_failed_and_its_retry_is_asked_about_anew(bench: Bench) -> None:
    bench.leave(b"draft")
    session_id, run_id = await bench.run(gates=("review",))
    await bench.client.decide(await bench.client.asked(session_id), "REJECT", feedback="no")
    failed = await bench.client.asked(session_id)
    assert "rejected at review by developer: no" in failed.preview.text
    await bench.client.decide(failed, "RETRY")
    again = await bench.client.asked(session_id)
    await bench.client.decide(again, "APPROVE")
    await until_ended(bench, run_id)


async def test_over_http_an_edit_brings_base64_and_an_artifact_is_its_bytes(bench: Bench) -> None:
    bench.leave(b"<script>draft</script>", "page.html")
    session_id, run_id = await bench.run(expected("page.html"), gates=("review",))
    asked = await bench.client.asked(session_id)
    async with over_http(bench.client) as http:
        said = {"action": "DECISION_ACTION_EDIT", "digest": asked.digest, "editedArtifact": "PGI+aGk8L2I+"}
        assert (await http.post(f"/v1/approvals/{asked.id}:decide", json=said)).status_code == 200
        await until_ended(bench, run_id)
        page = (await http.get(f"/v1/runs/{run_id}/artifacts")).json()
        made = page["artifacts"][0]
        assert (made["editor"], made["sizeBytes"]) == ("developer", "9")
        got = await http.get(f"/v1/artifacts/{made['id']}")
        assert (got.content, got.headers["content-type"]) == (b"<b>hi</b>", "text/html")
        assert "sandbox" in got.headers["content-security-policy"]
        assert got.headers["etag"] == f'"{made["sha256"]}"'
        part = await http.get(f"/v1/artifacts/{made['id']}", headers={"range": "bytes=3-4"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"hi", "bytes 3-4/9")
        assert (await http.get(f"/v1/artifacts/{made['id']}?offset=3&length=2")).content == b"hi"
        gone = await http.get(f"/v1/artifacts/{session_id}")
        assert (gone.status_code, gone.json()["details"][0]["reason"]) == (404, "ARTIFACT_NOT_FOUND")


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"edited_artifact": b"\xff"}, "edited_artifact"),
        ({}, "edited_artifact"),
        ({"edited_artifact": b"x", "edited_arguments_json": "{}"}, "edited_arguments_json"),
        ({"edited_artifact": b"x" * 300_000}, "edited_artifact"),
    ],
)
async def test_an_edit_that_does_not_do_is_refused_and_nothing_is_kept_of_it_in_the_log(
    bench: Bench, tables: Tables, said: dict[str, Any], field: str
) -> None:
    bench.leave(b"draft")
    session_id, run_id = await bench.run(gates=("review",))
    asked = await bench.client.asked(session_id)
    before = await bench.client.events(session_id)
    problem = await bench.client.refusal(bench.client.decide(asked, "EDIT", **said))
    assert (problem.reason, [v.field for v in problem.fields]) == ("INVALID_REQUEST", [field])
    assert len(await bench.left(run_id)) == 1
    assert (await bench.client.events(session_id)).sequences == before.sequences
    assert len(await tables.audited()) == 1


@pytest.mark.parametrize(
    ("artifact", "field"),
    [
        (expected(path="../out"), "subtasks[0].artifacts[0].path"),
        (expected(schema="report"), "subtasks[0].artifacts[0].schema"),
        (expected(schema_json="{"), "subtasks[0].artifacts[0].schema_json"),
    ],
)
async def test_what_cannot_be_expected_is_refused_by_name(
    client: Client, artifact: workflow_pb2.ExpectedArtifact, field: str
) -> None:
    session = await client.new_session()
    problem = await client.refusal(client.new_plan(session.id, [subtask("a", artifacts=[artifact])]))
    assert [v.field for v in problem.fields] == [field]
