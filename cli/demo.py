"""`assent demo`: everything started on free ports, one goal from a plan to files, everything stopped again.

It uses the public API only, as any client would, and at the end looks at the disk itself.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cli.client import Client
from cli.health import reachable
from cli.report import get_report, in_short
from cli.run import Manner, get_session, run
from cli.screen import print_lines
from cli.stack import ROOT, Stack, StackSettings
from cli.story import Line
from cli.terminal import has_person
from cli.trouble import Trouble
from cli.up import STARTING, announce, on_signals
from cli.words import plural
from gen.assent.v1.run_report_pb2 import RunReport
from rpc.addresses import Address

GOAL = "открыт пустой проект, создай тестовое приложение на flutter"
SCRIPT = ROOT / "catalog" / "scripts" / "demo.yaml"
ANYWHERE = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class DemoSettings:
    """What a person may choose about the demonstration; without a data directory nothing is kept."""

    goal: str = GOAL
    data_dir: Path | None = None
    model: str = "scripted:"
    script: Path = SCRIPT
    yes: bool = False
    stay: bool = False


async def demo(settings: DemoSettings, console: Console) -> None:
    """Start, run the goal, verify the files, report, stop; with `stay`, stop only on Ctrl-C."""
    yes = settings.yes or not has_person()
    who = "approving by itself through the public API" if yes else "you approve"
    console.print(STARTING, style="dim")
    with _directory(settings.data_dir) as directory:
        async with _running(settings, directory, console) as stack:
            root = stack.settings.data_dir / "workspaces"
            announce(stack, console, hint="")
            console.print(f"\n[bold]{escape(settings.goal)}[/]  [dim]({who})[/]\n", soft_wrap=True)
            manner = Manner(yes=yes, detachable=False)
            async with Client(str(reachable(stack.settings.grpc_address))) as client:
                ended = await run(client, settings.goal, console, manner)
                report = await get_report(client, ended.id)
                session = await get_session(client, ended.session_id)
            if settings.goal == GOAL and not report.files_written:
                raise Trouble("the run completed and wrote no file")
            console.print()
            print_lines(console, files_on_disk(root / session.workspace.directory, report))
            console.print()
            print_lines(console, in_short(report))
            if settings.stay:
                console.print("\nEverything goes on running; Ctrl-C stops it.", style="bold")
                await _until_interrupted()


def files_on_disk(workspace: Path, report: RunReport) -> list[Line]:
    """The files that were written, as the disk has them now; Trouble when one is not there or not whole."""
    lines = [Line(f"Files in {workspace}", "title")]
    for written in report.files_written:
        file = workspace / written.path
        size = file.stat().st_size if file.is_file() else -1
        if size != written.size_bytes:
            found = f"holds {plural(size, 'byte')}" if size >= 0 else "is not there"
            raise Trouble(f"{file} should hold {plural(written.size_bytes, 'byte')} and {found}")
        lines.append(Line(f"  {size:>6} bytes  {written.path}", ""))
    if not report.files_written:
        lines.append(Line("  none", "quiet"))
    return lines


@contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="assent-demo-") as directory:
        yield Path(directory)


@asynccontextmanager
async def _running(settings: DemoSettings, directory: Path, console: Console) -> AsyncIterator[Stack]:
    """The stack on free ports; its stop is not cut short by the Ctrl-C that asked for it."""
    chosen = StackSettings(
        data_dir=directory,
        grpc_address=ANYWHERE,
        executor_address=ANYWHERE,
        http_address=ANYWHERE,
        model=settings.model,
        script=settings.script,
        workspace_root=directory / "workspaces",
    )
    stack = Stack(chosen, say=lambda text: console.print(f"! {text}", style="yellow", markup=False))
    await stack.start()
    try:
        yield stack
    finally:
        await asyncio.shield(asyncio.ensure_future(stack.stop()))


async def _until_interrupted() -> None:
    stopping = asyncio.Event()
    with on_signals(stopping.set):
        await stopping.wait()
