"""`assent run`, `watch`, `report`, `artifacts`: a goal is sent, followed, and looked at afterwards."""

from typing import Annotated

import typer

from cli import options
from cli.artifacts import list_artifacts, print_artifact
from cli.calling import ask
from cli.report import report as show_report
from cli.run import Manner
from cli.run import run as run_goal
from cli.run import watch as watch_session
from cli.terminal import new_console

PANEL = "Goals, and what came of them"
commands = typer.Typer()


@commands.command(rich_help_panel=PANEL)
def run(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What is to be done, in your words.", show_default=False)],
    session: Annotated[
        str, typer.Option("--session", metavar="ID", help="Go on in this session instead of a new one.")
    ] = "",
    agent: Annotated[str, typer.Option("--agent", metavar="NAME", help="Ask this agent, without routing.")] = "",
    policy: Annotated[
        str,
        typer.Option(
            "--policy", metavar="NAME", help="Have the new session's calls judged by this one; left out: default."
        ),
    ] = "",
    yes: options.Yes = False,
    plain: options.Plain = False,
    server: options.Server = options.SERVER,
) -> None:
    """Send a goal and follow it to its end, deciding here what has to be decided.

    Ctrl-C leaves: the run goes on, and `assent watch` comes back to it.

    Ends with 0 when the run COMPLETED, with 5 when it ended otherwise, with 6 when a person must decide.
    """
    if session and policy:
        raise typer.BadParameter("is set when a session is made: it does not go with --session", param_hint="--policy")
    manner = Manner(yes, plain)
    ask(
        server,
        lambda client: run_goal(client, goal, new_console(), manner, session_id=session, agent=agent, policy=policy),
    )


@commands.command(rich_help_panel=PANEL)
def watch(
    session: options.SessionId,
    after: Annotated[
        int, typer.Option("--after", metavar="SEQUENCE", min=0, help="Tell only what came after this event.")
    ] = 0,
    yes: options.Yes = False,
    plain: options.Plain = False,
    server: options.Server = options.SERVER,
) -> None:
    """Follow a session until nothing runs or waits in it, deciding here what has to be decided."""
    manner = Manner(yes, plain)
    ask(server, lambda client: watch_session(client, session, new_console(), manner, after=after))


@commands.command(rich_help_panel=PANEL)
def report(
    run: options.RunId,
    server: options.Server = options.SERVER,
) -> None:
    """Show what a run did, what it cost and who approved what."""
    ask(server, lambda client: show_report(client, run, new_console()))


@commands.command(rich_help_panel=PANEL)
def artifacts(
    run: options.RunId,
    get: Annotated[
        str, typer.Option("--get", metavar="NAME", help="Write the bytes of this one, by name or id, to the output.")
    ] = "",
    server: options.Server = options.SERVER,
) -> None:
    """List the files a run's subtasks left, as they were when they were recorded, or write the bytes of one."""
    if get:
        ask(server, lambda client: print_artifact(client, run, get))
    else:
        ask(server, lambda client: list_artifacts(client, run, new_console()))
