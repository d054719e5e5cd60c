"""The `assent` command: its commands put together, who asks, and what trouble looks like."""

import sys
from importlib import metadata
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from cli import options
from cli.calling import caller
from cli.commands import deciding, runs, services, steering
from cli.trouble import ExitCode, Trouble

commands = typer.Typer(
    name="assent",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (services, runs, deciding, steering):
    commands.add_typer(part.commands)


def app() -> None:
    """Run the command line; a Trouble is one text on stderr and its exit code."""
    try:
        commands()
    except Trouble as trouble:
        _tell(trouble)
    except UnicodeEncodeError as error:
        if error.encoding != "utf-8":  # a terminal of another encoding: not what was given is wrong
            raise
        _tell(Trouble("what was given is not UTF-8 text", ExitCode.USAGE))


def _tell(trouble: Trouble) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"assent: {trouble}", markup=False)
    sys.exit(trouble.code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"assent {metadata.version('assent')}")
        raise typer.Exit


@commands.callback(epilog="First steps: [bold]assent demo[/bold]; or [bold]assent up[/bold], then [bold]run[/bold].")
def assent(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
    as_: options.As = "",
    roles: options.Roles = "",
) -> None:
    """Plans that AI agents draft and people approve."""
    caller.set(options.as_caller(as_, roles))
