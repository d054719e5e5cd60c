"""Records: copies that differ in what was changed, and values that compare as what they hold."""

import dataclasses
from typing import TYPE_CHECKING

import pytest

from orchestrator.domain import events, records
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Failure, Step, Usage

KINDS = {kind for kind in (*vars(records).values(), *vars(events).values()) if dataclasses.is_dataclass(kind)}


@pytest.fixture
def step() -> Step:
    return Step("default", "step", "session", "run", "attempt", "", "TOOL", "PROPOSED", "coder", 1, usage=Usage(1))


def test_a_copy_differs_in_what_was_changed_and_in_nothing_else(step: Step) -> None:
    copy = replace(step, state="APPROVED", failure=Failure("LOST"))
    expected = dataclasses.asdict(step) | {"state": "APPROVED", "failure": dataclasses.asdict(Failure("LOST"))}
    assert dataclasses.asdict(copy) == expected
    assert (step.state, step.failure) == ("PROPOSED", Failure())


def test_a_copy_with_nothing_changed_is_equal_and_another_object(step: Step) -> None:
    assert replace(step) == step
    assert replace(step) is not step


def test_a_field_that_the_record_does_not_have_is_refused(step: Step) -> None:
    with pytest.raises(AttributeError):
        replace(step, colour="red")  # type: ignore[call-arg]  # what is tried


def test_records_hash_by_what_they_hold() -> None:
    assert len({Failure("LOST"), Failure("LOST"), Failure("DENIED")}) == 2


@pytest.mark.parametrize("kind", sorted(KINDS, key=str), ids=str)
def test_every_field_of_every_record_is_copied(kind: type) -> None:
    names = [field.name for field in dataclasses.fields(kind)]
    made = kind(*names)
    assert [getattr(replace(made), name) for name in names] == names


if TYPE_CHECKING:
    # mypy says so if the checker does not refuse this: the ignore would be unused.
    Failure().reason = "changed"  # type: ignore[misc]
