"""What routing and planning answer is read strictly; what does not do comes back as words with a field."""

import json

import pytest

from orchestrator.domain.drafts import CORRECTIONS, Unfit, check_answer, read_plan, read_route, route_by_words
from tests.unit.domain.build import AGENTS, catalog, plan_answer, route_answer, task

CATALOG = catalog()


def unfit(text: str, *, plan: bool = False) -> dict[str, str]:
    with pytest.raises(Unfit) as refused:
        (read_plan if plan else read_route)(text, CATALOG)
    return {v.field: v.description for v in refused.value.violations}


def changed(**fields: object) -> str:
    return json.dumps(json.loads(plan_answer(task("a"))) | fields)


def changed_subtask(**fields: object) -> str:
    return changed(subtasks=[json.loads(plan_answer(task("a")))["subtasks"][0] | fields])


# --- routes


def test_an_atomic_route_names_its_agent() -> None:
    route = read_route(route_answer("atomic", "ask"), CATALOG)
    assert (route.complexity, route.agent, route.reason) == ("ATOMIC", "ask", "because")


@pytest.mark.parametrize(
    "fence", ["```json\n{}\n```", "```\n{}\n```", "\n ```json\n{}\n``` \n", "```json\r\n{}\r\n```"]
)
def test_a_fenced_answer_is_read(fence: str) -> None:
    assert read_route(fence.replace("{}", route_answer("atomic", "ask")), CATALOG).agent == "ask"


@pytest.mark.parametrize("agent", ["wizard", "architect", "orchestrator", ""])
def test_an_atomic_route_to_an_agent_that_does_no_work_is_unfit_with_those_that_do(agent: str) -> None:
    assert unfit(route_answer("atomic", agent)) == {"agent": "must be one of: coder, ask"}


def test_a_complex_route_needs_no_agent() -> None:
    assert read_route(route_answer("complex", ""), CATALOG).complexity == "COMPLEX"


@pytest.mark.parametrize(
    "text", ["", "I think it is atomic.", "{", '{"a": 1, "a": 2}', "NaN", "```json\n{\n```", "1" * 5000]
)
def test_an_answer_that_is_not_json_is_unfit(text: str) -> None:
    assert set(unfit(text)) == {"answer"}


@pytest.mark.parametrize("text", ["[]", '"atomic"', "null", "5"])
def test_an_answer_that_is_no_object_is_unfit(text: str) -> None:
    assert unfit(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"complexity": "hard", "agent": "ask", "reason": ""}', "complexity"),
        ('{"complexity": ["atomic"], "agent": "ask", "reason": ""}', "complexity"),
        ('{"complexity": "atomic", "agent": 5, "reason": ""}', "agent"),
        ('{"complexity": "atomic", "agent": "ask", "reason": null}', "reason"),
    ],
)
def test_a_wrong_type_is_unfit_with_its_field(text: str, field: str) -> None:
    assert field in unfit(text)


# --- plans


def test_a_plan_is_read_whole() -> None:
    plan = read_plan(plan_answer(task("a"), task("b", "a", agent="ask"), parallel_limit=2), CATALOG)
    assert (plan.title, plan.summary, plan.parallel_limit) == ("T", "S", 2)
    assert plan.subtasks == (task("a"), task("b", "a", agent="ask"))


def test_the_parallel_limit_is_one_unless_said() -> None:
    value = json.loads(plan_answer())
    del value["parallel_limit"]
    assert read_plan(json.dumps(value), CATALOG).parallel_limit == 1


def test_a_whole_number_written_as_a_fraction_is_still_a_whole_number() -> None:
    limit = read_plan(changed(parallel_limit=2.0), CATALOG).parallel_limit
    assert (limit, type(limit)) == (2, int)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (changed(title=""), "title"),
        (changed(title=5), "title"),
        (changed(parallel_limit=0), "parallel_limit"),
        (changed(parallel_limit=65), "parallel_limit"),
        (changed(parallel_limit=True), "parallel_limit"),
        (changed(parallel_limit=1.5), "parallel_limit"),
        (changed(subtasks=[]), "subtasks"),
        (changed(subtasks={}), "subtasks"),
        (changed(subtasks=[None]), "subtasks[0]"),
        (changed_subtask(key=1), "subtasks[0].key"),
        (changed_subtask(depends_on="b"), "subtasks[0].depends_on"),
        (changed_subtask(depends_on=[1]), "subtasks[0].depends_on[0]"),
        (changed_subtask(depends_on=["ghost"]), "subtasks[0].depends_on"),
        (changed_subtask(agent="architect"), "subtasks[0].agent"),
        (plan_answer(task("a", "b"), task("b", "a")), "subtasks"),
    ],
)
def test_what_is_wrong_with_a_plan_is_told_with_its_field(text: str, field: str) -> None:
    assert field in unfit(text, plan=True)


def test_at_most_twenty_problems_are_told() -> None:
    bad = changed(subtasks=[{"key": i} for i in range(50)])
    assert len(unfit(bad, plan=True)) <= 20


def test_only_routing_and_planning_have_a_form_to_keep() -> None:
    for purpose in ("ANSWER", "SUBTASK"):
        assert check_answer(purpose, "anything", CATALOG) == []
    for purpose in CORRECTIONS:
        assert check_answer(purpose, "anything", CATALOG) != []


# --- the rule of thumb


@pytest.mark.parametrize(
    "goal",
    [
        "открыт пустой проект, создай тестовое приложение на flutter",
        "Сделай форму входа",
        "надо добавить тесты",
        "Напиши парсер",
        "исправь ошибку в main.py",
        "Create a small game",
        "please FIX the build",
        "set up CI",
    ],
)
def test_making_or_changing_something_takes_a_plan(goal: str) -> None:
    assert route_by_words(goal, CATALOG).complexity == "COMPLEX"


@pytest.mark.parametrize("goal", ["Что такое монада?", "How does this work?", "explain the address bar", "", "привет"])
def test_a_question_is_answered_at_once(goal: str) -> None:
    route = route_by_words(goal, CATALOG)
    assert (route.complexity, route.agent) == ("ATOMIC", "ask")


def test_without_an_architect_nothing_is_complex_and_without_ask_another_agent_answers() -> None:
    book = catalog(agents=[a for a in AGENTS if a.name == "coder"])
    route = route_by_words("create a game", book)
    assert (route.complexity, route.agent) == ("ATOMIC", "coder")
