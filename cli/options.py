"""The options that commands share, with their environment variables and help. Read by the commands only."""

from pathlib import Path
from typing import Annotated, Any

import typer

from rpc.addresses import Address, BadAddress, parse_address
from rpc.principal import ROLES_KEY, SUBJECT_KEY


def address(text: str) -> Address:
    """An address from the command line or the environment; a bad one is an error in the usage."""
    try:
        return parse_address(text)
    except BadAddress as problem:
        raise typer.BadParameter(str(problem)) from problem


def _listens(option: str, variable: str, who: str) -> Any:
    return typer.Option(option, envvar=variable, metavar="HOST:PORT", help=f"Where the {who} listens.")


def address_or_none(text: str) -> Address | None:
    """The same where empty means nowhere."""
    return address(text) if text else None


def as_caller(subject: str, roles: str) -> tuple[tuple[str, str], ...]:
    """The metadata that says who asks; what of it is acceptable is the server's to say."""
    said = ((SUBJECT_KEY, subject), (ROLES_KEY, roles))
    for (_, value), option in zip(said, ("--as", "--roles"), strict=True):
        if not (value.isascii() and (value.isprintable() or not value)):
            raise typer.BadParameter("takes printable ASCII characters", param_hint=option)
    return tuple((key, value) for key, value in said if value)


As = Annotated[
    str,
    typer.Option(
        "--as",
        envvar="ASSENT_AS",
        metavar="NAME",
        help="Who you are, on a development server; without it the developer, with every role.",
    ),
]
Roles = Annotated[
    str,
    typer.Option("--roles", envvar="ASSENT_ROLES", metavar="A,B", help="The roles you hold, such as release-manager."),
]
GrpcAddress = Annotated[str, _listens("--grpc-addr", "ASSENT_GRPC_ADDR", "orchestrator")]
ExecutorAddress = Annotated[str, _listens("--executor-addr", "ASSENT_EXECUTOR_ADDRS", "executor")]
HttpAddress = Annotated[str, _listens("--http-addr", "ASSENT_HTTP_ADDR", "gateway")]
Metrics = Annotated[str, _listens("--metrics-addr", "ASSENT_METRICS_ADDR", "orchestrator's /metrics")]
ExecutorMetrics = Annotated[
    str, _listens("--executor-metrics-addr", "ASSENT_EXECUTOR_METRICS_ADDR", "executor's /metrics")
]
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="ASSENT_DATA_DIR", metavar="DIRECTORY", help="Where everything is kept."),
]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="ASSENT_DATABASE_URL",
        metavar="URL",
        help="A PostgreSQL of yours, instead of the embedded one in the data directory.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="ASSENT_MODEL",
        metavar="NAME",
        help="What agents think with, such as openai:gpt-5-mini, ollama:qwen3, or scripted: for no model.",
        show_default=False,
    ),
]
Script = Annotated[
    Path | None,
    typer.Option(
        "--script", envvar="ASSENT_SCRIPT", metavar="FILE", exists=True, help="What the scripted model plays."
    ),
]
CatalogDir = Annotated[
    Path | None,
    typer.Option(
        "--catalog-dir",
        envvar="ASSENT_CATALOG_DIR",
        metavar="DIRECTORY",
        exists=True,
        help="Agents, policies and tools, instead of the shipped ones.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the services' logs as they are written.")]
SERVER = "127.0.0.1:50051"
Server = Annotated[
    str,
    typer.Option("--server", envvar="ASSENT_GRPC_ADDR", metavar="HOST:PORT", help="The orchestrator to speak to."),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Approve plans, calls and artifacts without asking; what else comes up is left to a person."
    ),
]
Plain = Annotated[bool, typer.Option("--plain", help="Lines only, even on a terminal.")]
Feedback = Annotated[str, typer.Option("--feedback", "-m", metavar="TEXT", help="What the agent is told.")]
Arguments = Annotated[
    typer.FileBinaryRead | None,
    typer.Option("--arguments", metavar="FILE", help="For edit: the new arguments, as JSON; - reads them from stdin."),
]
Response = Annotated[
    typer.FileBinaryRead | None,
    typer.Option("--response", metavar="FILE", help="For respond: the call's result, as JSON; - reads it from stdin."),
]
EditedFile = Annotated[
    typer.FileBinaryRead | None,
    typer.Option("--file", metavar="FILE", help="For edit of an artifact: its new bytes; - reads them from stdin."),
]
Words = Annotated[
    str,
    typer.Option("--answer", metavar="TEXT", help="For respond: the answer in plain words, or an option's number."),
]
PlanFile = Annotated[
    typer.FileBinaryRead | None,
    typer.Option("--file", metavar="FILE", help="The plan as YAML or JSON, instead of your editor; - reads stdin."),
]
WorkSeconds = Annotated[
    float,
    typer.Option(
        "--work-seconds",
        metavar="N",
        min=0,
        max=1e9,
        show_default=False,
        help="For a limit: how long the run may work in all.",
    ),
]
_MORE: dict[str, Any] = {"metavar": "N", "min": 0, "show_default": False}
Calls = Annotated[int, typer.Option("--calls", **_MORE, help="For a limit: how many calls the run may make in all.")]
Tokens = Annotated[int, typer.Option("--tokens", **_MORE, help="For a limit: how many tokens the run may use in all.")]
RememberIt = Annotated[bool, typer.Option("--remember", help="For a call: let calls like it run unasked from now on.")]
Only = Annotated[
    str,
    typer.Option(
        "--only",
        metavar="CEL",
        help="With --remember: which calls, as a condition over `arguments`; left out: exactly the same.",
    ),
]
For = Annotated[
    str, typer.Option("--for", metavar="TIME", help="With --remember: how long, such as 30m, 8h, 7d; left out: 1h.")
]
Reason = Annotated[str, typer.Option("--reason", "-m", metavar="TEXT", help="Why, for whoever reads the log later.")]
Digest = Annotated[
    str,
    typer.Option("--digest", metavar="SHA256", help="Decide only if it is still about exactly this."),
]
CalledTool = Annotated[
    str, typer.Option("--tool", metavar="NAME", help="The tool that would be called.", show_default=False)
]
CalledArguments = Annotated[
    str, typer.Option("--arguments", metavar="JSON", help="The call's arguments, as JSON text.")
]
CallingAgent = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="Who would call it; left out: an agent that may do everything.")
]
SideEffect = Annotated[
    str,
    typer.Option(
        "--side-effect",
        metavar="CLASS",
        help="READ_ONLY, IDEMPOTENT or NON_IDEMPOTENT, of a tool that does not come with Assent.",
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label of the session; may be repeated.")
]
ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="The approval's id.", show_default=False)]
PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="The id of a version of a plan.", show_default=False)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id.", show_default=False)]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.", show_default=False)]
