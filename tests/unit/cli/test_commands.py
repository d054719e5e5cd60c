"""The real `assent` command against a stand-in orchestrator: output, exit codes, a terminal with a person at it."""

import asyncio
import os
import pty
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gen.assent.v1 import approval_pb2
from gen.assent.v1.approval_pb2 import (
    DECISION_ACTION_APPROVE,
    DECISION_ACTION_EDIT,
    DECISION_ACTION_REJECT,
    DECISION_ACTION_RESPOND,
)
from gen.assent.v1.artifact_pb2 import Artifact
from gen.assent.v1.grant_pb2 import Grant
from gen.assent.v1.plan_pb2 import PLAN_STATE_DRAFT, Plan
from gen.assent.v1.run_pb2 import (
    RUN_STATE_CANCELLED,
    RUN_STATE_CREATED,
    RUN_STATE_PAUSED,
    RUN_STATE_RUNNING,
    RUN_STATE_WAITING,
    Run,
)
from rpc.problem import Problem
from tests.unit.cli.demo_acts import PLAN_APPROVAL, WRITE_APPROVAL, acts
from tests.unit.cli.stand_in import RUN, SESSION, StandIn, serve

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "error", "TERM": "xterm", "COLUMNS": "120"}


class Ended(NamedTuple):
    code: int | None
    output: str
    errors: str


class Command:
    """`assent` against one server."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def __call__(self, *arguments: str, stdin: str = "", environment: Mapping[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *arguments,
            cwd=ROOT,
            # Narrow, to see that lines into a pipe are never cut to a width.
            env={**ENVIRONMENT, "ASSENT_GRPC_ADDR": self.address, "COLUMNS": "40", **(environment or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate(stdin.encode())
        return Ended(process.returncode, output.decode(), errors.decode())


@pytest.fixture
def stand_in() -> StandIn:
    return StandIn(acts())


@pytest.fixture
async def assent(stand_in: StandIn) -> AsyncIterator[Command]:
    server, address = await serve(stand_in)
    yield Command(address)
    await server.stop(None)


async def test_run_with_yes_goes_to_the_end_in_plain_lines(assent: Command) -> None:
    ended = await assent("run", "an app", "--yes")
    assert (ended.code, ended.errors) == (0, "")
    assert "   5  CLASSIFY → PLAN_REQUIRED\n" in ended.output
    assert "\x1b" not in ended.output


async def test_run_names_the_policy_of_the_session_it_makes(assent: Command, stand_in: StandIn) -> None:
    assert (await assent("run", "an app", "--yes", "--policy", "careful")).code == 0
    (made,) = stand_in.made
    assert made.settings.policy == "careful"
    refused = await assent("run", "an app", "--session", SESSION, "--policy", "careful")
    assert refused.code == 2
    assert "when a session is made" in " ".join(refused.errors.split())


async def test_approvals_lists_then_shows_one_in_full(assent: Command, stand_in: StandIn) -> None:
    assert (await assent("approvals")).output == "nothing waits for a decision\n"
    await stand_in.play(acts()[1])
    listed = await assent("approvals")
    assert re.match(rf"{WRITE_APPROVAL.id}  TOOL_CALL +\d+d  write_file main.dart\n$", listed.output)
    shown = await assent("approvals", WRITE_APPROVAL.id)
    assert "+ void main() {}" in shown.output
    assert "answers it takes: APPROVE, REJECT, ABORT" in shown.output
    assert WRITE_APPROVAL.digest in shown.output


async def test_approve_decides_for_the_digest_that_is_there(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(stand_in.acts.pop(0))
    ended = await assent("approve", PLAN_APPROVAL.id)
    assert ended.code == 0
    (decision,) = stand_in.decisions
    assert (decision.action, decision.digest) == (DECISION_ACTION_APPROVE, PLAN_APPROVAL.digest)
    assert f"assent watch {SESSION}" in ended.output


async def test_approve_with_a_digest_refuses_anything_else(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(stand_in.acts.pop(0))
    ended = await assent("approve", PLAN_APPROVAL.id, "--digest", "0" * 64)
    assert ended.code == 1
    assert "look at it again" in ended.errors
    assert stand_in.decisions == []


async def test_an_approval_that_was_decided_before_is_not_shown_as_if_it_were_asked(
    assent: Command, stand_in: StandIn
) -> None:
    await stand_in.play(stand_in.acts.pop(0))
    shown = await assent("approve", PLAN_APPROVAL.id)
    assert "PLAN: An app" in shown.output
    again = await assent("approve", PLAN_APPROVAL.id)
    assert "PLAN: An app" not in again.output


async def test_who_asks_is_said_with_each_call(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(stand_in.acts.pop(0))
    ended = await assent("--as", "ann lee", "--roles", "lead,owner", "approve", PLAN_APPROVAL.id)
    assert (ended.code, ended.errors) == (0, "")
    assert {frozenset(said) for said in stand_in.callers} == {
        frozenset({("assent-subject", "ann lee"), ("assent-roles", "lead,owner")})
    }
    await assent("approvals")
    assert stand_in.callers[-1] == []
    await assent("approvals", environment={"ASSENT_AS": "boris"})
    assert stand_in.callers[-1] == [("assent-subject", "boris")]


async def test_a_name_that_cannot_travel_is_an_error_in_the_usage(assent: Command, stand_in: StandIn) -> None:
    ended = await assent("--as", "änn", "approvals")
    assert (ended.code, stand_in.callers) == (2, [])
    assert "--as" in ended.errors


async def test_a_vote_that_does_not_decide_yet_is_told_as_one(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(stand_in.acts.pop(0))
    terms = approval_pb2.ApprovalTerms(quorum=2, roles=["lead"])
    vote = approval_pb2.Vote(voter="developer", action=DECISION_ACTION_APPROVE)
    stand_in.approvals[PLAN_APPROVAL.id].terms.CopyFrom(terms)
    stand_in.counts_as = [vote]
    ended = await assent("approve", PLAN_APPROVAL.id)
    assert (ended.code, ended.errors) == (0, "")
    assert "may decide: lead" in ended.output
    assert "votes: 0 of 2" in ended.output
    assert "your vote is counted: 1 of 2" in ended.output


async def test_reject_sends_the_feedback(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(stand_in.acts.pop(0))
    await assent("reject", PLAN_APPROVAL.id, "--feedback", "без Flutter")
    (decision,) = stand_in.decisions
    assert (decision.action, decision.feedback) == (DECISION_ACTION_REJECT, "без Flutter")


async def test_decide_sends_the_bytes_of_a_file_as_they_are(assent: Command, stand_in: StandIn, tmp_path: Path) -> None:
    await stand_in.play(acts()[1])
    file = tmp_path / "arguments.json"
    file.write_bytes('{"id": 1234567890123456789,\r\n "имя": 1}\n'.encode())
    ended = await assent("decide", WRITE_APPROVAL.id, "edit", "--arguments", str(file), "--feedback", "so")
    assert (ended.code, ended.errors) == (0, "")
    (decision,) = stand_in.decisions
    assert (decision.action, decision.digest) == (DECISION_ACTION_EDIT, WRITE_APPROVAL.digest)
    assert (decision.edited_arguments_json.encode(), decision.feedback) == (file.read_bytes(), "so")


async def test_approve_says_how_long_a_run_may_work(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(acts()[1])
    assert (await assent("approve", WRITE_APPROVAL.id, "--work-seconds", "90.5")).code == 0
    assert (await assent("approve", WRITE_APPROVAL.id, "--work-seconds", "nan")).code == 2
    (decision,) = stand_in.decisions
    assert decision.new_limit.work_duration.ToMicroseconds() == 90_500_000


async def test_approve_says_how_much_more_a_run_may_use(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(acts()[1])
    assert (await assent("approve", WRITE_APPROVAL.id, "--calls", "50", "--tokens", "9000")).code == 0
    (decision,) = stand_in.decisions
    assert (decision.new_limit.calls, decision.new_limit.total_tokens) == (50, 9000)
    assert not decision.new_limit.HasField("work_duration")


async def test_approve_remembers_for_whom_and_how_long_it_is_told(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(acts()[1])
    only = "arguments.path.startsWith('docs/')"
    for said in ((), ("--only", only), ("--for", "30m"), ("--only", only, "--for", "7d")):
        assert (await assent("approve", WRITE_APPROVAL.id, "--remember", *said)).code == 0
    wished = [d.remember for d in stand_in.decisions]
    assert all(d.HasField("remember") for d in stand_in.decisions)
    assert [w.constraint for w in wished] == ["", only, "", only]
    assert [w.HasField("lifetime") and w.lifetime.seconds for w in wished] == [False, False, 1800, 7 * 86_400]


@pytest.mark.parametrize(
    "said", [("--only", "true"), ("--for", "1h"), ("--remember", "--for", "soon"), ("--remember", "--for", "1w")]
)
async def test_approve_refuses_to_remember_what_is_not_clear(
    assent: Command, stand_in: StandIn, said: tuple[str, ...]
) -> None:
    await stand_in.play(acts()[1])
    assert (await assent("approve", WRITE_APPROVAL.id, *said)).code == 2
    assert stand_in.decisions == []


async def test_grants_are_listed_and_revoked(assent: Command, stand_in: StandIn) -> None:
    day, past = Timestamp(seconds=int(time.time()) + 86_400), Timestamp(seconds=1)
    about: dict[str, Any] = {"tool": "write_file", "creator": "anna", "constraint": "arguments.path == 'a'"}
    stand_in.grants = [
        Grant(id="g1", **about, expire_time=day, uses=1),
        Grant(id="g2", **about, expire_time=past, end_time=past),
        Grant(id="g3", **about, expire_time=day, revoke_time=past, revoker="bo\x1bris", revoke_reason="why"),
    ]
    ended = await assent("grants", SESSION)
    assert ended.output.splitlines() == [
        "g1  write_file  by anna, used 1 time, 24h left",
        "  where arguments.path == 'a'",
        "g2  write_file  by anna, used 0 times, expired",
        "  where arguments.path == 'a'",
        "g3  write_file  by anna, used 0 times, revoked by bo\\x1bris: why",
        "  where arguments.path == 'a'",
    ]
    ended = await assent("revoke", "g1", "--reason", "enough")
    assert (ended.code, ended.output) == (0, "grant g1 is revoked: calls of write_file are asked about again\n")
    (request,) = stand_in.steered
    assert (request.grant_id, request.reason, bool(request.request_id)) == ("g1", "enough", True)
    stand_in.grants = []
    assert (await assent("grants", SESSION)).output == "no yes is remembered in this session\n"


async def test_the_agent_of_a_session_is_switched(assent: Command, stand_in: StandIn) -> None:
    ended = await assent("switch", SESSION, "ask")
    assert (ended.code, ended.output) == (0, f"session {SESSION} is ask's now\n")
    (request,) = stand_in.steered
    assert (request.session_id, request.agent, bool(request.request_id)) == (SESSION, "ask", True)


async def test_decide_reads_a_response_from_standard_input(assent: Command, stand_in: StandIn) -> None:
    await stand_in.play(acts()[1])
    assert (await assent("decide", WRITE_APPROVAL.id, "RESPOND", "--response", "-", stdin='{"done": true}')).code == 0
    (decision,) = stand_in.decisions
    assert (decision.action, decision.response_json) == (DECISION_ACTION_RESPOND, '{"done": true}')


@pytest.mark.parametrize(
    ("action", "content", "words"), [("maybe", b"{}", "no answer is called maybe"), ("edit", b"\xff", "not UTF-8")]
)
async def test_decide_refuses_what_is_no_answer(
    assent: Command, stand_in: StandIn, tmp_path: Path, action: str, content: bytes, words: str
) -> None:
    (tmp_path / "file").write_bytes(content)
    ended = await assent("decide", WRITE_APPROVAL.id, action, "--arguments", str(tmp_path / "file"))
    assert ended.code == 2
    assert words in ended.errors
    assert stand_in.decisions == []


@pytest.mark.parametrize(
    ("command", "state", "said"),
    [
        ("pause", RUN_STATE_PAUSED, f"run {RUN} is PAUSED\n  let it go on with: assent resume {RUN}\n"),
        ("pause", RUN_STATE_RUNNING, "it is PAUSED as soon as what is in flight has ended"),
        ("pause", RUN_STATE_CREATED, "it is PAUSED when its turn comes"),
        ("resume", RUN_STATE_RUNNING, f"run {RUN} goes on\n  follow with: assent watch {SESSION}\n"),
        ("resume", RUN_STATE_WAITING, "it waits for a decision"),
        ("resume", RUN_STATE_CREATED, "is queued as before"),
        ("cancel", RUN_STATE_CANCELLED, f"run {RUN} is CANCELLED: enough\n"),
    ],
)
async def test_a_run_is_steered_and_what_comes_of_it_is_said(
    assent: Command, stand_in: StandIn, command: str, state: Any, said: str
) -> None:
    stand_in.run = Run(id=RUN, session_id=SESSION, state=state, cancel_reason="enough")
    ended = await assent(command, RUN, "--reason", "enough")
    assert (ended.code, ended.errors) == (0, "")
    assert said in ended.output
    (request,) = stand_in.steered
    assert (request.run_id, request.reason) == (RUN, "enough")
    assert request.request_id


async def test_a_session_is_closed(assent: Command, stand_in: StandIn) -> None:
    ended = await assent("close", SESSION, "-m", "all done")
    assert (ended.code, ended.output) == (0, f"session {SESSION} is CLOSED\n")
    (request,) = stand_in.steered
    assert (request.session_id, request.reason) == (SESSION, "all done")


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "close"])
async def test_a_refusal_to_be_steered_is_told_in_the_servers_words(
    assent: Command, stand_in: StandIn, command: str
) -> None:
    words = "run 7 is WAITING; resumed is possible in: PAUSED"
    stand_in.refuse.append(Problem(grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE", words))
    ended = await assent(command, RUN)
    assert (ended.code, ended.output, ended.errors) == (1, "", f"assent: {words} (WRONG_STATE)\n")


async def test_report_prints_the_markdown_as_it_is(assent: Command, stand_in: StandIn) -> None:
    stand_in.report.markdown = "# Report\n\n| a | b |"
    assert (await assent("report", RUN)).output == "# Report\n\n| a | b |\n"


def an_artifact(number: int, content: bytes, **fields: Any) -> tuple[Artifact, bytes]:
    artifact = Artifact(
        id=f"00000000-0000-0000-0000-00000000000{number}",
        name="report.md",
        media_type="text/markdown",
        sha256="ab" * 32,
        size_bytes=len(content),
        **{"valid": True, **fields},
    )
    return artifact, content


async def test_artifacts_are_listed_and_their_bytes_written_as_they_are(assent: Command, stand_in: StandIn) -> None:
    assert (await assent("artifacts", RUN)).output == "this run has left no artifacts\n"
    content = b"twelve bytes\n\n"
    stand_in.artifacts = [an_artifact(2, content, editor="ann"), an_artifact(1, b"x", valid=False, errors=["is bad"])]
    lines = (await assent("artifacts", RUN)).output.splitlines()
    prefix = "00000000-0000-0000-0000-00000000000"
    assert lines == [
        f"{prefix}2  abababababab  text/markdown, 14 bytes  report.md  edited by ann",
        f"{prefix}1  abababababab  text/markdown, 1 byte  report.md  not valid: is bad",
    ]
    assert (await assent("artifacts", RUN, "--get", "report.md")).output.encode() == content
    assert (await assent("artifacts", RUN, "--get", f"{prefix}1")).output == "x"
    ended = await assent("artifacts", RUN, "--get", "gone")
    assert (ended.code, ended.errors) == (1, "assent: this run has left no artifact gone\n")


async def test_decide_edits_an_artifact_with_the_bytes_of_a_file(
    assent: Command, stand_in: StandIn, tmp_path: Path
) -> None:
    await stand_in.play(acts()[1])
    file = tmp_path / "report.md"
    file.write_bytes(b"caf\xc3\xa9\r\n")
    assert (await assent("decide", WRITE_APPROVAL.id, "edit", "--file", str(file))).code == 0
    (decision,) = stand_in.decisions
    assert (decision.action, decision.edited_artifact) == (DECISION_ACTION_EDIT, b"caf\xc3\xa9\r\n")
    assert decision.edited_arguments_json == ""


async def test_a_refusal_is_one_line_and_an_exit_code(assent: Command) -> None:
    ended = await assent("approve", "00000000-0000-0000-0000-000000000000")
    assert ended.code == 1
    assert ended.errors == ("assent: there is no approval 00000000-0000-0000-0000-000000000000 (APPROVAL_NOT_FOUND)\n")


async def test_a_server_that_is_not_there_is_one_line_and_another_exit_code() -> None:
    ended = await Command("127.0.0.1:1")("approvals")
    assert ended.code == 3
    assert ended.errors.startswith("assent: nobody answers at 127.0.0.1:1")
    assert len(ended.errors.splitlines()) == 1


async def test_a_bad_address_is_a_usage_error() -> None:
    ended = await Command("nowhere")("approvals")
    assert ended.code == 2
    assert "Traceback" not in ended.errors


class Terminal:
    """`assent` on a terminal, with somebody who reads and types."""

    def __init__(self, *arguments: str, address: str) -> None:
        self._arguments = arguments
        self._address = address
        self._seen = bytearray()
        self._more = asyncio.Event()

    async def __aenter__(self) -> "Terminal":
        self._ours, theirs = pty.openpty()
        environment = {**ENVIRONMENT, "ASSENT_GRPC_ADDR": self._address}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *self._arguments,
            cwd=ROOT,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def _read(self) -> None:
        try:
            self._seen += os.read(self._ours, 65536)
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._ours)
        self._more.set()

    async def see(self, text: str) -> None:
        """Wait for a text, and forget what came up to it."""
        try:
            async with asyncio.timeout(20):
                while text.encode() not in self._seen:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            pytest.fail(f"{text!r} did not appear after {self._seen.decode(errors='replace')!r}")
        del self._seen[: self._seen.index(text.encode()) + len(text.encode())]

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())


async def test_a_person_at_a_terminal_is_asked_and_answers(assent: Command, stand_in: StandIn) -> None:
    async with Terminal("run", "an app", address=assent.address) as terminal:
        await terminal.see("? PLAN An app")
        await terminal.see("[a] approve")
        terminal.type("a\n")
        await terminal.see("+ void main() {}")
        await terminal.see("[a] approve")
        terminal.type("r\n")
        await terminal.see("Why? The agent reads it: ")
        terminal.type("не сейчас\n")
        await terminal.see("PLAN_EXECUTION → COMPLETED")
        assert await terminal.process.wait() == 0
    assert [each.action for each in stand_in.decisions] == [DECISION_ACTION_APPROVE, DECISION_ACTION_REJECT]
    assert stand_in.decisions[1].feedback == "не сейчас"


async def test_a_person_at_a_terminal_edits_the_plan_and_is_asked_again(
    assent: Command, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.plan = Plan(id="plan-1", version=1, title="An app", state=PLAN_STATE_DRAFT)
    stand_in.plan.subtasks.add(key="a", title="The first", agent="coder")
    for name, value in (("EDITOR", "sed -i s/first/1st/"), ("VISUAL", "")):
        monkeypatch.setitem(ENVIRONMENT, name, value)
    async with Terminal("run", "an app", address=assent.address) as terminal:
        await terminal.see("[e] edit it")
        terminal.type("e\n")
        await terminal.see("version 2, a draft; version 1 is SUPERSEDED")
        await stand_in.decided_elsewhere(PLAN_APPROVAL.id, DECISION_ACTION_APPROVE)
        await terminal.see("[a] approve")
    assert stand_in.decisions == []
    assert [request.subtasks[0].title for request in stand_in.revised] == ["The 1st"]


async def test_ctrl_c_at_a_prompt_leaves_and_says_how_to_come_back(assent: Command, stand_in: StandIn) -> None:
    async with Terminal("run", "an app", address=assent.address) as terminal:
        await terminal.see("[a] approve")
        terminal.process.send_signal(signal.SIGINT)
        await terminal.see(f"assent watch {SESSION} --after 9")
        assert await terminal.process.wait() == 130
    assert stand_in.decisions == []


async def test_the_end_of_input_leaves_without_deciding(assent: Command, stand_in: StandIn) -> None:
    async with Terminal("run", "an app", address=assent.address) as terminal:
        await terminal.see("[a] approve")
        terminal.type("\x04")
        await terminal.see("assent watch")
        assert await terminal.process.wait() == 130
    assert stand_in.decisions == []


async def test_bytes_that_are_no_text_are_refused_without_a_traceback(assent: Command) -> None:
    ended = await assent("run", "goal \udcff\udcfe")
    assert (ended.code, ended.errors) == (2, "assent: what was given is not UTF-8 text\n")
