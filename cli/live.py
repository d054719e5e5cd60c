"""The screen for a terminal: the story scrolls by, and below it the plan stands as a tree that lives.

What is told is decided in cli/story.py; here it is only drawn.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from cli.screen import Show, styled
from cli.story import Line, call
from cli.view import PlanView, RunView, SessionView, StepView, SubtaskView
from cli.words import one_line, plural, printable

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_SECONDS = 0.1
SAID_LINES = 4
MARKS = {
    "PENDING": ("○", "dim"),
    "RUNNING": ("▶", "bold cyan"),
    "VALIDATING": ("▶", "cyan"),
    "AWAITING_APPROVAL": ("?", "bold yellow"),
    "SUCCEEDED": ("✓", "green"),
    "FAILED": ("✗", "bold red"),
    "SKIPPED": ("–", "dim"),
    "CANCELLED": ("✗", "dim red"),
}


class LiveScreen:
    """A tree of the active run under the lines that scroll by. Needs a running event loop to redraw from."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view: SessionView | None = None
        self._frame = 0
        self._held: list[Line] | None = None
        self._live = self._new_live()
        self._ticking = asyncio.create_task(self._tick())

    def show(self, lines: list[Line], sequence: int = 0) -> None:
        if self._held is not None:
            self._held += lines
        else:
            self._print(lines)

    def refresh(self, view: SessionView) -> None:
        self._view = view

    @contextmanager
    def still(self) -> Iterator[Show]:
        self._live.stop()
        self._held = []
        try:
            yield self._print
        finally:
            held, self._held = self._held, None
            self._print(held)
            self._live = self._new_live()

    def close(self) -> None:
        self._ticking.cancel()
        self._live.stop()

    def redraw(self) -> None:
        """Draw the present, unless a person types."""
        if self._view is not None and self._held is None:
            self._frame += 1
            self._live.update(draw(self._view, self._frame, self._console.width), refresh=True)

    def _print(self, lines: list[Line]) -> None:
        for line in lines:
            self._console.print(styled(line))

    def _new_live(self) -> Live:
        """Redrawn from the loop only: a thread of its own would read the view while it changes."""
        live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop")
        live.start()
        return live

    async def _tick(self) -> None:
        while True:
            self.redraw()
            await asyncio.sleep(FRAME_SECONDS)


def draw(view: SessionView, frame: int, width: int) -> RenderableType:
    """The present: the plan with what happens in it, or what the agent says; what waits for a decision."""
    run = view.active_run
    if run is None or run.ended:
        return Text("")
    spinner = FRAMES[frame % len(FRAMES)]
    parts: list[RenderableType] = []
    running = [step for step in run.steps.values() if step.running]
    if run.plan is not None and run.plan.state not in ("REJECTED", "SUPERSEDED"):
        parts.append(_tree(run.plan, running, spinner, width))
    elif not running:
        parts.append(Text(f"{spinner} {view.state}", style="dim"))
    parts.extend(_step(step, spinner, width) for step in running if _outside_plan(step, run))
    if view.approvals:
        count = plural(len(view.approvals), "approval")
        parts.append(Text(f"? {count} to decide", style="bold yellow"))
    return Group(*parts)


def _outside_plan(step: StepView, run: RunView) -> bool:
    return run.plan is None or step.subtask_id not in run.plan.subtasks


def _tree(plan: PlanView, running: list[StepView], spinner: str, width: int) -> Tree:
    done = sum(subtask.state in ("SUCCEEDED", "SKIPPED") for subtask in plan.subtasks.values())
    count = f"{done} of {len(plan.subtasks)}"
    tree = Tree(Text.assemble((one_line(plan.title, 70), "bold"), f"  {plan.state}  {count}"), guide_style="dim")
    for subtask in plan.subtasks.values():
        branch = tree.add(_subtask(subtask))
        for step in running:
            if step.subtask_id == subtask.id:
                branch.add(_step(step, spinner, width - 8))
    return tree


def _subtask(subtask: SubtaskView) -> Text:
    mark, style = MARKS.get(subtask.state, ("·", ""))
    attempt = f"  attempt {subtask.attempt}" if subtask.attempt > 1 else ""
    title = Text.assemble((f"{mark} ", style), (one_line(subtask.title, 70), style), (f"  {subtask.agent}", "dim"))
    title.append(attempt, "yellow")
    if subtask.trouble:
        title.append(f"  {one_line(subtask.trouble, 60)}", "red")
    return title


def _step(step: StepView, spinner: str, width: int) -> RenderableType:
    if step.is_tool:
        return Text(f"{spinner} {call(step)}", style="blue", no_wrap=True, overflow="ellipsis")
    head = Text(f"{spinner} {step.agent} thinks …", style="dim")
    if not step.said:
        return head
    said = printable(step.said[-SAID_LINES * width :])
    return Group(head, Text("\n".join(said.splitlines()[-SAID_LINES:]), style="italic", overflow="fold"))
