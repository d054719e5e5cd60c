"""The `assent` command: its commands, options and help. What a command does is in a module of its own."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from cli import grants, inbox, options, plans, steer
from cli import policy as policies
from cli.artifacts import list_artifacts, print_artifact
from cli.client import Client
from cli.decide import Answer
from cli.demo import GOAL, SCRIPT, DemoSettings
from cli.demo import demo as demonstrate
from cli.health import reachable
from cli.report import report as show_report
from cli.run import Manner
from cli.run import run as run_goal
from cli.run import watch as watch_session
from cli.screen import print_lines
from cli.stack import StackSettings
from cli.terminal import new_console
from cli.trouble import ExitCode, Trouble
from cli.up import up as keep_up
from gen.assent.v1.approval_pb2 import DECISION_ACTION_APPROVE, DECISION_ACTION_REJECT

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
policy = typer.Typer(no_args_is_help=True, help="Try a policy before it judges anything.")
commands.add_typer(policy, name="policy", rich_help_panel=RUNNING)
plan = typer.Typer(no_args_is_help=True, help="Read a version of a plan, or write the next one of a draft.")
commands.add_typer(plan, name="plan", rich_help_panel=WORKING)
SERVER = "127.0.0.1:50051"
ApprovalId = Annotated[str, typer.Argument(metavar="ID", help="The approval's id.", show_default=False)]
PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="The id of a version of a plan.", show_default=False)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
GrantId = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's id.", show_default=False)]
SessionId = Annotated[str, typer.Argument(metavar="SESSION", help="The session's id.", show_default=False)]


_caller: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("caller", default=())


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


def _run(command: Coroutine[Any, Any, object]) -> None:
    """Run a command to its end; SIGTERM ends it as orderly as Ctrl-C does."""

    async def main() -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await command

    try:
        asyncio.run(main())
    except (asyncio.CancelledError, KeyboardInterrupt, EOFError):
        sys.exit(ExitCode.INTERRUPTED)


def _ask(server: str, command: Callable[[Client], Coroutine[Any, Any, object]]) -> None:
    """Run a command that speaks to a server."""

    async def speak() -> None:
        async with Client(str(reachable(options.address(server))), _caller.get()) as client:
            await command(client)

    _run(speak())


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
    _caller.set(options.as_caller(as_, roles))


@commands.command(rich_help_panel=RUNNING)
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
    _run(keep_up(settings, new_console(), verbose=verbose))


@commands.command(rich_help_panel=RUNNING)
def demo(
    goal: Annotated[str, typer.Argument(help="What to ask for.", show_default=False)] = GOAL,
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
    _run(demonstrate(DemoSettings(goal, data_dir, model, script, yes, stay), new_console()))


@commands.command(rich_help_panel=WORKING)
def run(
    goal: Annotated[str, typer.Argument(help="What is to be done, in your words.", show_default=False)],
    session: Annotated[
        str, typer.Option("--session", metavar="ID", help="Go on in this session instead of a new one.")
    ] = "",
    agent: Annotated[str, typer.Option("--agent", metavar="NAME", help="Ask this agent, without routing.")] = "",
    yes: options.Yes = False,
    plain: options.Plain = False,
    server: options.Server = SERVER,
) -> None:
    """Send a goal and follow it to its end, deciding here what has to be decided.

    Ctrl-C leaves: the run goes on, and `assent watch` comes back to it.

    Ends with 0 when the run COMPLETED, with 5 when it ended otherwise, with 6 when --yes met a question it leaves
    to a person.
    """
    manner = Manner(yes, plain)
    _ask(server, lambda client: run_goal(client, goal, new_console(), manner, session_id=session, agent=agent))


@commands.command(rich_help_panel=WORKING)
def watch(
    session: SessionId,
    after: Annotated[
        int, typer.Option("--after", metavar="SEQUENCE", min=0, help="Tell only what came after this event.")
    ] = 0,
    yes: options.Yes = False,
    plain: options.Plain = False,
    server: options.Server = SERVER,
) -> None:
    """Follow a session until nothing runs or waits in it, deciding here what has to be decided."""
    manner = Manner(yes, plain)
    _ask(server, lambda client: watch_session(client, session, new_console(), manner, after=after))


@commands.command(rich_help_panel=WORKING)
def approvals(
    approval: Annotated[str, typer.Argument(metavar="[ID]", help="Show this one in full.", show_default=False)] = "",
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Only of this session.")] = "",
    tool: Annotated[str, typer.Option("--tool", metavar="NAME", help="Only of calls of this tool.")] = "",
    mine: Annotated[bool, typer.Option("--mine", help="Only what you may decide.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on telling what is asked and answered.")] = False,
    server: options.Server = SERVER,
) -> None:
    """List what waits for a decision, or show one approval in full."""
    console = new_console()
    if approval and watch:
        raise typer.BadParameter("takes no ID", param_hint="--watch")
    wanted = inbox.Wanted(session, tool, mine)
    if watch:
        _ask(server, lambda client: inbox.watch_approvals(client, console, wanted))
    elif approval:
        _ask(server, lambda client: inbox.show_approval(client, approval, console))
    else:
        _ask(server, lambda client: inbox.list_approvals(client, console, wanted))


@commands.command(rich_help_panel=WORKING)
def approve(
    approval: ApprovalId,
    feedback: options.Feedback = "",
    work_seconds: options.WorkSeconds = 0,
    calls: options.Calls = 0,
    tokens: options.Tokens = 0,
    remember: options.RememberIt = False,
    only: options.Only = "",
    lifetime: options.For = "",
    digest: options.Digest = "",
    server: options.Server = SERVER,
) -> None:
    """Let exactly what an approval shows happen; with --remember, later calls like it too, in its session."""
    if (only or lifetime) and not remember:
        raise typer.BadParameter("goes with --remember", param_hint="--only" if only else "--for")
    wish = grants.remember(only, lifetime) if remember else None
    answer = Answer(
        DECISION_ACTION_APPROVE, feedback, work_seconds=work_seconds, calls=calls, tokens=tokens, remember=wish
    )
    _ask(server, lambda client: inbox.answer_approval(client, approval, answer, new_console(), digest=digest))


@commands.command(rich_help_panel=WORKING)
def reject(
    approval: ApprovalId,
    feedback: options.Feedback = "",
    digest: options.Digest = "",
    server: options.Server = SERVER,
) -> None:
    """Do not let it happen, and tell the agent why."""
    answer = Answer(DECISION_ACTION_REJECT, feedback)
    _ask(server, lambda client: inbox.answer_approval(client, approval, answer, new_console(), digest=digest))


@commands.command(rich_help_panel=WORKING)
def decide(
    approval: ApprovalId,
    action: Annotated[str, typer.Argument(metavar="ANSWER", help="One that the approval takes.", show_default=False)],
    feedback: options.Feedback = "",
    arguments: options.Arguments = None,
    response: options.Response = None,
    file: options.EditedFile = None,
    words: options.Words = "",
    digest: options.Digest = "",
    server: options.Server = SERVER,
) -> None:
    """Give any answer an approval takes: approve, edit, reject, respond, request-changes, retry, replan, skip, abort.

    edit runs the call with the arguments of a file instead, as exactly those bytes; of an artifact, --file takes its
    place. respond answers an agent's
    question, or gives a call's result, and nothing runs: with the JSON text of a file, or with --answer. At a terminal
    a question's answer is asked for.
    """
    answer = inbox.answer_of(
        action, feedback, arguments.read() if arguments else b"", response.read() if response else b""
    )
    answer = replace(answer, edited_artifact=file.read() if file else b"")
    _ask(
        server,
        lambda client: inbox.answer_approval(client, approval, answer, new_console(), digest=digest, words=words),
    )


@commands.command("grants", rich_help_panel=WORKING)
def list_grants(session: SessionId, server: options.Server = SERVER) -> None:
    """List the remembered yeses of a session: which calls run unasked, until when, and how often they did."""
    _ask(server, lambda client: grants.list_grants(client, session, new_console()))


@commands.command(rich_help_panel=WORKING)
def revoke(grant: GrantId, reason: options.Reason = "", server: options.Server = SERVER) -> None:
    """End a remembered yes: calls like it are asked about again."""
    _ask(server, lambda client: grants.revoke_grant(client, grant, reason, new_console()))


@commands.command(rich_help_panel=WORKING)
def switch(
    session: SessionId,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Its name; auto routes each.", show_default=False)],
    server: options.Server = SERVER,
) -> None:
    """Set whom a session's messages to come go to; what is queued and what runs keeps its agent."""
    _ask(server, lambda client: steer.switch_agent(client, session, agent, new_console()))


@plan.command("show")
def show_plan(
    plan_id: PlanId,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="As it is edited.")] = False,
    server: options.Server = SERVER,
) -> None:
    """Show one version of a plan, and what became of it."""
    _ask(server, lambda client: plans.show_plan(client, plan_id, new_console(), as_yaml=as_yaml))


@plan.command("edit")
def edit_plan(plan_id: PlanId, file: options.PlanFile = None, server: options.Server = SERVER) -> None:
    """Write the next version of a draft, in your editor ($VISUAL, $EDITOR) or from a file.

    It is asked about in the place of the version before, which is SUPERSEDED. What is done already stays as it is.
    """
    console = new_console()
    text = plans.read_text(file.read()) if file else None
    _ask(server, lambda client: plans.edit_plan(client, plan_id, partial(print_lines, console), text))


@commands.command(rich_help_panel=WORKING)
def pause(run: RunId, reason: options.Reason = "", server: options.Server = SERVER) -> None:
    """Start nothing new in a run; what is in flight ends first, and decisions are still taken.

    A queued run is PAUSED when its turn comes, and the runs behind it wait.
    """
    _ask(server, lambda client: steer.pause_run(client, run, reason, new_console()))


@commands.command(rich_help_panel=WORKING)
def resume(run: RunId, reason: options.Reason = "", server: options.Server = SERVER) -> None:
    """Let a paused run go on from where it is, or withdraw a pause that has not taken hold."""
    _ask(server, lambda client: steer.resume_run(client, run, reason, new_console()))


@commands.command(rich_help_panel=WORKING)
def cancel(run: RunId, reason: options.Reason = "", server: options.Server = SERVER) -> None:
    """End a run now, with its model and tool calls and its questions; the next one in its session starts.

    A tool call that was under way may have taken effect.
    """
    _ask(server, lambda client: steer.cancel_run(client, run, reason, new_console()))


@commands.command(rich_help_panel=WORKING)
def close(session: SessionId, reason: options.Reason = "", server: options.Server = SERVER) -> None:
    """End all that runs and waits in a session, for good: it takes no more messages."""
    _ask(server, lambda client: steer.close_session(client, session, reason, new_console()))


@commands.command(rich_help_panel=WORKING)
def artifacts(
    run: RunId,
    get: Annotated[
        str, typer.Option("--get", metavar="NAME", help="Write the bytes of this one, by name or id, to the output.")
    ] = "",
    server: options.Server = SERVER,
) -> None:
    """List the files a run's subtasks left, as they were when they were recorded, or write the bytes of one."""
    if get:
        _ask(server, lambda client: print_artifact(client, run, get))
    else:
        _ask(server, lambda client: list_artifacts(client, run, new_console()))


@commands.command(rich_help_panel=WORKING)
def report(
    run: RunId,
    server: options.Server = SERVER,
) -> None:
    """Show what a run did, what it cost and who approved what."""
    _ask(server, lambda client: show_report(client, run, new_console()))


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
