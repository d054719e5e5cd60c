"""Turns are taken one at a time, first come first served, and never lost with whoever goes away."""

import asyncio

import pytest

from orchestrator.store.turns import Turns


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_in_line_have_their_turn_in_the_order_they_came() -> None:
    turns, order = Turns(), list[int]()

    async def take(n: int) -> None:
        async with turns.holding("key"):
            order.append(n)
            await asyncio.sleep(0)

    await asyncio.gather(*(take(n) for n in range(10)))
    assert order == list(range(10))


async def test_different_keys_do_not_wait_for_each_other() -> None:
    turns = Turns()
    await turns.take(["one"])
    await turns.take(["two"])


async def test_a_second_key_is_waited_for_while_the_first_is_held() -> None:
    turns = Turns()
    await turns.take(["request"])
    both = asyncio.create_task(turns.take(["session", "request"]))
    third = asyncio.create_task(turns.take(["session"]))
    await settle()
    assert not both.done()
    assert not third.done()
    turns.give_back(["request"])
    await both
    turns.give_back(["session", "request"])
    await third


async def test_who_goes_away_while_waiting_gives_back_what_was_held_and_the_line_moves_on() -> None:
    turns = Turns()
    await turns.take(["request"])
    leaving = asyncio.create_task(turns.take(["session", "request"]))
    next_for_session = asyncio.create_task(turns.take(["session"]))
    next_for_request = asyncio.create_task(turns.take(["request"]))
    await settle()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await next_for_session
    turns.give_back(["request"])
    await next_for_request


async def test_a_turn_given_to_somebody_who_goes_away_at_that_moment_goes_to_the_next() -> None:
    turns = Turns()
    await turns.take(["key"])
    leaving, following = asyncio.create_task(turns.take(["key"])), asyncio.create_task(turns.take(["key"]))
    await settle()
    turns.give_back(["key"])  # it is leaving's turn now, but it has not run yet
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await following


async def test_it_is_quiet_when_nobody_holds_anything() -> None:
    turns = Turns()
    await turns.quiet()
    await turns.take(["one", "two"])
    quiet = asyncio.create_task(turns.quiet())
    turns.give_back(["one"])
    await settle()
    assert not quiet.done()
    turns.give_back(["two"])
    await quiet
