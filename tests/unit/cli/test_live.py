"""What a terminal shows at a moment: the plan as a tree, what an agent says, what waits."""

import io

from rich.console import Console

from cli.live import LiveScreen, draw
from cli.story import Line
from cli.view import SessionView
from tests.unit.cli.demo_acts import SESSION, whole_log

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def drawn(count: int) -> str:
    view = SessionView(SESSION)
    for each in whole_log()[:count]:
        view.apply(each)
    output = io.StringIO()
    Console(file=output, width=80, force_terminal=False).print(draw(view, 0, 80))
    return output.getvalue()


def test_before_a_plan_the_state_is_shown() -> None:
    assert drawn(5) == "⠋ PLAN_REQUIRED\n"


def test_the_plan_is_a_tree_with_agents_and_what_waits() -> None:
    shown = drawn(9)
    assert "An app  DRAFT  0 of 1" in shown
    assert "○ Write it  coder" in shown
    assert "? 1 approval to decide" in shown


def test_what_an_agent_says_appears_under_its_subtask() -> None:
    shown = drawn(15)
    assert "▶ Write it  coder" in shown
    assert "⠋ coder thinks …" in shown
    assert "I write it." in shown


def test_a_running_tool_call_appears_under_its_subtask() -> None:
    assert "⠋ write_file" in drawn(18)


def test_nothing_is_shown_of_a_run_that_has_ended() -> None:
    assert drawn(len(whole_log())).strip() == ""


async def test_lines_stay_above_what_lives_and_the_terminal_is_given_back() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, force_terminal=True, color_system=None, legacy_windows=False)
    screen = LiveScreen(console)
    view = SessionView(SESSION)
    for each in whole_log()[:9]:
        view.apply(each)
    screen.refresh(view)
    screen.show([Line("a line that stays", "ok")])
    screen.redraw()
    with screen.still() as show:
        output.seek(0)
        output.truncate()
        screen.redraw()
        screen.show([Line("what happened meanwhile")])
        show([Line("a question")])
        assert output.getvalue() == "a question\n"
    assert output.getvalue().startswith("a question\nwhat happened meanwhile\n")
    screen.redraw()
    screen.close()
    assert "An app  DRAFT" in output.getvalue()
    assert output.getvalue().rindex(SHOW_CURSOR) > output.getvalue().rindex(HIDE_CURSOR)
