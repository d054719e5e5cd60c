"""Attempts that follow by themselves: when, how often, from where; and what no policy may do."""

from dataclasses import replace

import pytest

from orchestrator.domain.catalog import Agent
from orchestrator.domain.events import AttemptSuperseded, RunFinished, SubtaskStateChanged
from orchestrator.domain.records import Failure, ModelReply, RetryPolicy
from orchestrator.domain.retries import DISPATCHES, MAX_LOSSES, backoff, check_policy, is_retryable
from tests.unit.domain.build import AGENTS, SECOND, Play, call, catalog, draft, failure, task

TWO = RetryPolicy(max_attempts=2, first_backoff=10 * SECOND)
THREE = RetryPolicy(max_attempts=3, first_backoff=10 * SECOND, longest_backoff=15 * SECOND)


def working(policy: RetryPolicy = TWO, said: RetryPolicy | None = None) -> Play:
    """A plan of one subtask is carried out; the policy is its agent's, `said` the plan's own word."""
    agents: list[Agent] = [replace(agent, retry_policy=policy) for agent in AGENTS]
    play = Play(catalog(agents=agents))
    return play.approved_plan(replace(task("a"), retry_policy=said))


def fail_for_good(
    play: Play, reason: str = "MODEL_ERROR", disposition: str = "RETRYABLE", retry_after: int = 0
) -> None:
    """The model call in flight fails until it is not dispatched again."""
    step_id = play.flying[0].id
    while (step := play.snapshot.steps[step_id]).state in ("PENDING", "DISPATCHED"):
        if step.state == "PENDING":
            play.wait(max(0, step.not_before_time - play.now))
        else:
            play.outcome("FAILED", step, failure=failure(disposition, reason), retry_after=retry_after)


def test_a_failed_attempt_of_a_subtask_is_followed_by_another_after_its_backoff() -> None:
    play = working()
    fail_for_good(play)
    subtask, [attempt] = play.subtask("a"), play.snapshot.attempts.values()
    assert (subtask.state, subtask.failure.reason, play.pending) == ("PENDING", "MODEL_ERROR", [])
    assert 5 * SECOND <= subtask.not_before_time - play.now <= 10 * SECOND
    assert subtask.not_before_time == attempt.retry_time == play.session.due_time
    assert (play.run.state, play.run.retries, play.session.state) == ("RUNNING", 1, "PLAN_EXECUTION")
    assert (play.session.runnable, play.session.settled) == (False, False)
    play.wait(subtask.not_before_time - play.now - 3)
    assert play.flying == []
    play.wait(3)
    assert (play.subtask("a").attempts, play.subtask("a").failure.reason) == (2, "")
    play.reply("done")
    assert play.subtask("a").state == "SUCCEEDED"


def test_a_watcher_is_told_which_attempt_no_longer_counts_and_when_the_next_begins() -> None:
    play = working()
    [attempt] = play.snapshot.attempts.values()
    fail_for_good(play)
    [told] = [e for e in play.events if isinstance(e, AttemptSuperseded)]
    assert (told.attempt_id, told.subtask_id) == (attempt.id, play.subtask("a").id)
    assert told.not_before_time == play.subtask("a").not_before_time
    assert "attempt 1 of 2 failed: MODEL_ERROR" in told.reason
    assert play.triggers(SubtaskStateChanged) == ["started", "retry_scheduled"]


def test_a_person_is_asked_only_when_no_attempts_are_left_and_their_retry_gives_all_of_them_again() -> None:
    play = working(THREE)
    for _ in range(2):
        for _ in range(2):
            fail_for_good(play)
            assert play.pending == []
            play.wait(15 * SECOND)
        fail_for_good(play)
        assert [a.kind for a in play.pending] == ["FAILURE"]
        assert play.pending[0].preview.text == "it broke\n\nIt was tried 3 times in a row."
        assert play.subtask("a").state == "FAILED"
        play.decide("RETRY")
    assert play.subtask("a").attempts == 7
    assert len([e for e in play.events if isinstance(e, AttemptSuperseded)]) == 6


def test_the_waits_grow_up_to_the_longest() -> None:
    policy = RetryPolicy(first_backoff=10 * SECOND, longest_backoff=70 * SECOND, factor=3.0)
    for number, longest in ((1, 10), (2, 30), (3, 70), (100, 70)):
        waits = [backoff(policy, number, f"id{n}") for n in range(200)]
        assert all(longest * SECOND / 2 <= wait <= longest * SECOND for wait in waits)
        assert len(set(waits)) > 150, "they would come back together"
        assert waits == [backoff(policy, number, f"id{n}") for n in range(200)]


@pytest.mark.parametrize(
    ("disposition", "reason", "again"),
    [
        ("RETRYABLE", "MODEL_ERROR", True),
        ("RETRYABLE", "MODEL_RATE_LIMITED", False),
        ("HUMAN_REQUIRED", "MODEL_ERROR", False),
        ("FATAL", "MODEL_ERROR", False),
        ("UNSPECIFIED", "MODEL_ERROR", False),
        ("", "", False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(disposition: str, reason: str, again: bool) -> None:
    policy = RetryPolicy(non_retryable_reasons=["MODEL_RATE_LIMITED"])
    assert is_retryable(Failure(reason, "", disposition), policy) is again


def test_a_reason_the_policy_lists_asks_at_once() -> None:
    play = working(replace(THREE, non_retryable_reasons=["MODEL_ERROR"]))
    fail_for_good(play)
    assert [a.kind for a in play.pending] == ["FAILURE"]


def test_the_plans_word_counts_more_than_the_agents() -> None:
    play = working(THREE, said=RetryPolicy(max_attempts=1))
    fail_for_good(play)
    assert [a.kind for a in play.pending] == ["FAILURE"]


def test_what_a_plan_says_of_retries_is_shown_to_who_approves_it() -> None:
    play = Play()
    policy = RetryPolicy(4, SECOND, 60 * SECOND, 1.5, ["MODEL_ERROR"])
    play.submit(draft(replace(task("a"), retry_policy=policy), task("b")))
    assert play.subtask("a").retry_policy == policy
    assert play.subtask("b").retry_policy is None
    lines = [line for line in play.pending[0].preview.text.splitlines() if "etries" in line]
    assert lines == ["   Retries: up to 4 attempts, 1 s to 60 s apart (× 1.5), never after MODEL_ERROR."]


@pytest.mark.parametrize(
    ("policy", "wrong"),
    [
        (RetryPolicy(max_attempts=0), "max_attempts"),
        (RetryPolicy(first_backoff=-1), "first_backoff"),
        (RetryPolicy(first_backoff=2, longest_backoff=1), "longest_backoff"),
        (RetryPolicy(factor=0.5), "factor"),
        (RetryPolicy(factor=float("nan")), "factor"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_by_its_field(policy: RetryPolicy, wrong: str) -> None:
    assert [v.field for v in check_policy(policy, "p")] == [f"p.{wrong}"]


@pytest.mark.parametrize(("asked", "waits"), [(3600, 3600), (86_400, 3600)])
def test_an_attempt_waits_as_long_as_the_provider_asks_within_reason(asked: int, waits: int) -> None:
    play = working()
    fail_for_good(play, retry_after=asked * SECOND)
    assert play.subtask("a").not_before_time == play.now + waits * SECOND


def test_a_provider_cannot_make_attempts_follow_faster_than_the_policy() -> None:
    play = working()
    fail_for_good(play, retry_after=1)
    assert play.subtask("a").not_before_time >= play.now + 5 * SECOND


@pytest.mark.parametrize(("agent", "session_state"), [("coder", "EXECUTION"), ("architect", "ARCHITECT_PLANNING")])
def test_answering_and_planning_are_tried_again_as_their_agent_says(agent: str, session_state: str) -> None:
    agents = [replace(a, retry_policy=TWO) for a in AGENTS]
    play = Play(catalog(agents=agents))
    play.say(agent=agent)
    fail_for_good(play)
    assert (play.pending, play.flying, play.session.state) == ([], [], session_state)
    assert 0 < play.session.due_time - play.now <= 10 * SECOND
    play.wait(10 * SECOND)
    assert [a.number for a in play.snapshot.attempts.values()] == [1, 2]
    fail_for_good(play)
    assert ([a.kind for a in play.pending], play.session.state) == (["FAILURE"], "ERROR_HANDLING")


def test_routing_is_not_tried_again_for_words_decide() -> None:
    play = Play()
    play.say("What is this?")
    fail_for_good(play)
    assert play.run.route == "ATOMIC"


# --- the work that was done


def test_the_next_attempt_goes_on_from_all_that_was_done_and_repeats_no_call() -> None:
    play = working()
    play.reply("I send it.", call("send_mail", "c1"))
    play.result("sent")
    fail_for_good(play)
    play.wait(10 * SECOND)
    messages = play.seen().messages
    said = [(m.role, m.text) for m in messages]
    assert ("ASSISTANT", "I send it.") in said
    assert ("TOOL", "sent") in said
    assert "Go on from where it stopped" in messages[-1].text
    assert [s.dispatch_number for s in play.calls] == [1]


# --- crashes are counted apart


def lose(play: Play) -> None:
    for _ in range(MAX_LOSSES):
        play.outcome("LOST")
        play.wait(DISPATCHES.longest_backoff)


def test_a_quarantined_step_is_not_tried_again_by_itself_and_uses_up_no_attempt() -> None:
    play = working(TWO)
    lose(play)
    assert (play.subtask("a").state, [a.kind for a in play.pending]) == ("FAILED", ["FAILURE"])
    play.decide("RETRY")
    fail_for_good(play)
    assert (play.subtask("a").state, play.pending) == ("PENDING", [])
    play.wait(10 * SECOND)
    lose(play)
    assert [a.kind for a in play.pending] == ["FAILURE"]
    assert play.run.losses == 2 * MAX_LOSSES
    play.decide("RETRY")
    fail_for_good(play)
    assert play.pending == []


def test_an_outage_of_executors_burns_neither_attempts_nor_faults() -> None:
    play = working(TWO)
    for reason in ("NO_SLOT", "DRAINING", "OTHER_INSTANCE", "NOT_OFFERED") * 5:
        play.outcome("REFUSED", failure=failure("RETRYABLE", reason))
        play.has_room = False
        play.wait(60 * SECOND)
        assert (play.flying, play.pending, play.run.state) == ([], [], "RUNNING")
        play.has_room = True
        play.wait(60 * SECOND)
    [step], subtask = play.flying, play.subtask("a")
    assert (step.faults, step.losses, subtask.attempts, play.run.retries) == (0, 0, 1, 0)


# --- timers


def test_several_timers_that_are_due_are_handled_at_once() -> None:
    play = Play()
    play.approved_plan(task("a"), task("b"), task("c"), parallel_limit=3)
    for step in play.flying:
        play.outcome("FAILED", step, failure=failure("RETRYABLE"))
    assert (play.flying, play.session.runnable, play.run.state) == ([], False, "RUNNING")
    assert play.session.due_time == min(s.not_before_time for s in play.steps)
    play.now = max(s.not_before_time for s in play.steps)
    assert len(play.do().starts) == 3


def test_the_retry_of_a_run_that_was_cancelled_wakes_nobody() -> None:
    play = working()
    fail_for_good(play)
    play.cancel()
    assert (play.session.due_time, play.session.runnable, play.session.settled) == (0, False, True)
    play.say(agent="coder")
    assert play.session.due_time == 0


def test_an_ended_run_says_how_smoothly_it_went() -> None:
    play = working()
    play.outcome("LOST")
    fail_for_good(play)
    play.wait(10 * SECOND)
    play.outcome("SUCCEEDED", reply=ModelReply("done"))
    run = next(iter(play.snapshot.runs.values()))
    [finished] = [e for e in play.events if isinstance(e, RunFinished)]
    assert (run.state, run.retries, run.faults, run.losses) == ("COMPLETED", 1, 4, 1)
    assert (finished.retries, finished.faults, finished.losses) == (1, 4, 1)
