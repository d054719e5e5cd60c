"""`assent pause`, `resume`, `cancel`, `close`, `switch`: a run or a session is steered without following it."""

from typing import Annotated

import typer

from cli import options, steer
from cli.calling import ask
from cli.terminal import new_console

PANEL = "Steering"
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def pause(run: options.RunId, reason: options.Reason = "", server: options.Server = options.SERVER) -> None:
    """Start nothing new in a run; what is in flight ends first, and decisions are still taken.

    A queued run is PAUSED when its turn comes, and the runs behind it wait.
    """
    ask(server, lambda client: steer.pause_run(client, run, reason, new_console()))


@commands.command(rich_help_panel=PANEL)
def resume(run: options.RunId, reason: options.Reason = "", server: options.Server = options.SERVER) -> None:
    """Let a paused run go on from where it is, or withdraw a pause that has not taken hold."""
    ask(server, lambda client: steer.resume_run(client, run, reason, new_console()))


@commands.command(rich_help_panel=PANEL)
def cancel(run: options.RunId, reason: options.Reason = "", server: options.Server = options.SERVER) -> None:
    """End a run now, with its model and tool calls and its questions; the next one in its session starts.

    A tool call that was under way may have taken effect.
    """
    ask(server, lambda client: steer.cancel_run(client, run, reason, new_console()))


@commands.command(rich_help_panel=PANEL)
def close(session: options.SessionId, reason: options.Reason = "", server: options.Server = options.SERVER) -> None:
    """End all that runs and waits in a session, for good: it takes no more messages."""
    ask(server, lambda client: steer.close_session(client, session, reason, new_console()))


@commands.command(rich_help_panel=PANEL)
def switch(
    session: options.SessionId,
    agent: Annotated[
        str, typer.Argument(metavar="AGENT", help="The agent's name; auto: each is routed.", show_default=False)
    ],
    server: options.Server = options.SERVER,
) -> None:
    """Set whom a session's messages to come go to; what is queued and what runs keeps its agent."""
    ask(server, lambda client: steer.switch_agent(client, session, agent, new_console()))
