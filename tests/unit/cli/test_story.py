"""What is told of a run, line by line, and what is made visible before it is told."""

from cli.story import tell
from cli.view import SessionView
from cli.words import one_line, printable
from gen.assent.v1.event_pb2 import SessionEvent
from tests.unit.cli.demo_acts import SESSION, TOOL_STEP, step_started, whole_log
from tests.unit.cli.stand_in import RUN, event


def told(events: list[SessionEvent]) -> list[str]:
    view = SessionView(SESSION)
    lines: list[str] = []
    for each in events:
        view.apply(each)
        lines.extend(line.text for line in tell(each, view))
    return lines


def test_a_whole_run_reads_as_a_story() -> None:
    assert told(whole_log()) == [
        f"session {SESSION}",
        "developer: an app",
        f"run {RUN} started",
        "IDLE → CLASSIFY",
        "CLASSIFY → PLAN_REQUIRED",
        "PLAN_REQUIRED → ARCHITECT_PLANNING",
        "plan v1 “An app” is a DRAFT of 1 subtask, by architect:",
        "  code: Write it (coder)",
        "ARCHITECT_PLANNING → PLAN_REVIEW",
        "? PLAN An app  approval 00000000-0000-0000-0000-000000000065",
        "plan v1 DRAFT → APPROVED by developer",
        "PLAN_REVIEW → PLAN_EXECUTION",
        "[code] Write it: RUNNING",
        "? TOOL_CALL write_file main.dart  approval 00000000-0000-0000-0000-000000000066",
        '  coder ▸ write_file {"path":"main.dart","content":"void main() {}\\n"}',
        "  ✓ write_file: wrote 15 bytes (0 ms)",
        "[code] Write it: SUCCEEDED",
        "coder: Done.",
        "run COMPLETED: 3 model calls, 1 tool call, 900 + 100 tokens, $0.0000",
        "PLAN_EXECUTION → COMPLETED",
    ]


def test_what_did_not_go_smoothly_is_told_at_the_end_of_a_run() -> None:
    (line,) = told([event(run_finished={"run_id": RUN, "state": 6, "retries": 1, "faults": 4, "losses": 2})])
    assert line.endswith(", 1 new attempt, 4 faults, 2 lost executors")


def test_a_remembered_yes_is_told_with_what_it_means_and_whom_it_lets_pass() -> None:
    grant = {"id": "g1", "tool": "write_file", "constraint": "arguments.path == 'a'"}
    assert told(
        [
            event(grant_changed={"grant": grant, "trigger": "made", "actor": "anna"}),
            event(grant_changed={"grant": grant, "trigger": "revoked", "actor": "boris"}),
            event(grant_changed={"grant": grant, "trigger": "expired"}),
        ]
    ) == [
        "anna lets calls of write_file run unasked, where arguments.path == 'a' (grant g1)",
        "grant g1 was revoked by boris: calls of write_file are asked about again",
        "grant g1 has run out: calls of write_file are asked about again",
    ]


def test_a_limit_of_time_is_told_in_seconds_and_any_other_as_it_is() -> None:
    time = {"run_id": RUN, "limit_name": "work_duration", "limit": 60_000_000, "used": 60_250_000}
    calls = {"run_id": RUN, "limit_name": "calls", "limit": 60, "used": 60}
    assert told([event(budget_reached=time), event(budget_reached=calls)]) == [
        "the limit work_duration is reached: 60.2 s of 60.0 s",
        "the limit calls is reached: 60 of 60",
    ]


def test_every_payload_can_be_told_empty() -> None:
    """A newer server may leave out what this client expects; that is no reason to fall over."""
    for field in SessionEvent.DESCRIPTOR.oneofs_by_name["payload"].fields:
        each = SessionEvent(session_id=SESSION)
        getattr(each, field.name).SetInParent()
        told([each])


def test_who_did_it_is_told_where_it_is_somebody() -> None:
    change = {"run_id": RUN, "version": 1, "from_state": 1, "to_state": 2}
    by_a_person = told([event(plan_state_changed={**change, "actor": "ann"})])
    by_the_engine = told([event(plan_state_changed={**change, "actor": "engine"})])
    assert [*by_a_person, *by_the_engine] == ["plan v1 DRAFT → APPROVED by ann", "plan v1 DRAFT → APPROVED"]


def test_a_superseded_version_is_told_of_once_and_not_for_each_subtask_that_never_began() -> None:
    nodes = [{"id": f"k{n}", "key": f"k{n}", "title": "T", "state": 1} for n in (1, 2)]
    plan = {"id": "p1", "run_id": RUN, "version": 1, "state": 1}
    superseded = {"plan_id": "p1", "run_id": RUN, "version": 1, "from_state": 1, "to_state": 8, "actor": "ann"}
    ended = [{"subtask_id": f"k{n}", "key": f"k{n}", "run_id": RUN, "from_state": n, "to_state": 8} for n in (1, 2)]
    lines = told(
        [
            event(plan_drafted={"plan": plan, "subtasks": nodes}),
            event(plan_state_changed=superseded),
            *(event(subtask_state_changed=each) for each in ended),
        ]
    )
    assert lines[-2:] == ["plan v1 DRAFT → SUPERSEDED by ann", "[k2] T: CANCELLED"]


def test_a_pause_is_told_from_its_asking_to_its_end() -> None:
    changes = [
        {"from_state": 2, "trigger": "pause_requested", "to_state": 2, "actor": "ann", "reason": "lunch"},
        {"from_state": 2, "trigger": "paused", "to_state": 5, "actor": "ann", "reason": "lunch"},
        {"from_state": 5, "trigger": "resumed", "to_state": 4, "actor": "bob"},
        {"from_state": 4, "trigger": "running", "to_state": 2, "actor": "engine"},
        {"from_state": 1, "trigger": "pause_requested", "to_state": 1, "actor": "ann"},
        {"from_state": 3, "trigger": "resumed", "to_state": 4, "actor": "bob"},
    ]
    assert told([event(run_state_changed={"run_id": RUN, **change}) for change in changes]) == [
        "nothing more starts in the run: a pause was asked by ann: lunch",
        "the run is paused by ann: lunch",
        "the run was resumed by bob",
        "a queued run is to be paused when its turn comes: asked by ann",
    ]


def test_a_failed_call_says_whether_it_is_tried_again() -> None:
    failed = {"step_id": TOOL_STEP, "run_id": RUN, "kind": 2, "tool": "write_file", "failure": {"message": "disk full"}}
    lines = told([step_started(TOOL_STEP, tool="write_file"), event(step_finished={**failed, "state": 1})])
    assert lines[-1] == "  ✗ write_file: disk full; it is tried again"


def test_an_unpriced_model_makes_the_cost_a_lower_bound() -> None:
    usage = {"model_calls": 1, "unpriced_calls": 1, "cost_usd_micros": 1500}
    (line,) = told([event(run_finished={"run_id": RUN, "state": 6, "usage": usage})])
    assert line.endswith("at least $0.0015")


def test_nothing_a_model_wrote_can_command_the_terminal() -> None:
    assert printable("\x1b[2Jrm -rf\u202e /\r") == "\\x1b[2Jrm -rf\\u202e /\\x0d"
    assert printable("обычный текст\n\tс отступом ✓") == "обычный текст\n\tс отступом ✓"


def test_a_long_text_is_cut_to_a_line() -> None:
    assert one_line("a\nb  c") == "a b c"
    assert one_line("x" * 200, 10) == "xxxxxxxxx…"
