"""A run that finds no room among its tenant's runs stays as it is, says so once, and goes on when there is some."""

from orchestrator.domain.events import RunQueued
from orchestrator.domain.transitions import RUNS_PER_TENANT
from tests.unit.domain.build import Play, call, draft, task


def queued(play: Play) -> list[RunQueued]:
    return [e for e in play.events if isinstance(e, RunQueued) and e.waits_for == RUNS_PER_TENANT]


def test_a_new_run_without_room_stays_created_and_its_session_waits() -> None:
    play = Play()
    play.may_run = False
    change = play.say(agent="coder")
    [run] = play.snapshot.runs.values()
    assert (run.state, run.waits_for) == ("CREATED", RUNS_PER_TENANT)
    assert (change.running, change.starts) == (0, [])
    session = play.session
    assert (session.state, session.active_run_id, session.settled) == ("IDLE", "", False)
    assert (session.runnable, session.due_time, session.queue_time) == (False, 0, play.now)
    assert [e.run_id for e in queued(play)] == [run.id]


def test_it_says_once_that_it_waits_and_keeps_its_place() -> None:
    play = Play()
    play.may_run = False
    play.say(agent="coder")
    since = play.session.queue_time
    play.do()
    play.say("another", agent="coder")
    assert len(queued(play)) == 1
    assert play.session.queue_time == since


def test_when_there_is_room_it_starts_and_counts() -> None:
    play = Play()
    play.may_run = False
    play.say(agent="coder")
    play.may_run = True
    change = play.do()
    [run] = play.snapshot.runs.values()
    assert (run.state, run.waits_for, change.running) == ("RUNNING", "", 1)
    assert play.session.queue_time == 0
    assert len(change.starts) == 1


def test_a_parked_run_does_not_count_and_waits_resumed_for_room() -> None:
    play = Play()
    play.say(agent="coder")
    assert play.reply("", call("run_command")).running == -1
    assert play.session.queue_time == 0
    play.may_run = False
    change = play.decide("APPROVE")
    run = play.snapshot.run
    assert run is not None
    assert (run.state, run.waits_for, change.running) == ("RESUMED", RUNS_PER_TENANT, 0)
    assert (play.session.settled, play.session.queue_time) == (False, play.now)
    play.may_run = True
    assert play.do().running == 1


def test_a_session_that_goes_on_with_its_next_run_keeps_the_room_of_the_last() -> None:
    play = Play()
    play.say(agent="coder")
    play.say("and then", agent="coder")
    assert play.reply("done").running == 0


def test_a_plan_that_only_asks_needs_no_room() -> None:
    play = Play()
    assert play.submit(draft(task("a"))).running == 0
    assert play.decide("APPROVE").running == 1


def test_a_cancelled_run_that_waited_leaves_nothing_waiting() -> None:
    play = Play()
    play.may_run = False
    play.say(agent="coder")
    [run] = play.snapshot.runs.values()
    assert play.cancel(run.id).running == 0
    assert (play.session.queue_time, play.session.settled) == (0, True)
