"""`assent approvals`, `approve`, `reject`, `decide`, `plan`, `grants`, `revoke`: what is asked, and the answers."""

from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from cli import grants, inbox, options, plans
from cli.calling import ask
from cli.decide import Answer
from cli.screen import print_lines
from cli.terminal import new_console
from gen.assent.v1.approval_pb2 import DECISION_ACTION_APPROVE, DECISION_ACTION_REJECT

PANEL = "Deciding"
commands = typer.Typer()
plan = typer.Typer(no_args_is_help=True, help="Read a version of a plan, or write the next one of a draft.")
commands.add_typer(plan, name="plan", rich_help_panel=PANEL)


@commands.command(rich_help_panel=PANEL)
def approvals(
    approval: Annotated[str, typer.Argument(metavar="ID", help="Show this one in full.", show_default=False)] = "",
    session: Annotated[str, typer.Option("--session", metavar="ID", help="Only of this session.")] = "",
    tool: Annotated[str, typer.Option("--tool", metavar="NAME", help="Only of calls of this tool.")] = "",
    mine: Annotated[bool, typer.Option("--mine", help="Only what you may decide.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on telling what is asked and answered.")] = False,
    server: options.Server = options.SERVER,
) -> None:
    """List what waits for a decision, newest first, or show one approval in full.

    With --watch it lists oldest first, and goes on telling what is asked and answered.
    """
    console = new_console()
    if approval and watch:
        raise typer.BadParameter("takes no ID", param_hint="--watch")
    wanted = inbox.Wanted(session, tool, mine)
    if watch:
        ask(server, lambda client: inbox.watch_approvals(client, console, wanted))
    elif approval:
        ask(server, lambda client: inbox.show_approval(client, approval, console))
    else:
        ask(server, lambda client: inbox.list_approvals(client, console, wanted))


@commands.command(rich_help_panel=PANEL)
def approve(
    approval: options.ApprovalId,
    feedback: options.Feedback = "",
    work_seconds: options.WorkSeconds = 0,
    calls: options.Calls = 0,
    tokens: options.Tokens = 0,
    remember: options.RememberIt = False,
    only: options.Only = "",
    lifetime: options.For = "",
    digest: options.Digest = "",
    server: options.Server = options.SERVER,
) -> None:
    """Let exactly what an approval shows happen; with --remember, later calls like it too, in its session."""
    if (only or lifetime) and not remember:
        raise typer.BadParameter("goes with --remember", param_hint="--only" if only else "--for")
    wish = grants.remember(only, lifetime) if remember else None
    answer = Answer(
        DECISION_ACTION_APPROVE, feedback, work_seconds=work_seconds, calls=calls, tokens=tokens, remember=wish
    )
    ask(server, lambda client: inbox.answer_approval(client, approval, answer, new_console(), digest=digest))


@commands.command(rich_help_panel=PANEL)
def reject(
    approval: options.ApprovalId,
    feedback: options.Feedback = "",
    digest: options.Digest = "",
    server: options.Server = options.SERVER,
) -> None:
    """Do not let it happen, and tell the agent why."""
    answer = Answer(DECISION_ACTION_REJECT, feedback)
    ask(server, lambda client: inbox.answer_approval(client, approval, answer, new_console(), digest=digest))


@commands.command(rich_help_panel=PANEL)
def decide(
    approval: options.ApprovalId,
    action: Annotated[str, typer.Argument(metavar="ANSWER", help="One that the approval takes.", show_default=False)],
    feedback: options.Feedback = "",
    arguments: options.Arguments = None,
    response: options.Response = None,
    file: options.EditedFile = None,
    words: options.Words = "",
    digest: options.Digest = "",
    server: options.Server = options.SERVER,
) -> None:
    """Give any answer an approval takes: approve, edit, reject, request-changes, respond, retry, replan, skip, abort.

    Edit runs a call with other arguments, as exactly the bytes of a file, or puts a file in an artifact's place.

    Respond answers a question, or gives a call's result so that nothing runs. A terminal asks for a question's answer.

    A new limit, and a yes that is remembered, are options of `assent approve`.
    """
    answer = inbox.answer_of(
        action, feedback, arguments.read() if arguments else b"", response.read() if response else b""
    )
    answer = replace(answer, edited_artifact=file.read() if file else b"")
    ask(
        server,
        lambda client: inbox.answer_approval(client, approval, answer, new_console(), digest=digest, words=words),
    )


@commands.command("grants", rich_help_panel=PANEL)
def list_grants(session: options.SessionId, server: options.Server = options.SERVER) -> None:
    """List the remembered yeses of a session: which calls run unasked, until when, and how often they did."""
    ask(server, lambda client: grants.list_grants(client, session, new_console()))


@commands.command(rich_help_panel=PANEL)
def revoke(grant: options.GrantId, reason: options.Reason = "", server: options.Server = options.SERVER) -> None:
    """End a remembered yes: calls like it are asked about again."""
    ask(server, lambda client: grants.revoke_grant(client, grant, reason, new_console()))


@plan.command("show")
def show_plan(
    plan_id: options.PlanId,
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Write it as YAML, as `plan edit` takes it.")] = False,
    server: options.Server = options.SERVER,
) -> None:
    """Show one version of a plan, and what became of it."""
    ask(server, lambda client: plans.show_plan(client, plan_id, new_console(), as_yaml=as_yaml))


@plan.command("edit")
def edit_plan(plan_id: options.PlanId, file: options.PlanFile = None, server: options.Server = options.SERVER) -> None:
    """Write the next version of a draft, in your editor ($VISUAL, $EDITOR) or from a file.

    It is asked about in the place of the version before, which is SUPERSEDED. What is done already stays as it is.
    """
    console = new_console()
    text = plans.read_text(file.read()) if file else None
    ask(server, lambda client: plans.edit_plan(client, plan_id, partial(print_lines, console), text))
