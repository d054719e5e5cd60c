"""Whose turn it is when executors have room: by priority, the longest waiting first, nobody who could not use it."""

from orchestrator.engine.room import WaitingForRoom

A, B, C, D = [("t", name) for name in "abcd"]


def test_the_higher_priority_is_first_then_the_longest_waiting() -> None:
    waiting = WaitingForRoom()
    for key, priority in ((A, 0), (B, 5), (C, 0)):
        waiting.join(key, priority, lacks_slot=True)
    assert waiting.offer(2) == [B, A]
    assert (waiting.offer(2), len(waiting)) == ([C], 0)


def test_who_needs_what_nobody_offers_takes_no_turn_of_those_whom_a_slot_helps() -> None:
    waiting = WaitingForRoom()
    waiting.join(A, 5, lacks_slot=False)
    waiting.join(B, 5, lacks_slot=False)
    waiting.join(C, 0, lacks_slot=True)
    assert waiting.offer(1) == [C]
    assert waiting.offer(1) == [A]  # nobody else wants it
    assert (waiting.declined(C), waiting.declined(A)) == (True, False)


def test_when_more_is_offered_all_wait_by_priority_again() -> None:
    waiting = WaitingForRoom()
    waiting.join(A, 5, lacks_slot=False)
    waiting.join(B, 0, lacks_slot=True)
    waiting.offers_changed()
    assert waiting.offer(1) == [A]
    assert waiting.declined(A)
    waiting.leave(B, 0)
    assert len(waiting) == 0
