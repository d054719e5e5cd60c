"""When a failing executor is left alone, for how long, and what makes it whole again."""

from orchestrator.engine.breaker import FAILURES_LIMIT, LONGEST_PAUSE_SECONDS, REFUSALS_LIMIT, Breaker


def broken(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_LIMIT):
        breaker.failed(now)
    return breaker


def test_a_few_failures_are_borne_if_something_works_in_between() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES_LIMIT - 1):
            assert not breaker.failed(0)
        assert breaker.admits(0)
        assert not breaker.worked()
    assert breaker.is_closed


def test_failures_without_anything_in_between_open_it_for_a_pause() -> None:
    breaker = broken(now=5)
    assert not breaker.is_closed
    assert not breaker.admits(5.9)
    assert breaker.admits(6)


def test_when_the_pause_ends_one_step_goes_until_it_is_known_what_became_of_it_or_another_pause_has_passed() -> None:
    breaker = broken()
    breaker.admitted(1)
    assert not breaker.admits(1.9)
    assert breaker.admits(2)


def test_a_try_that_fails_opens_it_for_twice_as_long_up_to_a_limit() -> None:
    breaker, now, pauses = broken(), 0.0, []
    for _ in range(7):
        now += breaker.pause_seconds
        assert breaker.admits(now)
        breaker.admitted(now)
        assert breaker.failed(now)
        pauses.append(breaker.pause_seconds)
    assert pauses == [2, 4, 8, 16, 30, 30, 30]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_late_news_of_what_opened_it_opens_it_no_longer() -> None:
    breaker = broken()
    for _ in range(20):
        assert not breaker.failed(0.5)
        assert not breaker.refused(0.5)
    assert breaker.pause_seconds == 1
    assert breaker.admits(1)


def test_a_try_that_works_closes_it_and_forgets_what_was() -> None:
    breaker = broken()
    breaker.admitted(1)
    assert breaker.worked()
    assert breaker.is_closed
    assert not breaker.failed(2)
    assert breaker.admits(2)


def test_refusals_in_a_row_open_it_and_one_start_that_is_taken_breaks_the_row() -> None:
    breaker = Breaker()
    for _ in range(REFUSALS_LIMIT - 1):
        assert not breaker.refused(0)
    breaker.accepted()
    for _ in range(REFUSALS_LIMIT - 1):
        assert not breaker.refused(0)
    assert breaker.refused(0)
    assert not breaker.admits(0)


def test_that_a_step_was_taken_does_not_close_it_for_it_may_die_of_it() -> None:
    breaker = broken()
    breaker.admitted(1)
    breaker.accepted()
    assert not breaker.is_closed
