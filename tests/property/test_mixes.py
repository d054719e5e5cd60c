"""Several calls in one reply, decided one by one in any order and any mix: the model goes on once, when all have ended,
and reads exactly one result of each, in the order in which it called."""

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.records import is_done
from tests.property.mixes import WAYS, Mix
from tests.property.rules import History, check_conversation, check_liveness, check_results


def check(mix: Mix) -> None:
    """What holds after every single thing that happens."""
    play = mix.play
    check_results(play.snapshot)
    check_liveness(play.snapshot)
    all_done = not mix.open
    assert mix.went_on == (1 if all_done and play.run.pause is None else 0)
    if all_done and play.run.pause is None:
        check_end(mix)


def check_end(mix: Mix) -> None:
    [model] = mix.play.flying
    assert model.kind == "MODEL"
    messages = mix.play.seen(model).messages
    check_conversation(messages)
    read = [m for m in messages if m.role == "TOOL"][-len(mix.ways) :]
    assert [m.call_id for m in read] == [f"c{n}" for n in range(len(mix.ways))]
    for message, way in zip(read, mix.ways, strict=True):
        assert way.reads.replace("{id}", message.call_id) in message.text
        assert message.is_error is way.is_error
    assert not mix.play.pending
    assert all(is_done(step) for step in mix.play.calls)


def to_the_end(mix: Mix, turns: list[int]) -> None:
    """Each turn something happens to one of the calls that are open, until none is."""
    history = History()
    check(mix)
    for turn in [*turns, *[0] * 6 * len(mix.ways)]:
        if not mix.open:
            break
        mix.act(mix.open[turn % len(mix.open)])
        check(mix)
    if mix.play.run.pause is not None:
        mix.play.resume()
    assert not mix.open
    check(mix)
    for event in mix.play.events:
        history.follow(event)
    history.check(mix.play.snapshot)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_by_itself(way: str) -> None:
    to_the_end(Mix(way), [])


@pytest.mark.parametrize("first", WAYS)
def test_each_way_beside_each_other_whichever_ends_first(first: str) -> None:
    for one, other in combinations_with_replacement(WAYS, 2):
        if first in (one, other):
            for turns in ([0] * 8, [1] * 8, [0, 1] * 8, [1, 0] * 8):
                to_the_end(Mix(first, other if one == first else one), turns)


@given(st.lists(st.sampled_from(sorted(WAYS)), min_size=3, max_size=8), st.lists(st.integers(0, 7), max_size=30))
def test_any_mix_in_any_order(ways: list[str], turns: list[int]) -> None:
    to_the_end(Mix(*ways), turns)


def test_every_way_at_once() -> None:
    to_the_end(Mix(*WAYS), list(range(60)))
