"""Commands on sessions and their messages."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.domain import control
from orchestrator.domain.change import Change
from orchestrator.domain.client_tools import check_client_tools
from orchestrator.domain.commands import check_agent, check_policy, create_session, receive_message, switch_agent
from orchestrator.domain.errors import (
    InvalidInput,
    NotFound,
    StorageUnavailable,
    Violation,
    WorkspaceNotAllowed,
    WrongState,
)
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Budget, ClientTool, Message, Run, Session, Workspace
from orchestrator.domain.states import SessionState
from orchestrator.operations.commanding import command, first_answer, replay, request_row
from orchestrator.operations.context import Caller, Context
from orchestrator.store import erasing, queries
from orchestrator.store.answers import Outcome
from orchestrator.store.requests import find as find_request


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a client says of the session it wants.

    Empty root: one that a connected executor offers. Empty directory: a new one of the session's own.
    """

    title: str = ""
    agent: str = "auto"
    labels: Mapping[str, str] | None = None
    when_busy: str = "ENQUEUE"
    workspace_root: str = ""
    workspace_directory: str = ""
    budget: Budget = field(default_factory=Budget)
    priority: int = 0
    client_tools: Sequence[ClientTool] = ()
    policy: str = ""  # empty: the catalog's default


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was stored, the run it started or queued, and the sequence to stream after to see them."""

    message: Message
    run: Run
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Switched:
    """The session with its agent, and the sequence that the event of it follows."""

    session: Session
    began_after: int


async def create(ctx: Context, caller: Caller, wish: NewSession) -> Session:
    if (replayed := await replay(ctx, caller, Session)) is not None:
        return replayed
    if wish.client_tools:  # in a thread of its own: the meta-schema takes its time over a large schema
        await asyncio.to_thread(check_client_tools, wish.client_tools, ctx.catalog)
    session_id = ctx.new_id()
    root = _root(wish.workspace_root, ctx.hands.workspace_roots())
    workspace = Workspace(root, _directory(wish.workspace_directory) or session_id)
    session = Session(
        caller.tenant,
        session_id,
        title=wish.title,
        agent=check_agent(wish.agent or "auto", ctx.catalog),
        labels=dict(wish.labels or {}),
        when_busy=wish.when_busy or "ENQUEUE",
        workspace=workspace,
        client_tools=list(wish.client_tools),
        creator=caller.subject,
        budget=wish.budget,
        priority=wish.priority,
        policy=check_policy(wish.policy, ctx.catalog),
    )
    change = create_session(session, ctx.clock(), ctx.new_id)
    made = replace(change.session, last_sequence=change.next_sequence - 1)
    change_set = change.as_change_set(creates=True, request=request_row(ctx, caller, made))
    answer = await ctx.writer.write(change_set, operation=caller.method, trace_id=caller.trace_id)
    if answer.outcome == Outcome.DUPLICATE and answer.request is not None:
        return first_answer(answer.request, caller, Session)
    if answer.session is None:
        raise StorageUnavailable(f"the session was not written: {answer.outcome}")
    change.snapshot.session = answer.session
    ctx.kept.put(change.snapshot)
    return made


async def send_message(ctx: Context, caller: Caller, session_id: str, text: str, agent: str) -> Sent:
    """Raises InvalidInput for an unknown agent, WrongState for a closed session, SessionBusy, LimitExceeded."""
    if not text.strip():
        raise InvalidInput([Violation("text", "must not be empty")])

    def decide(change: Change) -> Callable[[], Sent]:
        message, run = receive_message(change, text, agent, caller.subject, ctx.catalog, traceparent=caller.traceparent)
        return lambda: Sent(message, change.snapshot.runs[run.id], message.sequence - 1)

    return await command(ctx, caller, session_id, Sent, decide)


async def switch(ctx: Context, caller: Caller, session_id: str, agent: str) -> Switched:
    """Raises UnknownAgent, WrongState for a closed session."""

    def decide(change: Change) -> Callable[[], Switched]:
        began_after = change.session.last_sequence
        switch_agent(change, agent, caller.subject, ctx.catalog)
        return lambda: Switched(_as_it_will_be(change), began_after)

    return await command(ctx, caller, session_id, Switched, decide)


async def close(ctx: Context, caller: Caller, session_id: str, reason: str) -> Session:
    """Raises WrongState for a session that is closed."""

    def decide(change: Change) -> Callable[[], Session]:
        control.close(change, caller.subject, reason)
        return lambda: _as_it_will_be(change)

    return await command(ctx, caller, session_id, Session, decide)


def _as_it_will_be(change: Change) -> Session:
    """The session once the change is written."""
    return replace(change.session, last_sequence=change.next_sequence - 1, update_time=change.now)


async def delete(ctx: Context, caller: Caller, session_id: str) -> None:
    """The session is gone for everybody; what it has left is erased soon. Raises WrongState for one that is open."""
    if await replay(ctx, caller, bool):
        return
    if await erasing.begin(ctx.database, caller.tenant, session_id, request_row(ctx, caller, True)):
        ctx.on_deleted(caller.tenant, session_id)
        return
    # Looked for once more: a repeat at the same moment, or ours, whose answer was lost, was first.
    stored = await find_request(ctx.database, caller.tenant, caller.subject, caller.request_id)
    if stored is not None:
        first_answer(stored, caller, bool)
        return
    session = await queries.get_session(ctx.database, caller.tenant, session_id)
    if session is None:
        raise NotFound("session", session_id)
    raise WrongState("session", session_id, session.state, "deleted", (SessionState.CLOSED,))


def _root(wanted: str, offered: list[str]) -> str:
    """While no executor is connected any root is believed, and none is named: the first dispatch then chooses."""
    if wanted and offered and wanted not in offered:
        words = f"no executor offers this root; there are: {', '.join(offered)}"
        raise WorkspaceNotAllowed([Violation("workspace.root_id", words)])
    return wanted or next(iter(offered), "")


def _directory(path: str) -> str:
    """A directory under the executor's root, as the executor will check again. Raises InvalidInput."""
    parts = path.split("/")
    if path and (path.startswith("/") or ".." in parts or "" in parts or "\x00" in path):
        raise InvalidInput([Violation("workspace.directory", "must be a relative path without '..'")])
    return path
