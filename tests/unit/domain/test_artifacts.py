"""What a subtask leaves, and the gates it passes: read after the answer, kept as it was then, decided about exactly."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain.artifacts import take_files
from orchestrator.domain.catalog import Rule
from orchestrator.domain.deciding import is_repeat
from orchestrator.domain.digests import allows, line_of
from orchestrator.domain.errors import ActionNotAllowed, DigestMismatch, InvalidInput, InvalidPlan
from orchestrator.domain.events import ArtifactRecorded, SubtaskStateChanged
from orchestrator.domain.expected import check_bytes
from orchestrator.domain.graph import SubtaskDraft
from orchestrator.domain.records import Approval, ApprovalTerms, Artifact, Budget, ExpectedArtifact, Step, ToolResult
from tests.unit.domain.build import POLICY, SECOND, Play, call, catalog, draft, failure, task

REPORT, DATA = ExpectedArtifact("report.md"), ExpectedArtifact("data.json", schema_json='{"required": ["n"]}')


def leaving(*artifacts: ExpectedArtifact, gates: tuple[str, ...] = (), key: str = "a") -> SubtaskDraft:
    return replace(task(key), artifacts=artifacts or (REPORT,), gates=gates)


def answered(*artifacts: ExpectedArtifact, gates: tuple[str, ...] = (), terms: ApprovalTerms | None = None) -> Play:
    """A subtask whose agent has written something and answered."""
    book = catalog(policy=replace(POLICY, terms={"ARTIFACT": terms or ApprovalTerms()}))
    play = Play(book).approved_plan(leaving(*artifacts, gates=gates))
    play.reply("", call("index_files"))
    play.result()
    play.snapshot.session = replace(play.session, workspace=replace(play.session.workspace, root_id="root"))
    play.reply("it is done")
    return play


def at_gate(*gates: str, content: bytes = b"# Report\n", terms: ApprovalTerms | None = None) -> Play:
    play = answered(gates=gates or ("review",), terms=terms)
    play.files(report_md=content)
    return play


def edit(play: Play, content: bytes, approval: Approval | None = None, **said: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    play.decide("EDIT", approval, edited_sha256=sha256, edited_artifact=content, **said)


def artifacts(play: Play) -> list[Artifact]:
    return list(play.snapshot.artifacts.values())


def state(play: Play) -> str:
    return play.subtask("a").state


def writing(play: Play) -> Step:
    [step] = [s for s in play.flying if s.kind == "TOOL"]
    return step


# --- reading


def test_an_answer_is_no_end_before_the_files_are_read() -> None:
    play = answered()
    assert (state(play), play.run.state, play.session.runnable, play.session.settled) == (
        "VALIDATING",
        "RUNNING",
        True,
        False,
    )
    play.files(report_md=b"# Report\n")
    [artifact] = artifacts(play)
    assert (artifact.name, artifact.path, artifact.media_type) == ("report.md", "report.md", "text/markdown")
    assert (artifact.sha256, artifact.size_bytes) == (hashlib.sha256(b"# Report\n").hexdigest(), 9)
    assert (artifact.valid, artifact.errors, artifact.preview) == (True, [], "# Report\n")
    assert [e.artifact for e in play.events if isinstance(e, ArtifactRecorded)] == [artifact]
    assert (state(play), play.subtask("a").result) == ("SUCCEEDED", "it is done")
    assert [r.state for r in play.snapshot.runs.values()] == ["COMPLETED"]


def test_reading_is_wanted_at_every_look_until_it_is_done_and_costs_no_event() -> None:
    play = answered()
    for _ in range(3):
        change = play.do()
        [reading] = change.reads.values()
        assert (reading.workspace.root_id, [e.name for e in reading.expected]) == ("root", ["report.md"])
        assert (change.events, change.session.runnable) == ([], True)
    play.files(report_md=b"x")
    assert play.do().reads == {}


def test_what_was_read_twice_is_recorded_once() -> None:
    """Two owners of the session, one after the other, may both have read."""
    play = answered(gates=("review",))
    [reading] = play.do().reads.values()
    gathered = play.gathered(reading, report_md=b"x")
    assert play.do(lambda c: take_files(c, gathered)).events
    assert not play.do(lambda c: take_files(c, gathered)).events
    assert (len(artifacts(play)), len(play.pending)) == (1, 1)


def test_what_was_read_after_an_earlier_answer_is_not_taken_for_this_one() -> None:
    play = answered(gates=("review",))
    [reading] = play.do().reads.values()
    early = play.gathered(reading, report_md=b"early")
    play.files(report_md=b"first")
    play.decide("REQUEST_CHANGES", feedback="longer")
    play.reply("now it is longer")
    play.do(lambda c: take_files(c, early))
    assert (state(play), [a.preview for a in artifacts(play)]) == ("VALIDATING", ["first"])


def test_nothing_is_read_while_nobody_is_there_who_could_and_the_session_waits_for_room() -> None:
    play = answered()
    play.may_read = False
    change = play.do()
    assert (change.reads, change.blocked, change.session.runnable) == ({}, True, False)
    assert change.session.due_time > play.now
    play.may_read = True
    assert play.do().reads


def test_a_paused_run_reads_nothing_and_reads_after_the_resume() -> None:
    play = answered()
    assert play.pause().reads == {}
    assert (play.run.state, state(play)) == ("PAUSED", "VALIDATING")
    assert play.resume().reads


def test_a_cancelled_run_records_nothing_any_more() -> None:
    play = answered()
    [reading] = play.do().reads.values()
    play.cancel()
    play.do(lambda c: take_files(c, play.gathered(reading, report_md=b"x")))
    assert (artifacts(play), state(play)) == ([], "CANCELLED")


def test_a_subtask_that_no_executor_ever_wrote_for_has_left_nothing() -> None:
    play = Play().approved_plan(leaving())
    play.reply("it is done")
    assert (state(play), [s.kind for s in play.flying]) == ("RUNNING", ["MODEL"])
    assert "report.md: nothing was written" in play.seen().messages[-1].text


# --- what does not do


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "data.json: does not exist"),
        (b'{"m": 1}', "data.json: $: 'n' is a required property"),
        (b"{", "data.json: is to be JSON"),
        (b'{"n": 1, "n": 2}', "has the key 'n' twice"),
        (b"\xff", "is no UTF-8 text"),
        (b"", "data.json: is to be JSON"),
    ],
)
def test_a_file_that_does_not_do_goes_back_to_the_agent_who_goes_on(content: bytes | None, words: str) -> None:
    play = answered(DATA)
    play.files(**({} if content is None else {"data_json": content}))
    assert state(play) == "RUNNING"
    seen = play.seen()
    assert words in seen.messages[-1].text
    assert seen.messages[-2].text == "it is done"
    assert [a.valid for a in artifacts(play)] == ([] if content is None else [False])
    play.reply("put right")
    play.files(data_json=b'{"n": 1}')
    assert (state(play), len(play.snapshot.attempts)) == ("SUCCEEDED", 1)


def test_files_that_never_do_end_in_a_question_and_a_retry_reads_what_was_wrong() -> None:
    play = answered(DATA)
    for _ in range(2):
        play.files(data_json=b"{}")
        play.reply("again")
    play.files(data_json=b"{}")
    [approval] = play.pending
    assert (approval.kind, state(play)) == ("FAILURE", "FAILED")
    assert "ARTIFACT_INVALID" in approval.preview.title
    assert "'n' is a required property" in approval.preview.text
    play.decide("RETRY")
    assert any("'n' is a required property" in m.text for m in play.seen().messages)
    play.reply("put right")
    play.files(data_json=b'{"n": 1}')
    assert state(play) == "SUCCEEDED"


def test_every_file_is_looked_at_and_all_that_is_wrong_is_said_at_once() -> None:
    play = answered(REPORT, DATA)
    play.files(data_json=b"{}")
    words = play.seen().messages[-1].text
    assert "report.md: does not exist" in words
    assert "data.json: $" in words


# --- gates


def test_two_gates_ask_about_two_artifacts_in_their_order_and_exactly() -> None:
    play = answered(REPORT, DATA, gates=("content", "release"))
    play.files(report_md=b"# R", data_json=b'{"n": 1}')
    assert (state(play), play.run.state, play.session.runnable) == ("AWAITING_APPROVAL", "WAITING", False)
    report, data = play.pending
    assert [(a.kind, a.gate) for a in play.pending] == [("ARTIFACT", "content")] * 2
    for approval, artifact in zip(play.pending, artifacts(play), strict=True):
        assert approval.artifact_id == artifact.id
        named = {key: line_of(approval.preimage, key) for key in ("artifact", "sha256", "gate", "kind")}
        assert named == {"artifact": artifact.id, "sha256": artifact.sha256, "gate": "content", "kind": "artifact"}
    play.decide("APPROVE", data)
    assert [a.id for a in play.pending] == [report.id]
    play.decide("APPROVE", report)
    assert [a.gate for a in play.pending] == ["release", "release"]
    for approval in play.pending:
        play.decide("APPROVE", approval)
    assert (state(play), play.pending, len(artifacts(play))) == ("SUCCEEDED", [], 2)
    assert len({a.digest for a in play.snapshot.approvals.values()}) == 5


def test_a_person_sees_what_it_is_and_how_it_begins() -> None:
    play = at_gate("review", content=b"# R\n" + b"x" * 20_000)
    shown = play.pending[0].preview
    assert (shown.title, shown.path, shown.agent) == ("review: report.md of a", "report.md", "coder")
    assert shown.truncated
    assert "text/markdown, 20004 bytes, left by coder. SHA-256: " in shown.text
    assert "# R\nxxx" in shown.text


def test_the_next_subtask_waits_for_the_gates() -> None:
    play = Play().approved_plan(leaving(gates=("review",)), task("b", "a"))
    play.snapshot.session = replace(play.session, workspace=replace(play.session.workspace, root_id="root"))
    play.reply("done")
    play.files(report_md=b"x")
    assert (play.flying, play.subtask("b").state) == ([], "PENDING")
    play.decide("APPROVE")
    assert [s.subtask_id for s in play.flying] == [play.subtask("b").id]


def test_changes_that_are_asked_for_reach_the_agent_in_the_same_conversation() -> None:
    play = answered(REPORT, DATA, gates=("content", "release"))
    play.files(report_md=b"# R", data_json=b'{"n": 1}')
    report, data = play.pending
    play.decide("APPROVE", data)
    play.decide("REQUEST_CHANGES", report, "shorter, please")
    assert (state(play), play.pending, len(play.snapshot.attempts)) == ("RUNNING", [], 1)
    assert "asks for changes: shorter, please" in play.seen().messages[-1].text
    play.reply("shorter now")
    play.files(report_md=b"R", data_json=b'{"n": 1}')
    # What did not change is the artifact that has passed; what did is another one.
    assert [(a.gate, a.artifact_id) for a in play.pending] == [("content", artifacts(play)[-1].id)]
    assert [a.name for a in artifacts(play)] == ["report.md", "data.json", "report.md"]


def test_changes_that_people_ask_for_are_not_counted_as_the_agents_mistakes() -> None:
    play = at_gate("review")
    for number in range(5):
        play.decide("REQUEST_CHANGES", feedback="again")
        play.reply("changed")
        play.files(report_md=b"%d" % number)
    assert state(play) == "AWAITING_APPROVAL"
    play.decide("REQUEST_CHANGES", feedback="again")
    play.reply("gone")
    play.files()
    assert state(play) == "RUNNING"


def test_asking_for_changes_withdraws_what_else_is_asked() -> None:
    play = answered(REPORT, DATA, gates=("review",))
    play.files(report_md=b"# R", data_json=b'{"n": 1}')
    report, data = play.pending
    play.decide("REQUEST_CHANGES", report, "shorter")
    assert play.snapshot.approvals[data.id].state == "SUPERSEDED"


def test_changes_without_a_word_are_refused() -> None:
    play = at_gate()
    with pytest.raises(InvalidInput, match="feedback"):
        play.decide("REQUEST_CHANGES")


def test_a_no_fails_the_subtask_and_a_person_says_what_then() -> None:
    play = answered(REPORT, DATA, gates=("review",))
    play.files(report_md=b"# R", data_json=b'{"n": 1}')
    report, data = play.pending
    play.decide("REJECT", report, "useless")
    [failure] = play.pending
    assert (state(play), failure.kind, play.session.state) == ("FAILED", "FAILURE", "ERROR_HANDLING")
    assert "report.md was rejected at review by anna: useless" in failure.preview.text
    assert play.snapshot.approvals[data.id].state == "SUPERSEDED"
    play.decide("RETRY", failure)
    assert (state(play), play.session.state) == ("RUNNING", "PLAN_EXECUTION")
    play.reply("better")
    play.files(report_md=b"# R", data_json=b'{"n": 1}')
    assert [a.gate for a in play.pending] == [
        "review",
        "review",
    ]  # the same bytes of another attempt are asked about anew


def test_abort_ends_the_run() -> None:
    play = at_gate()
    play.decide("ABORT")
    assert ([r.state for r in play.snapshot.runs.values()], state(play)) == (["CANCELLED"], "CANCELLED")


def test_a_decision_about_other_bytes_or_another_gate_is_refused() -> None:
    play = at_gate("content", "release")
    [first] = play.pending
    play.decide("APPROVE", first)
    [second] = play.pending
    with pytest.raises(DigestMismatch):
        play.decide("APPROVE", second, digest=first.digest)


# --- edits


def test_an_edit_is_another_artifact_that_is_written_back_before_anything_goes_on() -> None:
    play = at_gate("review")
    [left] = artifacts(play)
    edit(play, b"# Better\n")
    made = artifacts(play)[-1]
    assert (made.replaces_artifact_id, made.editor, made.preview) == (left.id, "anna", "# Better\n")
    assert play.snapshot.artifacts[left.id] == left
    step = writing(play)
    assert json.loads(step.arguments_json) == {"path": "report.md", "content": "# Better\n"}
    assert (state(play), play.pending) == ("AWAITING_APPROVAL", [])
    play.result("written", step)
    assert state(play) == "SUCCEEDED"
    [approval] = [a for a in play.snapshot.approvals.values() if a.kind == "ARTIFACT"]
    assert approval.decision is not None
    assert (approval.decision.edited_artifact_id, approval.consume_time > 0) == (made.id, True)


def test_an_edit_passes_its_own_gate_only() -> None:
    """Who said yes at an earlier gate has not seen these bytes."""
    play = at_gate("content", "release")
    play.decide("APPROVE")
    edit(play, b"# Better\n")
    play.result("written")
    [again] = play.pending
    assert (again.gate, again.artifact_id) == ("content", artifacts(play)[-1].id)
    play.decide("APPROVE")
    assert state(play) == "SUCCEEDED"


def test_the_call_that_writes_back_is_allowed_by_its_edit_and_by_no_other() -> None:
    play = at_gate("review")
    edit(play, b"# Better\n")
    step = writing(play)
    approval = play.snapshot.approvals[step.approval_id]
    assert allows(approval, step)
    assert not allows(approval, replace(step, arguments_json=step.arguments_json.replace("Better", "Worse")))
    assert not allows(approval, replace(step, id="another"))
    assert not allows(approval, replace(step, approval_preimage=step.approval_preimage + " "))
    assert not allows(replace(approval, consume_time=0), step)  # dispatched: its one use


@pytest.mark.parametrize("outcome", ["is_error", "failed"])
def test_an_edit_that_cannot_be_written_back_fails_the_attempt(outcome: str) -> None:
    play = at_gate("review")
    edit(play, b"# Better\n")
    if outcome == "failed":
        play.fail("HUMAN_REQUIRED")
    else:
        play.outcome("SUCCEEDED", result=ToolResult("no room", is_error=True))
    assert (state(play), [a.kind for a in play.pending]) == ("FAILED", ["FAILURE"])
    assert "could not be written back" in play.pending[0].preview.text


def test_changes_asked_for_after_an_edit_wait_until_it_is_written_and_tell_of_it() -> None:
    play = answered(REPORT, DATA, gates=("review",))
    play.files(report_md=b"# R", data_json=b'{"n": 1}')
    report, data = play.pending
    play.has_room = False
    edit(play, b"# Better\n", report)
    play.decide("REQUEST_CHANGES", data, "more")
    assert play.flying == []
    play.has_room = True
    play.do()
    assert [s.tool for s in play.flying] == ["write_file"]
    play.result("written")
    assert "report.md is now as anna has edited it" in play.seen().messages[-1].text


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe", "UTF-8"), (b"a\0b", "UTF-8"), (b"x" * 200_000, "can be written back")],
)
def test_an_edit_that_no_file_of_its_kind_can_be_is_refused(content: bytes, words: str) -> None:
    play = at_gate("review")
    with pytest.raises(InvalidInput, match=words):
        edit(play, content)
    assert (len(play.pending), len(artifacts(play))) == (1, 1)


def test_an_edit_must_satisfy_the_schema() -> None:
    play = answered(DATA, gates=("review",))
    play.files(data_json=b'{"n": 1}')
    with pytest.raises(InvalidInput, match="'n' is a required property"):
        edit(play, b"{}")


def test_an_edit_that_policy_denies_is_refused() -> None:
    play = Play().approved_plan(replace(leaving(gates=("review",)), agent="ask"))
    play.snapshot.session = replace(play.session, workspace=replace(play.session.workspace, root_id="root"))
    play.reply("done")
    play.files(report_md=b"x")
    with pytest.raises(InvalidInput, match="is not allowed: agent 'ask' may not use write_file"):
        edit(play, b"y")


def test_where_several_must_say_yes_nobody_edits_alone() -> None:
    play = at_gate("review", terms=ApprovalTerms(quorum=2))
    assert play.pending[0].allowed_actions == ["APPROVE", "REQUEST_CHANGES", "REJECT", "ABORT"]
    with pytest.raises(ActionNotAllowed):
        edit(play, b"# Mine\n")
    play.decide("APPROVE", by="anna")
    assert state(play) == "AWAITING_APPROVAL"
    play.decide("APPROVE", by="boris")
    assert state(play) == "SUCCEEDED"


def test_an_image_is_not_edited() -> None:
    play = answered(ExpectedArtifact("plot.png"), gates=("review",))
    play.files(plot_png=b"\x89PNG\r\n\x1a\n\x00")
    [approval] = play.pending
    assert approval.allowed_actions == ["APPROVE", "REQUEST_CHANGES", "REJECT", "ABORT"]
    with pytest.raises(ActionNotAllowed):
        edit(play, b"x")


def test_the_same_edit_again_is_the_same_answer() -> None:
    play = at_gate("review")
    [asked] = play.pending
    edit(play, b"# Better\n")
    approval = play.snapshot.approvals[asked.id]
    assert approval.decision is not None
    said = replace(approval.decision, edited_digest="", edited_artifact_id="")
    assert is_repeat(approval, said)
    assert not is_repeat(approval, replace(said, edited_sha256=hashlib.sha256(b"other").hexdigest()))


@pytest.mark.parametrize(
    ("action", "said", "field"),
    [
        ("EDIT", {}, "edited_artifact"),
        ("EDIT", {"edited_arguments_json": "{}"}, "edited_arguments_json"),
        ("APPROVE", {"edited_sha256": "0" * 64}, "edited_artifact"),
    ],
)
def test_an_edit_of_an_artifact_takes_bytes_and_nothing_else_does(action: str, said: Any, field: str) -> None:
    play = at_gate("review")
    with pytest.raises(InvalidInput) as refused:
        play.decide(action, **said)
    assert [v.field for v in refused.value.violations] == [field]


def test_bytes_go_with_no_other_kind_of_approval() -> None:
    play = Play()
    play.submit(draft())
    with pytest.raises(InvalidInput, match="edited_artifact"):
        play.decide("APPROVE", edited_sha256="0" * 64)


def test_a_limit_holds_back_the_writing_too() -> None:
    play = at_gate("review")
    play.snapshot.runs[play.run.id] = replace(play.run, budget=Budget(calls=3))
    edit(play, b"# Better\n")
    assert (play.flying, [a.kind for a in play.pending]) == ([], ["BUDGET"])


# --- what a plan may expect


@pytest.mark.parametrize(
    ("artifacts", "gates", "field"),
    [
        ([ExpectedArtifact("", path="a")], (), "artifacts[0].name"),
        ([ExpectedArtifact("a\nb", path="a")], (), "artifacts[0].name"),
        ([ExpectedArtifact("a", path="../a")], (), "artifacts[0].path"),
        ([ExpectedArtifact("a", path="/etc/passwd")], (), "artifacts[0].path"),
        ([ExpectedArtifact("a", path="d/")], (), "artifacts[0].path"),
        ([ExpectedArtifact("a"), ExpectedArtifact("a", path="b")], (), "artifacts[1]"),
        ([ExpectedArtifact("a"), ExpectedArtifact("b", path="./a")], (), "artifacts[1]"),
        ([ExpectedArtifact("a", media_type="text")], (), "artifacts[0].media_type"),
        ([ExpectedArtifact("a", schema_json="{")], (), "artifacts[0].schema_json"),
        ([ExpectedArtifact("a", schema_json='{"type": "no such type"}')], (), "artifacts[0].schema_json"),
        ([ExpectedArtifact("a", schema_json='{"$ref": "https://example.org/x"}')], (), "artifacts[0].schema_json"),
        ([], ("review",), "gates"),
        ([ExpectedArtifact("a")], ("x", "x"), "gates"),
        ([ExpectedArtifact("a")], ("",), "gates"),
    ],
)
def test_what_cannot_be_expected_is_refused_with_its_field(
    artifacts: list[ExpectedArtifact], gates: tuple[str, ...], field: str
) -> None:
    with pytest.raises(InvalidPlan) as refused:
        Play().submit(draft(replace(task("a"), artifacts=tuple(artifacts), gates=gates)))
    assert [v.field for v in refused.value.violations] == [f"subtasks[0].{field}"]


def test_what_is_expected_is_part_of_what_is_approved_and_shown() -> None:
    digests = set()
    for change in (leaving(), leaving(DATA), leaving(gates=("review",)), leaving(gates=("x",)), task("a")):
        play = Play()
        play.submit(draft(change))
        digests.add(line_of(play.pending[0].preimage, "plan_sha256"))
    assert len(digests) == 5
    shown = Play()
    shown.submit(draft(leaving(DATA, gates=("content", "release"))))
    text = shown.pending[0].preview.text
    assert 'Leaves data.json, by the JSON Schema {"required": ["n"]}.' in text
    assert "Gates: content, release." in text


def test_the_steps_of_a_gated_subtask_are_told_as_they_happen() -> None:
    play = at_gate("review")
    play.decide("APPROVE")
    mine = [e for e in play.events if isinstance(e, SubtaskStateChanged)]
    assert [e.trigger for e in mine] == ["started", "answered", "gate_asked", "succeeded"]


@pytest.mark.parametrize("on_expiry", ["DENY", "HALT", "ESCALATE"])
def test_a_gate_that_nobody_answers_in_time_ends_as_its_terms_say(on_expiry: str) -> None:
    terms = ApprovalTerms(wait=SECOND, on_expiry=on_expiry, escalation_roles=["director"])
    play = at_gate("review", terms=terms)
    [asked] = play.pending
    play.wait(2 * SECOND)
    assert play.snapshot.approvals[asked.id].state == "EXPIRED"
    [now] = play.pending
    if on_expiry == "DENY":
        assert (now.kind, state(play)) == ("FAILURE", "FAILED")
        assert "report.md was rejected at review" in now.preview.text
    else:
        assert (now.kind, now.gate, now.artifact_id) == ("ARTIFACT", "review", asked.artifact_id)
        assert (state(play), play.run.state) == ("AWAITING_APPROVAL", "PAUSED" if on_expiry == "HALT" else "WAITING")


def test_when_an_edit_cannot_be_written_back_nothing_more_is_asked_about_the_other_files() -> None:
    play = answered(ExpectedArtifact("one.md"), ExpectedArtifact("two.md"), gates=("review",))
    play.files(one_md=b"1", two_md=b"2")
    first, second = play.pending
    edit(play, b"edited", first)
    play.outcome("FAILED", writing(play), failure=failure("FATAL"))
    assert (play.snapshot.approvals[second.id].state, state(play)) == ("SUPERSEDED", "FAILED")
    assert [a.kind for a in play.pending] == ["FAILURE"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}] * 2}}, "$ref": "#/$defs/a"},
        {"properties": {"x": {"pattern": "^(a+)+$"}}},
        {"properties": {f"p{i}": {"type": "string"} for i in range(600)}},
    ],
    ids=["references", "patterns", "size"],
)
def test_a_schema_that_could_keep_everybody_waiting_is_not_taken(schema: dict[str, Any]) -> None:
    expected = ExpectedArtifact("data.json", schema_json=json.dumps(schema))
    with pytest.raises(InvalidPlan, match="schema_json"):
        Play().submit(draft(leaving(expected)))


def test_what_takes_too_long_to_check_against_its_schema_is_wrong() -> None:
    expected = ExpectedArtifact("data.json", schema_json=json.dumps({"items": {"anyOf": [{"type": "null"}] * 40}}))
    checked = check_bytes(expected, json.dumps([1] * 60_000).encode())
    assert checked.errors == ("has too many values to be checked against its schema",)
    many = json.dumps([{"n": n} for n in range(20_000)]).encode()
    assert check_bytes(ExpectedArtifact("data.json", schema_json='{"uniqueItems": true}'), many).errors == ()


def test_what_writes_an_edit_back_is_not_edited_again_where_a_person_is_asked_about_its_tool() -> None:
    play = at_gate("review")
    play.has_room = False
    edit(play, b"edited")
    tools = play.catalog.tools
    play.catalog = replace(
        play.catalog, tools={**tools, "write_file": replace(tools["write_file"], schema_digest="another")}
    )
    play.has_room = True
    play.do()
    [asked] = play.pending
    assert (asked.kind, asked.allowed_actions) == ("TOOL_CALL", ["APPROVE", "REJECT", "ABORT"])
    play.decide("APPROVE")
    play.result(step=writing(play))
    assert state(play) == "SUCCEEDED"


def test_writing_an_edit_back_is_asked_of_those_who_decide_about_such_writes() -> None:
    """Who may pass a gate must not thereby write what policy has others say yes to."""
    guarded = Rule("reports", "ASK", ("write_file",), paths=("report.md",), terms=ApprovalTerms(["release-manager"]))
    play = answered(gates=("review",))
    play.catalog = replace(play.catalog, policy=replace(play.catalog.policy, rules=(guarded, *POLICY.rules)))
    play.files(report_md=b"1")
    edit(play, b"edited")
    assert play.flying == []
    [asked] = play.pending
    assert (asked.kind, asked.terms.roles, asked.allowed_actions) == (
        "TOOL_CALL",
        ["release-manager"],
        ["APPROVE", "REJECT", "ABORT"],
    )
    play.decide("APPROVE", roles=["release-manager"])
    play.result(step=writing(play))
    assert state(play) == "SUCCEEDED"
