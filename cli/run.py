"""`assent run` and `assent watch`: one session followed from here, decided here, left and found again."""

import asyncio
from dataclasses import dataclass

from rich.console import Console

from cli.client import Client, new_request_id
from cli.screen import Screen
from cli.terminal import ask, has_person, new_screen
from cli.trouble import ExitCode, Trouble
from cli.view import SessionView
from cli.watch import Decider, Done, Nobody, Person, Script, Watch, nothing_left, run_ended
from gen.assent.v1.run_pb2 import Run
from gen.assent.v1.session_pb2 import Session, SessionSettings
from gen.assent.v1.session_service_pb2 import CreateSessionRequest, GetSessionRequest, SendMessageRequest

TITLE_LENGTH = 80


@dataclass(frozen=True)
class Manner:
    """How a person or a script wants to follow: `yes` approves everything, `plain` draws nothing."""

    yes: bool = False
    plain: bool = False
    detachable: bool = True  # the services outlive this command


async def run(
    client: Client,
    goal: str,
    console: Console,
    manner: Manner,
    *,
    session_id: str = "",
    agent: str = "",
    policy: str = "",
) -> Run:
    """Send a goal to a session, a new one unless one is named, and follow until its run has ended."""
    if not session_id:
        session_id = (await create_session(client, goal, policy)).id
    request = SendMessageRequest(session_id=session_id, text=goal, agent=agent, request_id=new_request_id())
    sent = await client.call(client.sessions.SendMessage, request)
    view = SessionView(session_id)
    before = sent.message.sequence - 1 if sent.message.sequence > 2 else 0
    await follow(client, view, console, manner, run_ended(sent.run.id), sent.last_sequence, before)
    ended = view.run(sent.run.id)
    if ended.state != "COMPLETED":
        raise Trouble(f"the run ended {ended.state}; see `assent report {sent.run.id}`", ExitCode.NOT_COMPLETED)
    return sent.run


async def create_session(client: Client, goal: str, policy: str = "") -> Session:
    """A session named after its first goal, with an empty workspace of its own; judged by the default where none is
    named."""
    settings = SessionSettings(policy=policy)
    request = CreateSessionRequest(title=goal[:TITLE_LENGTH], settings=settings, request_id=new_request_id())
    return (await client.call(client.sessions.CreateSession, request)).session


async def watch(client: Client, session_id: str, console: Console, manner: Manner, *, after: int) -> None:
    """Follow a session until nothing is left to happen in it by itself or by a decision."""
    session = await get_session(client, session_id)
    view = SessionView(session_id)
    await follow(client, view, console, manner, nothing_left, session.last_sequence, after)


async def get_session(client: Client, session_id: str) -> Session:
    """The session as it is now."""
    return (await client.call(client.sessions.GetSession, GetSessionRequest(session_id=session_id))).session


async def follow(
    client: Client,
    view: SessionView,
    console: Console,
    manner: Manner,
    done: Done,
    caught_up_at: int,
    shown_after: int,
) -> None:
    """Show and decide until `done`; on Ctrl-C leave, and say how to come back."""
    screen = new_screen(console, plain=manner.plain)
    decider = _decider(client, screen, manner)
    try:
        await Watch(client, view, screen, decider, caught_up_at, shown_after).until(done)
    except (asyncio.CancelledError, EOFError):
        screen.close()
        if manner.detachable:
            back = f"assent watch {view.session_id} --after {view.last_sequence}"
            console.print(f"\nleft; the session goes on. Come back with: {back}", soft_wrap=True)
        raise
    finally:
        screen.close()


def _decider(client: Client, screen: Screen, manner: Manner) -> Decider:
    if manner.yes:
        return Script(client, screen)
    return Person(client, screen, ask) if has_person() else Nobody(client, screen)
