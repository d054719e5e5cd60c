"""The orchestrator with the executor it is made for: files really written, bytes really run, commands not run twice."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from executor import bootstrap as executor_bootstrap
from executor.settings import Settings
from gen.assent.v1.approval_service_pb2 import GetApprovalRequest, WatchApprovalsRequest
from orchestrator.operations import looking
from tests.e2e.services import free_port, until
from tests.integration.orchestrator.client import Client, words
from tests.integration.orchestrator.real_executor import serving
from tests.integration.orchestrator.replica import Replicas

SCRIPT = """
replies:
- when: {agent: orchestrator}
  output: {complexity: complex, agent: architect, reason: it makes files}
- when: {agent: architect}
  output:
    title: One file
    summary: Write it.
    subtasks: [{key: write, title: Write, instructions: Write it., agent: coder, depends_on: []}]
- when: {agent: coder, turn: 0, contains: a command}
  tool_calls: [{tool: run_command, arguments: {command: "echo once >> count; until [ -e go ]; do sleep 0.02; done"}}]
- when: {agent: coder, turn: 0, contains: exact bytes}
  tool_calls: [{tool: noop_ask, arguments_json: '{"id": 1234567890123456789}'}]
- when: {agent: coder, turn: 0}
  tool_calls: [{tool: write_file, arguments: {path: made.txt, content: made}}]
- text: done
"""


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    async with serving(tmp_path, SCRIPT) as (_, address):
        yield address


async def approve_all(client: Client, session_id: str) -> list[str]:
    """Say yes until nothing is asked; the kinds of what was."""
    kinds: list[str] = []
    while True:
        await client.settled(session_id)
        pending = await client.pending(session_id)
        if not pending:
            return kinds
        for approval in pending:
            kinds.append(words(approval)["kind"])
            await client.decide(approval, "APPROVE")


async def test_a_goal_becomes_a_plan_and_the_plan_a_file(replicas: Replicas, address: str, tmp_path: Path) -> None:
    client = (await replicas.start(executor_addrs=address)).client
    session = await client.new_session(workspace={"directory": "project"})
    await client.send(session.id, "Create a file", agent="auto")
    assert await approve_all(client, session.id) == ["PLAN", "TOOL_CALL"]
    assert (tmp_path / "root/project/made.txt").read_text() == "made"
    log = await client.events(session.id)
    assert log.session_states[-2:] == ["PLAN_EXECUTION", "COMPLETED"]


async def test_nothing_is_written_before_the_write_is_approved(
    replicas: Replicas, address: str, tmp_path: Path
) -> None:
    client = (await replicas.start(executor_addrs=address)).client
    session = await client.new_session(workspace={"directory": "project"})
    await client.send(session.id)
    approval = await client.asked(session.id)
    assert (approval.preview.path, approval.preview.new_text) == ("made.txt", "made")
    assert not (tmp_path / "root/project/made.txt").exists()
    await client.decide(approval, "REJECT")
    await client.settled(session.id)
    assert not (tmp_path / "root/project/made.txt").exists()


async def test_a_write_is_shown_as_what_it_would_change_when_somebody_looks(
    replicas: Replicas, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "KEPT_SECONDS", 0.0)
    monkeypatch.setattr(looking, "READ_SECONDS", 10.0)
    replica = await replicas.start(executor_addrs=address)
    await until(lambda: replica.has_workspaces)
    client = replica.client
    session = await client.new_session(workspace={"directory": "project"})
    await client.send(session.id)
    asked = await client.asked(session.id)
    file = tmp_path / "root/project/made.txt"
    added = ["@@ -0,0 +1 @@", "+made", "\\ No newline at end of file"]

    async def shown() -> tuple[str, list[str]]:
        [listed] = await client.pending(session.id)
        request = GetApprovalRequest(approval_id=asked.id)
        got = (await client.approvals.GetApproval(request, metadata=client.metadata)).approval
        call: Any = client.approvals.WatchApprovals(WatchApprovalsRequest(), metadata=client.metadata)
        watched = (await call.read()).approvals
        call.cancel()
        assert listed == got == watched[0]
        return words(got.preview).get("format", ""), got.preview.text.split("\n")

    assert await shown() == ("DIFF", ["--- /dev/null", "+++ b/made.txt", *added])
    file.parent.mkdir(exist_ok=True)
    file.write_text("before\n")
    assert await shown() == ("DIFF", ["--- a/made.txt", "+++ b/made.txt", "@@ -1 +1 @@", "-before", *added[1:]])
    for content in (b"\x00\xff", b"x" * (looking.MOST_FILE_BYTES + 1)):
        file.write_bytes(content)
        assert await shown() == ("", ["made"])
    file.unlink()
    (tmp_path / "secret").write_text("secret")
    file.symlink_to(tmp_path / "secret")
    assert await shown() == ("", ["made"])
    file.unlink()
    await client.decide(asked, "APPROVE")
    await client.settled(session.id)
    assert file.read_text() == "made"


async def test_a_number_beyond_doubles_is_executed_as_it_was_approved(replicas: Replicas, address: str) -> None:
    client = (await replicas.start(executor_addrs=address)).client
    session = await client.new_session()
    await client.send(session.id, "exact bytes")
    await approve_all(client, session.id)
    (ended,) = (await client.events(session.id)).of("step_finished", tool="noop_ask")
    assert ended["output_preview"] == '{"id": 1234567890123456789}'


async def test_a_command_in_flight_outlives_its_orchestrator_and_runs_once(
    replicas: Replicas, address: str, tmp_path: Path
) -> None:
    quick = {"executor_addrs": address, "lease_seconds": 1.0, "lease_renew_seconds": 0.2}
    first = await replicas.start(**quick)
    session = await first.client.new_session(workspace={"directory": "project"})
    await first.client.send(session.id, "a command")
    await first.client.decide(await first.client.asked(session.id), "APPROVE")
    async with first.client.watch(session.id) as watch:
        await watch.until("step_started", tool="run_command")
    await first.crash()

    client = (await replicas.start(**quick)).client
    (tmp_path / "root/project").mkdir(exist_ok=True, parents=True)
    (tmp_path / "root/project/go").touch()
    log = await client.settled(session.id)
    assert [e["trigger"] for e in log.of("step_finished", tool="run_command")] == ["succeeded"]
    assert (tmp_path / "root/project/count").read_text() == "once\n"
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]


async def test_an_executor_that_stops_within_a_model_call_leaves_it_to_the_next(
    replicas: Replicas, tmp_path: Path
) -> None:
    slow, quick = tmp_path / "slow.yaml", tmp_path / "quick.yaml"
    slow.write_text("replies: [{text: never, delay: 600}]")
    quick.write_text("replies: [{text: at last}]")
    address = f"127.0.0.1:{free_port()}"
    first = await _started(address, slow, tmp_path)
    client = (await replicas.start(executor_addrs=address)).client
    session = await client.new_session()
    run = (await client.send(session.id)).run
    await until(lambda: first.ledger.free_slots < first.ledger.slots)
    await first.executor.drain(0)
    await first.server.stop(1)
    second = await _started(address, quick, tmp_path)
    log = await client.settled(session.id)
    await second.server.stop(0)
    assert [e["trigger"] for e in log.of("step_finished")] == ["transient", "succeeded"]
    assert [e["state"] for e in log.of("run_finished")] == ["COMPLETED"]
    assert ((await client.get_run(run.id)).faults, log.of("approval_requested")) == (1, [])


async def _started(address: str, script: Path, directory: Path) -> executor_bootstrap.Parts:
    parts = await executor_bootstrap.build(
        Settings(executor_addr=address, workspace_roots=str(directory / "root"), script=script)
    )
    await executor_bootstrap.start(parts)
    return parts


async def test_cancelling_kills_the_command_that_runs_and_all_that_it_started(
    replicas: Replicas, address: str, tmp_path: Path
) -> None:
    client = (await replicas.start(executor_addrs=address)).client
    session = await client.new_session(workspace={"directory": "project"})
    run = (await client.send(session.id, "a command")).run
    await client.decide(await client.asked(session.id), "APPROVE")
    workspace = tmp_path / "root/project"
    await until(lambda: (workspace / "count").exists())
    before = running_in(workspace)
    assert before
    await client.cancel(run.id)
    await until(lambda: not running_in(workspace))
    (ended,) = (await client.events(session.id)).of("step_finished", tool="run_command")
    assert (ended["state"], ended["is_error"]) == ("CANCELLED", True)
    await client.settled(session.id)
    assert (workspace / "count").read_text() == "once\n"


def running_in(directory: Path) -> list[str]:
    """The processes whose working directory it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == directory:
                found.append(process.name)
        except OSError:
            continue  # it has ended, or is not ours
    return found


async def test_a_root_that_no_executor_offers_is_refused(replicas: Replicas, address: str) -> None:
    client = (await replicas.start(executor_addrs=address)).client
    session = await client.new_session()
    await client.send(session.id, "Create a file", agent="auto")
    await client.settled(session.id)  # so the executor has joined, with its root
    problem = await client.refusal(client.new_session(workspace={"root_id": "nowhere"}))
    assert (problem.reason, [field.field for field in problem.fields]) == (
        "WORKSPACE_NOT_ALLOWED",
        ["workspace.root_id"],
    )
