"""What makes a plan's graph valid."""

import pytest

from orchestrator.domain.errors import Violation
from orchestrator.domain.graph import (
    MAX_DEPTH,
    MAX_INSTRUCTIONS,
    MAX_PLAN,
    MAX_SUBTASKS,
    SubtaskDraft,
    check_plan,
)
from tests.unit.domain.build import task

AGENTS = ["coder", "ask"]


def problems(*drafts: SubtaskDraft) -> list[tuple[str, str]]:
    return [(v.field, v.description) for v in check_plan(drafts, AGENTS)]


def chain(length: int) -> list[SubtaskDraft]:
    return [task("k0"), *(task(f"k{i}", f"k{i - 1}") for i in range(1, length))]


def test_a_diamond_is_valid() -> None:
    assert problems(task("a"), task("b", "a"), task("c", "a"), task("d", "b", "c")) == []


def test_a_subtask_may_be_listed_before_what_it_depends_on() -> None:
    assert problems(task("b", "a"), task("a")) == []


def test_an_empty_plan_is_refused() -> None:
    assert problems() == [("subtasks", "a plan needs at least one subtask")]


def test_a_cycle_is_named_key_by_key() -> None:
    [(field, words)] = problems(task("start"), task("a", "start", "c"), task("b", "a"), task("c", "b"))
    assert field == "subtasks"
    cycle = words.removeprefix("the dependencies form a cycle: ").split(" → ")
    assert cycle[0] == cycle[-1]
    assert sorted(cycle[1:]) == ["a", "b", "c"]


def test_what_only_hangs_on_a_cycle_is_not_named_in_it() -> None:
    [(_, words)] = problems(task("after", "a"), task("a", "b"), task("b", "a"))
    assert "after" not in words


def test_a_dependency_on_itself_is_refused() -> None:
    assert problems(task("a"), task("b", "b")) == [("subtasks[1].depends_on", "'b' depends on itself")]


def test_an_unknown_dependency_is_refused() -> None:
    assert problems(task("a", "ghost")) == [("subtasks[0].depends_on", "no subtask has the key 'ghost'")]


def test_a_dependency_named_twice_is_refused() -> None:
    assert problems(task("a"), task("b", "a", "a")) == [("subtasks[1].depends_on", "names a subtask twice")]


def test_a_key_used_twice_names_both_places() -> None:
    assert problems(task("a"), task("b"), task("a")) == [("subtasks[2].key", "'a' is already subtasks[0]'s key")]


@pytest.mark.parametrize("key", ["", "a b", "a/b", "x" * 65, "--", ".a", "a\n", "настройка"])
def test_a_key_that_is_no_name_is_refused(key: str) -> None:
    assert [field for field, _ in problems(task(key))] == ["subtasks[0].key"]


@pytest.mark.parametrize("key", ["a", "1", "x" * 64, "set-up_2", "v1.2"])
def test_a_key_of_letters_digits_and_marks_is_accepted(key: str) -> None:
    assert problems(task(key)) == []


def test_an_unknown_agent_is_refused_with_those_there_are() -> None:
    [(field, words)] = problems(task("a", agent="wizard"))
    assert field == "subtasks[0].agent"
    assert "'wizard'" in words
    assert "ask, coder" in words


def test_an_empty_title_is_refused() -> None:
    assert problems(SubtaskDraft("a", " ", "", "coder")) == [("subtasks[0].title", "must not be empty")]


def test_over_long_instructions_are_refused() -> None:
    assert problems(SubtaskDraft("a", "A", "x" * MAX_INSTRUCTIONS, "coder")) == []
    [(field, _)] = problems(SubtaskDraft("a", "A", "x" * (MAX_INSTRUCTIONS + 1), "coder"))
    assert field == "subtasks[0].instructions"


def test_too_many_subtasks_are_refused_with_both_numbers() -> None:
    assert problems(*(task(f"k{i}") for i in range(MAX_SUBTASKS))) == []
    [(field, words)] = problems(*(task(f"k{i}") for i in range(MAX_SUBTASKS + 1)))
    assert field == "subtasks"
    assert str(MAX_SUBTASKS) in words
    assert str(MAX_SUBTASKS + 1) in words


def test_a_chain_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert problems(*chain(MAX_DEPTH)) == []
    [(field, words)] = problems(*chain(MAX_DEPTH + 1))
    assert field == "subtasks"
    assert str(MAX_DEPTH + 1) in words


def test_everything_wrong_is_told_at_once() -> None:
    found = check_plan([task("a", "ghost", agent="wizard"), SubtaskDraft("a", "", "", "coder")], AGENTS)
    assert {v.field for v in found} == {
        "subtasks[0].agent",
        "subtasks[0].depends_on",
        "subtasks[1].title",
        "subtasks[1].key",
    }
    assert all(isinstance(v, Violation) for v in found)


def test_a_plan_larger_than_a_person_can_be_shown_is_refused_whole() -> None:
    size = MAX_PLAN // 10
    drafts = [SubtaskDraft(f"k{i}", "T", "x" * (size - 1), "coder") for i in range(10)]
    assert problems(*drafts) == []
    [(field, words)] = problems(*drafts, SubtaskDraft("one-more", "T", "x" * 100, "coder"))
    assert field == "subtasks"
    assert str(MAX_PLAN) in words
