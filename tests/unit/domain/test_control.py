"""Pausing, resuming and cancelling a run, closing a session: from wherever they are."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.domain.change import Change
from orchestrator.domain.commands import receive_message, submit_plan
from orchestrator.domain.control import cancel, close, pause, resume
from orchestrator.domain.errors import ApprovalAlreadyResolved, InvalidPlan, WrongState
from orchestrator.domain.events import (
    RunFinished,
    RunQueued,
    RunStarted,
    RunStateChanged,
    SessionClosed,
    SessionStateChanged,
    StepFinished,
    event_name,
)
from orchestrator.domain.records import Run
from orchestrator.domain.states import SESSION, SessionState
from tests.unit.domain.build import AGENTS, SECOND, Play, call, catalog, draft, route_answer, task


def idle() -> Play:
    return Play()


def classify() -> Play:
    play = Play()
    play.say()
    return play


def plan_required() -> Play:
    """Passed through within one change: stored only while a command has to leave the rest to the session's owner."""
    play = Play()
    change = play.change()
    receive_message(change, "make it", "architect", "anna", play.catalog)
    play.keep(change)
    return play


def architect_planning() -> Play:
    play = classify()
    play.reply(route_answer("complex"))
    return play


def plan_review() -> Play:
    play = Play()
    play.submit(draft(task("a"), task("b", "a")))
    return play


def plan_execution() -> Play:
    """One subtask's tool runs, another's waits for approval, a third one's model is called; a fourth depends on one."""
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), task("d", "a"), parallel_limit=3)
    one, other, _ = play.flying
    play.reply("", call("read_file", path="x"), step=one)
    play.reply("", call("write_file", path="x"), step=other)
    return play


def execution() -> Play:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("send_mail"), call("write_file", "c2", path="a"))
    return play


def with_a_timer() -> Play:
    play = Play()
    play.say(agent="ask")
    play.fail("RETRYABLE")
    assert play.session.due_time
    return play


def error_handling() -> Play:
    play = Play()
    play.approved_plan(task("a"), task("b"), parallel_limit=2)
    play.fail("FATAL")
    return play


def completed() -> Play:
    play = Play()
    play.say(agent="ask")
    play.reply("done")
    return play


def closed() -> Play:
    play = execution()
    play.close()
    return play


def paused(play: Play) -> Play:
    """Pause it, and let what is in flight end."""
    play.pause()
    while play.flying:
        step = play.flying[0]
        if step.kind == "TOOL":
            play.result(step=step)
        else:
            play.reply("done", step=step)
    assert play.run.state == "PAUSED"
    return play


BUSY: dict[SessionState, Callable[[], Play]] = {
    SessionState.CLASSIFY: classify,
    SessionState.PLAN_REQUIRED: plan_required,
    SessionState.ARCHITECT_PLANNING: architect_planning,
    SessionState.PLAN_REVIEW: plan_review,
    SessionState.PLAN_EXECUTION: plan_execution,
    SessionState.EXECUTION: execution,
    SessionState.ERROR_HANDLING: error_handling,
}
AT_REST: dict[SessionState, Callable[[], Play]] = {
    SessionState.IDLE: idle,
    SessionState.COMPLETED: completed,
    SessionState.CLOSED: closed,
}
ACTIVE = [
    *(pytest.param(make, id=state) for state, make in BUSY.items()),
    pytest.param(with_a_timer, id="with a timer pending"),
]


def test_every_state_of_a_session_is_tried() -> None:
    assert {**BUSY, **AT_REST}.keys() == set(SessionState)
    for state, make in {**BUSY, **AT_REST}.items():
        assert make().session.state == state


def refused(command: Callable[[], object]) -> WrongState:
    with pytest.raises(WrongState) as caught:
        command()
    return caught.value


def expect_over(play: Play, run: Run) -> None:
    """Nothing of the run is open, and every call has one result."""
    snapshot = play.snapshot
    assert snapshot.runs[run.id].state == "CANCELLED"
    assert {s.state for s in play.steps if s.run_id == run.id} <= {"SUCCEEDED", "FAILED", "REJECTED", "CANCELLED"}
    assert all(s.result for s in play.calls if s.run_id == run.id)
    assert all(a.state != "PENDING" for a in snapshot.approvals.values() if a.run_id == run.id)
    assert all(a.state != "RUNNING" for a in snapshot.attempts.values() if a.run_id == run.id)
    assert {s.state for s in snapshot.subtasks.values() if s.run_id == run.id} <= {"SUCCEEDED", "CANCELLED"}
    assert {p.state for p in snapshot.plans.values() if p.run_id == run.id} <= {"CANCELLED"}
    last = [e for e in play.events if isinstance(e, StepFinished) and e.run_id == run.id]
    final = [e.step_id for e in last if e.state not in ("PENDING", "APPROVED")]
    assert len(final) == len(set(final)), "a step ended twice"


# --- cancelling


@pytest.mark.parametrize("held", [False, True], ids=["running", "paused"])
@pytest.mark.parametrize("make", ACTIVE)
def test_a_run_is_cancelled_wherever_it_is_and_the_next_one_starts(make: Callable[[], Play], held: bool) -> None:
    play = paused(make()) if held else make()
    play.say("next", agent="ask")
    run, flying = play.run, play.flying
    change = play.cancel(run.id)
    expect_over(play, run)
    assert [step.id for step in change.ends] == [step.id for step in flying]
    assert [e.reason for e in change.events if isinstance(e, RunFinished)] == ["no longer wanted"]
    assert play.snapshot.runs[run.id].cancel_reason == "no longer wanted"
    assert (play.run.goal, play.session.state, play.session.settled) == ("next", "EXECUTION", False)
    for step in flying:
        assert play.outcome("FAILED", step).events == [], "what an executor says after the cancel changes nothing"


def test_cancelling_a_run_that_awaits_its_pause_leaves_no_pause() -> None:
    play = execution()
    play.pause()
    run = play.run
    play.cancel()
    expect_over(play, run)
    assert play.snapshot.runs[run.id].pause is None


def test_who_was_queued_behind_a_cancelled_run_is_behind_the_one_before_it() -> None:
    play = Play()
    for text in ("one", "two", "three"):
        play.say(text, agent="ask")
    one, two, three = sorted(play.snapshot.runs.values(), key=lambda r: r.queue_number)
    play.cancel(two.id)
    assert play.snapshot.runs[three.id].queued_behind_run_id == one.id


# --- pausing


@pytest.mark.parametrize("make", ACTIVE)
def test_a_run_is_paused_where_it_is_and_goes_on_from_there(make: Callable[[], Play]) -> None:
    play, twin = make(), make()
    before, flying = play.session, play.flying
    play.pause()
    assert play.run.pause is not None
    assert (play.run.pause.requester, play.run.pause.reason) == ("anna", "lunch")
    assert play.run.state == ("RUNNING" if flying else "PAUSED")
    assert (play.session.state, play.session.settled) == (before.state, not flying)
    assert (play.session.runnable, play.session.due_time) == (bool(flying), 0)
    started = len(play.steps)
    for step in flying:
        play.result(step=step) if step.kind == "TOOL" else play.reply("done", step=step)
        twin.result(step=step) if step.kind == "TOOL" else twin.reply("done", step=step)
    assert (play.run.state, play.flying, len(play.steps)) == ("PAUSED", [], started)
    assert [s.state for s in play.steps if s.id in {f.id for f in flying}] == ["SUCCEEDED"] * len(flying)
    assert (play.session.runnable, play.session.due_time, play.session.settled) == (False, 0, True)
    play.wait(60 * SECOND)
    assert play.run.state == "PAUSED", "timers start nothing"

    play.resume()
    twin.wait(60 * SECOND)
    assert play.session.state == twin.session.state
    assert len(play.flying) == len(twin.flying)
    assert len(play.pending) == len(twin.pending)
    if twin.session.active_run_id:
        assert play.run.state == twin.run.state
        assert play.run.pause is None


def test_the_pause_and_its_end_are_in_the_log() -> None:
    play = execution()
    run = play.run
    play.pause()
    play.result()
    play.resume()
    changes = [(e.from_state, e.trigger, e.to_state, e.actor) for e in play.events if isinstance(e, RunStateChanged)]
    assert changes == [
        ("RUNNING", "pause_requested", "RUNNING", "anna"),
        ("RUNNING", "paused", "PAUSED", "anna"),
        ("PAUSED", "resumed", "RESUMED", "boris"),
        ("RESUMED", "running", "RUNNING", "engine"),
        ("RUNNING", "waiting", "WAITING", "engine"),
    ]
    assert run.id == play.run.id


def test_a_run_that_waits_is_paused_at_once_and_waits_again_after_the_resume() -> None:
    play = plan_review()
    [approval] = play.pending
    play.pause()
    assert play.run.state == "PAUSED"
    assert play.pending == [approval]
    play.resume()
    assert (play.run.state, play.pending, play.session.state) == ("WAITING", [approval], "PLAN_REVIEW")


def test_a_decision_on_a_paused_run_is_recorded_and_takes_effect_after_the_resume() -> None:
    play = plan_review()
    play.pause()
    change = play.decide("APPROVE")
    assert not [e for e in change.events if isinstance(e, RunStateChanged)]
    assert (play.run.state, play.plan.state, play.session.state) == ("PAUSED", "APPROVED", "PLAN_EXECUTION")
    assert (play.flying, play.steps, play.session.settled) == ([], [], True)
    play.resume()
    assert (play.run.state, play.plan.state, len(play.flying)) == ("RUNNING", "IN_PROGRESS", 1)


def test_a_call_approved_while_its_run_is_paused_starts_after_the_resume() -> None:
    play = Play()
    play.say(agent="coder")
    play.reply("", call("write_file", path="a"))
    play.pause()
    play.decide("APPROVE")
    [step] = play.calls
    assert (play.run.state, step.state, step.dispatch_number) == ("PAUSED", "APPROVED", 0)
    play.resume()
    assert [s.id for s in play.flying] == [step.id]


def test_a_decision_between_the_pause_and_its_taking_hold_starts_nothing() -> None:
    play = execution()
    play.pause()
    play.decide("APPROVE")
    assert [s.tool for s in play.flying] == ["send_mail"]
    play.result()
    assert (play.run.state, play.flying) == ("PAUSED", [])
    play.resume()
    assert [s.tool for s in play.flying] == ["write_file"]


@pytest.mark.parametrize("action", ["REJECT", "ABORT"])
def test_a_decision_that_ends_a_paused_run_ends_it(action: str) -> None:
    play = plan_review()
    run = play.run
    play.pause()
    play.decide(action)
    assert (play.snapshot.runs[run.id].state, play.session.state) == ("CANCELLED", "IDLE")


def test_the_answer_that_came_while_a_run_was_pausing_completes_it_after_the_resume() -> None:
    play = Play()
    play.say(agent="ask")
    play.pause()
    play.reply("the answer")
    assert (play.run.state, play.session.state) == ("PAUSED", "EXECUTION")
    play.resume()
    assert (play.session.state, play.session.active_run_id) == ("COMPLETED", "")


def test_a_pause_that_has_not_taken_hold_is_withdrawn() -> None:
    play = execution()
    play.pause()
    change = play.resume()
    assert (play.run.state, bool(play.run.pause)) == ("RUNNING", False)
    assert [e.trigger for e in change.events if isinstance(e, RunStateChanged)] == ["pause_withdrawn"]
    play.result()
    assert play.run.state == "WAITING"


def test_a_step_that_failed_for_a_while_is_not_repeated_until_the_resume() -> None:
    play = Play()
    play.say(agent="ask")
    play.pause()
    play.fail("RETRYABLE")
    assert (play.run.state, play.session.due_time) == ("PAUSED", 0)
    play.resume()
    assert (play.run.state, play.flying) == ("RUNNING", [])
    play.wait(play.session.due_time - play.now)
    assert len(play.flying) == 1


def test_a_run_that_waits_for_room_is_paused_at_once() -> None:
    play = Play()
    play.has_room = False
    play.say(agent="ask")
    play.pause()
    play.has_room = True
    play.do()
    assert (play.run.state, play.flying, play.session.due_time) == ("PAUSED", [], 0)
    play.resume()
    assert len(play.flying) == 1


def test_a_queued_run_is_paused_when_its_turn_comes_and_those_behind_it_wait() -> None:
    play = Play()
    for text in ("one", "two", "three"):
        play.say(text, agent="ask")
    two, three = sorted((r for r in play.snapshot.runs.values() if r.state == "CREATED"), key=lambda r: r.queue_number)
    play.pause(two.id)
    assert play.snapshot.runs[two.id].state == "CREATED"
    assert play.run.state == "RUNNING"
    change = play.reply("done")
    assert (play.run.id, play.run.state, play.flying) == (two.id, "PAUSED", [])
    assert play.snapshot.runs[three.id].state == "CREATED"
    assert play.session.settled
    assert [e.goal for e in change.events if isinstance(e, RunStarted)] == ["two"]
    play.resume(two.id)
    play.reply("done")
    assert play.run.id == three.id


def test_a_queued_plan_that_is_paused_asks_when_its_turn_comes() -> None:
    play = Play()
    play.say(agent="ask")
    play.submit(draft(task("a")))
    queued = next(r for r in play.snapshot.runs.values() if r.state == "CREATED")
    play.pause(queued.id)
    play.reply("done")
    assert (play.run.state, play.session.state, len(play.pending)) == ("PAUSED", "PLAN_REVIEW", 1)
    play.resume()
    assert play.run.state == "WAITING"


def test_a_run_that_waits_for_its_tenants_room_keeps_its_place_through_a_pause() -> None:
    play = Play()
    play.may_run = False
    play.say(agent="ask")
    [run] = play.snapshot.runs.values()
    play.pause(run.id)
    assert play.snapshot.runs[run.id].waits_for == run.waits_for == "RUNS_PER_TENANT"
    play.resume(run.id)
    assert len([e for e in play.events if isinstance(e, RunQueued)]) == 1, "said once"
    play.pause(run.id)
    play.may_run = True
    play.do()
    assert (play.run.state, play.run.waits_for, play.flying) == ("PAUSED", "", [])
    play.may_run = False
    play.resume()
    assert (play.run.state, play.run.waits_for, play.flying) == ("RESUMED", "RUNS_PER_TENANT", [])
    play.pause()
    assert (play.run.state, play.run.waits_for) == ("PAUSED", "")
    play.may_run = True
    play.resume()
    assert (play.run.state, len(play.flying)) == ("RUNNING", 1)


def test_a_queued_runs_pause_is_withdrawn() -> None:
    play = Play()
    play.say("one", agent="ask")
    play.say("two", agent="ask")
    queued = next(r for r in play.snapshot.runs.values() if r.state == "CREATED")
    play.pause(queued.id)
    play.resume(queued.id)
    play.reply("done")
    assert (play.run.id, play.run.state) == (queued.id, "RUNNING")


@pytest.mark.parametrize("make", [execution, plan_review], ids=["in flight", "waiting"])
def test_a_pause_that_was_asked_already_is_left_as_it_is_until_it_is_in_force(make: Callable[[], Play]) -> None:
    play = make()
    play.pause()
    change = play.change()
    if play.run.state == "PAUSED":
        error = refused(lambda: pause(change, play.run.id, "boris", "again"))
        assert (error.state, error.accepting) == ("PAUSED", ("CREATED", "RUNNING", "WAITING", "RESUMED"))
    else:
        assert pause(change, play.run.id, "boris", "again") == play.run
    assert change.is_empty


@pytest.mark.parametrize("make", [execution, plan_review], ids=["running", "waiting"])
def test_a_run_that_nobody_paused_is_not_resumed(make: Callable[[], Play]) -> None:
    play = make()
    change = play.change()
    error = refused(lambda: resume(change, play.run.id, "boris", ""))
    assert (error.state, error.accepting) == (play.run.state, ("PAUSED",))
    assert change.is_empty


@pytest.mark.parametrize("command", [pause, resume, cancel])
def test_a_run_that_has_ended_is_steered_no_more(command: Callable[[Change, str, str, str], Run]) -> None:
    play = Play()
    play.say(agent="ask")
    run = play.run
    play.cancel()
    change = play.change()
    assert refused(lambda: command(change, run.id, "anna", "")).state == "CANCELLED"
    assert change.is_empty


# --- closing


@pytest.mark.parametrize("queued", [False, True], ids=["alone", "with runs queued"])
@pytest.mark.parametrize(
    "make",
    [*ACTIVE, *(pytest.param(make, id=state) for state, make in AT_REST.items() if make is not closed)],
)
def test_closing_ends_all_that_runs_and_waits_in_one_change(make: Callable[[], Play], queued: bool) -> None:
    play = make()
    if queued:
        play.submit(draft(task("a")))
        play.say("next")
    open_runs = [r for r in play.snapshot.runs.values() if r.state not in ("CANCELLED", "COMPLETED")]
    flying = play.flying
    change = play.close()
    assert (play.session.state, play.session.active_run_id) == ("CLOSED", "")
    assert (play.session.settled, play.session.runnable, play.session.due_time) == (True, False, 0)
    for run in open_runs:
        expect_over(play, run)
    assert [step.id for step in change.ends] == [step.id for step in flying]
    assert not play.flying
    assert change.events[-1] == SessionClosed("anna", "all done")
    assert [e.run_id for e in change.events if isinstance(e, RunFinished)] == [r.id for r in open_runs]
    assert [e.to_state for e in change.events if isinstance(e, SessionStateChanged)][-1] == "CLOSED"
    for step in flying:
        assert play.outcome("SUCCEEDED", step).events == []


def test_a_closed_session_takes_nothing_more() -> None:
    play = plan_review()
    run, [approval] = play.run, play.pending
    play.close()
    play.snapshot.runs[run.id] = replace(run, state="CANCELLED")
    change = play.change()
    commands: list[Callable[[], object]] = [
        lambda: receive_message(change, "hi", "ask", "anna", play.catalog),
        lambda: submit_plan(change, draft(), "", "anna", play.catalog),
        lambda: resume(change, run.id, "anna", ""),
        lambda: close(change, "anna", "again"),
    ]
    for command in commands:
        refused(command)
    with pytest.raises(ApprovalAlreadyResolved) as caught:
        play.decide("APPROVE", approval=play.snapshot.approvals[approval.id])
    assert caught.value.state == "CANCELLED"
    assert change.is_empty
    error = refused(lambda: close(change, "anna", ""))
    assert set(error.accepting) == set(SESSION.states) - {"CLOSED"}


# --- interrupting


@pytest.mark.parametrize("by", ["message", "plan"])
@pytest.mark.parametrize("make", ACTIVE)
def test_what_interrupts_ends_what_was_there_and_begins_in_one_change(make: Callable[[], Play], by: str) -> None:
    play = make()
    play.say("queued while the session still queued", agent="ask")
    play.snapshot.session = replace(play.session, when_busy="INTERRUPT")
    old = [r for r in play.snapshot.runs.values() if r.state not in ("CANCELLED", "COMPLETED")]
    flying = play.flying
    change = play.say("stop, do this", agent="coder") if by == "message" else play.submit(draft(task("z")))
    for run in old:
        expect_over(play, run)
        assert play.snapshot.runs[run.id].cancel_reason == f"interrupted by a {by} of anna"
    assert [step.id for step in change.ends] == [step.id for step in flying]
    assert play.session.state == ("EXECUTION" if by == "message" else "PLAN_REVIEW")
    assert (play.run.state, play.run.queued_behind_run_id) == ("RUNNING" if by == "message" else "WAITING", "")
    names = [event_name(type(e)) for e in change.events]
    first = "message_created" if by == "message" else "plan_drafted"
    assert names.index(first) == 0
    assert names.index("run_finished") < names.index("run_started")
    assert "run_queued" not in names


def test_a_message_to_a_session_at_rest_interrupts_nothing() -> None:
    play = Play(when_busy="INTERRUPT")
    play.say(agent="ask")
    play.reply("done")
    change = play.say(agent="ask")
    assert not [e for e in change.events if isinstance(e, RunFinished)]
    assert play.session.state == "EXECUTION"


def test_each_of_two_interrupting_messages_ends_the_one_before_it() -> None:
    play = Play(when_busy="INTERRUPT")
    for text in ("one", "two", "three"):
        play.say(text, agent="ask")
    assert sorted(r.state for r in play.snapshot.runs.values()) == ["CANCELLED", "CANCELLED", "RUNNING"]
    assert (play.run.goal, len(play.flying)) == ("three", 1)


def test_a_paused_run_is_interrupted_too() -> None:
    play = Play(when_busy="INTERRUPT")
    play.submit(draft(task("a")))
    run = play.run
    play.pause()
    play.say("something else", agent="ask")
    expect_over(play, run)
    assert (play.run.goal, play.run.state) == ("something else", "RUNNING")


def test_an_interrupting_plan_that_does_not_do_interrupts_nothing() -> None:
    play = Play(catalog(agents=AGENTS), when_busy="INTERRUPT")
    play.say(agent="ask")
    change = play.change()
    with pytest.raises(InvalidPlan):
        submit_plan(change, draft(task("a", "a")), "", "anna", play.catalog)
    assert change.is_empty
    assert play.run.state == "RUNNING"
