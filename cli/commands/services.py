"""`assent up`, `demo`, `policy test`: what asks no server that runs already."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import options
from cli import policy as policies
from cli.calling import run_to_end
from cli.demo import GOAL, SCRIPT, DemoSettings
from cli.demo import demo as demonstrate
from cli.stack import StackSettings
from cli.terminal import new_console
from cli.up import up as keep_up

PANEL = "Running the services"
TRYING = "Trying things out"
commands = typer.Typer()
policy = typer.Typer(no_args_is_help=True, help="Try a policy before it judges anything.")
commands.add_typer(policy, name="policy", rich_help_panel=TRYING)


@commands.command(rich_help_panel=PANEL)
def up(
    grpc_addr: options.GrpcAddress = "127.0.0.1:50051",
    executor_addr: options.ExecutorAddress = "127.0.0.1:50052",
    http_addr: options.HttpAddress = "127.0.0.1:8080",
    metrics_addr: options.Metrics = "127.0.0.1:9464",
    executor_metrics_addr: options.ExecutorMetrics = "127.0.0.1:9465",
    data_dir: options.DataDir = Path(".assent"),
    database_url: options.DatabaseUrl = "",
    model: options.Model = "",
    script: options.Script = None,
    catalog_dir: options.CatalogDir = None,
    verbose: options.Verbose = False,
) -> None:
    """Start the database, the orchestrator, the executor and the gateway; Ctrl-C stops them.

    A service that dies is started again. Port 0 chooses a free port.
    """
    settings = StackSettings(
        data_dir=data_dir,
        grpc_address=options.address(grpc_addr),
        executor_address=options.address(executor_addr),
        http_address=options.address(http_addr),
        metrics_address=options.address_or_none(metrics_addr),
        executor_metrics_address=options.address_or_none(executor_metrics_addr),
        database_url=database_url,
        model=model,
        script=script,
        catalog_dir=catalog_dir,
    )
    run_to_end(keep_up(settings, new_console(), verbose=verbose))


@commands.command(rich_help_panel=PANEL)
def demo(
    goal: Annotated[str, typer.Argument(metavar="GOAL", help="What to ask for.", show_default=False)] = GOAL,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="DIRECTORY", help="Keep everything here instead of deleting it."),
    ] = None,
    model: options.Model = "scripted:",
    script: Annotated[
        Path,
        typer.Option(
            "--script", metavar="FILE", exists=True, help="What the scripted model plays.", show_default=False
        ),
    ] = SCRIPT,
    yes: options.Yes = False,
    stay: Annotated[bool, typer.Option("--stay", help="Keep the services running afterwards.")] = False,
) -> None:
    """Watch one goal become a plan, approvals, files and a report, offline, in half a minute.

    Everything is started on free ports and stopped at the end. Without a terminal it approves by itself.
    """
    run_to_end(demonstrate(DemoSettings(goal, data_dir, model, script, yes, stay), new_console()))


@policy.command("test")
def try_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A policy, or cases for one.", show_default=False)],
    tool: options.CalledTool = "",
    arguments: options.CalledArguments = "{}",
    agent: options.CallingAgent = "",
    side_effect: options.SideEffect = "",
    label: options.Labels = None,
    catalog_dir: options.CatalogDir = None,
) -> None:
    """Say which rule decides a call and why, who may answer and how long it waits; or check a file of cases.

    Exit code 1 means that a case differs from what it expects, 2 that a file or an option is wrong. No server is asked.
    """
    call = policies.TriedCall(tool, arguments, agent, side_effect, tuple(label or ()))
    if not tool and call != policies.TriedCall():
        raise typer.BadParameter("goes with --tool: cases bring their own", param_hint="what is said of a call")
    sys.exit(policies.try_policy(file, call, catalog_dir))
