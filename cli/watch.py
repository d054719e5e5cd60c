"""Following a session: its events go into the view and onto the screen, its approvals to whoever decides here."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from cli.client import Client
from cli.decide import Ask, answer_of_a_script, ask_person, decide
from cli.plans import edit_plan
from cli.preview import preview
from cli.screen import Screen, Show
from cli.story import Line, tell
from cli.terms import terms_of
from cli.trouble import ExitCode, Trouble
from cli.view import Gap, SessionView
from cli.words import one_line, state_of
from gen.assent.v1.approval_pb2 import APPROVAL_KIND_QUESTION, Approval
from gen.assent.v1.approval_service_pb2 import GetApprovalRequest

Done = Callable[[SessionView], bool]

NOT_THEIRS = frozenset({"DECIDER_NOT_ALLOWED", "SELF_APPROVAL"})  # somebody else must: asking again is no use
LOST = frozenset({"APPROVAL_ALREADY_RESOLVED", "APPROVAL_SUPERSEDED"})
RESTING = frozenset({"IDLE", "COMPLETED", "CLOSED"})


class Decider(Protocol):
    """Whoever answers approvals here."""

    async def answer(self, approval: Approval) -> None:
        """Answer one approval, or tell how it can be answered."""


@dataclass
class Watch:
    """One session on one screen. `caught_up_at` is the sequence from which pending approvals are really pending."""

    client: Client
    view: SessionView
    screen: Screen
    decider: Decider
    caught_up_at: int = 0
    shown_after: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _away: bool = False  # the stream is lost, and that has been said

    async def until(self, done: Done) -> None:
        """Follow until `done`; a Trouble of the stream or of a decision ends it too."""
        following = asyncio.create_task(self._follow(done))
        deciding = asyncio.create_task(self._decide())
        try:
            await asyncio.wait([following, deciding], return_when=asyncio.FIRST_COMPLETED)
            ended = deciding if deciding.done() else following
            await ended
        finally:
            following.cancel()
            deciding.cancel()
            await asyncio.gather(following, deciding, return_exceptions=True)

    async def _follow(self, done: Done) -> None:
        while True:
            events = self.client.follow(self.view.session_id, after=lambda: self.view.last_sequence, lost=self._lost)
            try:
                async for event in events:
                    self._away = False
                    if not self.view.apply(event):
                        continue
                    if event.sequence > self.shown_after:
                        self.screen.show(tell(event, self.view), event.sequence)
                    self.screen.refresh(self.view)
                    self._changed.set()
                    if self.view.last_sequence >= self.caught_up_at and done(self.view):
                        return
            except Gap as gap:
                self._lost(str(gap))
            finally:
                await events.aclose()

    def _lost(self, why: str) -> None:
        """Said once, however many times it takes to come back."""
        if not self._away:
            self._away = True
            place = self.view.last_sequence
            text = f"the stream was lost ({one_line(why, 60)}); going on after event {place}"
            self.screen.show([Line(text, "notice")])

    async def _decide(self) -> None:
        """One approval after another, oldest first, each once; withdrawn when it is decided elsewhere."""
        answered: set[str] = set()
        while True:
            waiting = [each for each in self.view.approvals.values() if each.id not in answered]
            if not waiting or self.view.last_sequence < self.caught_up_at:
                self._changed.clear()
                await self._changed.wait()
                continue
            approval = waiting[0]
            answered.add(approval.id)
            answering = asyncio.create_task(self.decider.answer(approval))
            resolved = asyncio.create_task(self._resolved(approval.id))
            try:
                await asyncio.wait([answering, resolved], return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    await answering
            finally:
                answering.cancel()
                resolved.cancel()
                await asyncio.gather(answering, resolved, return_exceptions=True)

    async def _resolved(self, approval_id: str) -> None:
        while approval_id in self.view.approvals:
            self._changed.clear()
            await self._changed.wait()


def run_ended(run_id: str) -> Done:
    """That run has ended, and the session has come to rest or gone on to another run."""

    def done(view: SessionView) -> bool:
        active = view.active_run
        moved_on = active is not None and active.id != run_id
        return view.run(run_id).ended and (view.state in RESTING or moved_on)

    return done


def nothing_left(view: SessionView) -> bool:
    """No run is open."""
    return all(run.ended for run in view.runs.values()) and view.state in RESTING


async def looked_at(client: Client, approval: Approval) -> Approval:
    """As the server shows it now: of a write the event that asked has no diff."""
    if not approval.preview.path:
        return approval
    return (await client.call(client.approvals.GetApproval, GetApprovalRequest(approval_id=approval.id))).approval


@dataclass
class Person:
    """Asks the person at the terminal."""

    client: Client
    screen: Screen
    ask: Ask

    async def answer(self, approval: Approval) -> None:
        approval = await looked_at(self.client, approval)
        while True:
            with self.screen.still() as show:
                try:
                    if terms := terms_of(approval, datetime.now(UTC)):
                        show(terms)
                    answer = await ask_person(approval, self.ask, show)
                    if answer.edits_plan:
                        if await self._edit(approval, show):
                            return
                        continue
                except asyncio.CancelledError:
                    show([Line("")])  # ends the line of the prompt
                    raise
            try:
                await decide(self.client, approval, answer)
            except Trouble as trouble:
                self.screen.show([Line(f"  not decided: {trouble}", "bad")])
                if trouble.code is ExitCode.UNREACHABLE:
                    raise
                if trouble.reason in (*LOST, *NOT_THEIRS):
                    return
            else:
                return

    async def _edit(self, approval: Approval, show: Show) -> bool:
        """Whether there is another version to decide about, which is asked about by itself."""
        try:
            return await edit_plan(self.client, approval.plan_id, show)
        except Trouble as trouble:
            show([Line(f"  not edited: {trouble}", "bad")])
            return False


@dataclass
class Script:
    """`--yes`: approves through the public API, as any client would."""

    client: Client
    screen: Screen

    async def answer(self, approval: Approval) -> None:
        self.screen.show(preview(await looked_at(self.client, approval)))
        answer = answer_of_a_script(approval)
        if answer is None:
            kind = state_of(approval, "kind")
            raise Trouble(
                f"a person must decide {kind} {approval.id}; see `assent approvals {approval.id}`, "
                f"answer it, then `assent watch {approval.session_id}`",
                ExitCode.WAITING,
            )
        try:
            await decide(self.client, approval, answer)
        except Trouble as trouble:
            if trouble.reason not in LOST:
                raise


@dataclass
class Nobody:
    """No terminal and no `--yes`: says how it can be decided, and goes on watching."""

    client: Client
    screen: Screen

    async def answer(self, approval: Approval) -> None:
        approval = await looked_at(self.client, approval)
        self.screen.show([*preview(approval), *terms_of(approval, datetime.now(UTC))])
        ways = f"assent approve {approval.id}  or  assent reject {approval.id} --feedback …"
        if approval.kind == APPROVAL_KIND_QUESTION:
            ways = f"assent decide {approval.id} respond --answer …"
        self.screen.show([Line(f"  decide with: {ways}", "ask")])
