"""The `assent` command: its commands, options and help. What a command does is in a module of its own."""

import asyncio
import sys
from collections.abc import Coroutine
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cli import options
from cli.stack import StackSettings
from cli.trouble import ExitCode, Trouble
from cli.up import up as keep_up

commands = typer.Typer(
    name="assent",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
RUNNING = "Running the services"
WORKING = "Working with them"


def app() -> None:
    """Run the command line; a Trouble is one text on stderr and its exit code."""
    try:
        commands()
    except Trouble as trouble:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"assent: {trouble}", markup=False)
        sys.exit(trouble.code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _run(command: Coroutine[Any, Any, None]) -> None:
    asyncio.run(command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"assent {metadata.version('assent')}")
        raise typer.Exit


@commands.callback(
    epilog="First steps: [bold]assent demo[/bold]; or [bold]assent up[/bold], then [bold]run[/bold]."
)
def assent(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Plans that AI agents draft and people approve."""


@commands.command(rich_help_panel=RUNNING)
def up(
    grpc_addr: options.GrpcAddress = "127.0.0.1:50051",
    executor_addr: options.ExecutorAddress = "127.0.0.1:50052",
    http_addr: options.HttpAddress = "127.0.0.1:8080",
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
        database_url=database_url,
        model=model,
        script=script,
        catalog_dir=catalog_dir,
    )
    _run(keep_up(settings, Console(), verbose=verbose))
