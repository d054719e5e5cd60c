"""A watcher of the inbox sees what is pending and then each change once, whatever falls together."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import StorageUnavailable
from orchestrator.domain.events import ApprovalReminder, ApprovalRequested, ApprovalResolved, LoggedEvent, VoteRecorded
from orchestrator.domain.records import Approval, Vote
from orchestrator.streaming.about import About
from orchestrator.streaming.feed import MAX_BOX_BYTES, Heartbeat, Position, SlowWatcher, StreamEnding
from orchestrator.streaming.inbox import CHECK_SECONDS, Filter, Inboxes, InboxOutdated, InboxWatch, Snapshot, everything
from orchestrator.streaming.shown import Shows, Tally
from tests.unit.engine.virtual_time import VirtualLoop, in_virtual_time, settle

TENANT = "default"
PAGE = 2
Part = Snapshot | list[LoggedEvent] | Heartbeat


def approval(number: int, kind: str = "TOOL_CALL", session: str = "session") -> Approval:
    return Approval(TENANT, f"00000000-0000-7000-8000-{number:012x}", session, "run", kind, "digest")


class Database:
    """Approvals and the log they make; answers are those of the moment they were asked for, however late they come."""

    def __init__(self) -> None:
        self.approvals: dict[str, Approval] = {}
        self.log: dict[str, list[LoggedEvent]] = {}
        self.is_away = False

    def ask(self, asked: Approval) -> LoggedEvent:
        self.approvals[asked.id] = asked
        return self._append(asked.session_id, {"approval_requested": ApprovalRequested(asked)})

    def resolve(self, asked: Approval) -> LoggedEvent:
        self.approvals[asked.id] = replace(asked, state="RESOLVED")
        resolved = ApprovalResolved(asked.id, asked.kind, asked.run_id, "RESOLVED", "approved")
        return self._append(asked.session_id, {"approval_resolved": resolved})

    def vote(self, asked: Approval, votes: int) -> LoggedEvent:
        voter = Vote("anna", "APPROVE", 0)
        self.approvals[asked.id] = replace(self.approvals[asked.id], votes=[voter] * votes)
        voted = VoteRecorded(asked.id, asked.kind, asked.run_id, "anna", "APPROVE", "", votes, 3)
        return self._append(asked.session_id, {"vote_recorded": voted})

    def remind(self, asked: Approval, number: int) -> LoggedEvent:
        self.approvals[asked.id] = replace(self.approvals[asked.id], reminders=number)
        reminder = ApprovalReminder(asked.id, asked.kind, asked.run_id, number, 0)
        return self._append(asked.session_id, {"approval_reminder": reminder})

    def _append(self, session_id: str, payload: object) -> LoggedEvent:
        log = self.log.setdefault(session_id, [])
        log.append(LoggedEvent(TENANT, session_id, len(log) + 1, 0, "", msgspec.json.encode(payload).decode(), "", ""))
        return log[-1]

    def pending(self, wanted: Filter) -> list[Approval]:
        mine = [a for a in self.approvals.values() if a.state == "PENDING" and a.tenant == wanted.tenant]
        return sorted(
            (a for a in mine if wanted.takes(a.session_id, About(a.id, a.kind, a.run_id, "ASKED", a.tool))),
            key=lambda a: a.id,
        )

    async def page(self, wanted: Filter, token: str) -> tuple[Sequence[Approval], str]:
        found = [a for a in self.pending(wanted) if a.id > token]
        await self._answer()
        return found[:PAGE], found[PAGE - 1].id if len(found) > PAGE else ""

    async def tally(self, wanted: Filter) -> Tally:
        numbers = [int(a.id[-8:], 16) for a in self.pending(wanted)]
        await self._answer()
        return Tally(len(numbers), sum(numbers))

    async def events_after(self, tenant: str, session_id: str, after: int, limit: int) -> list[LoggedEvent]:
        found = self.log[session_id][after : after + limit]
        await self._answer()
        return found

    async def positions(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Position]:
        raise AssertionError("an inbox follows no session")

    async def _answer(self) -> None:
        await settle(3)
        if self.is_away:
            raise StorageUnavailable("away")


class Scene:
    def __init__(self) -> None:
        self.database = Database()
        self.ended = asyncio.Event()
        self.inboxes = Inboxes(self.database, self.database, self.ended)
        self.running = asyncio.create_task(self.inboxes.run())

    def here(self, event: LoggedEvent) -> None:
        self.inboxes.publish(TENANT, [event])

    def elsewhere(self, event: LoggedEvent) -> None:
        self.inboxes.hear(TENANT, event.session_id, [event.sequence])


class Client:
    """What somebody who watches believes to be pending; wrong steps fail at once."""

    def __init__(self, scene: Scene, wanted: Filter | None = None, shows: Shows = everything) -> None:
        self.pending: dict[str, Approval | None] = {}
        self.changes: list[str] = []
        self.is_complete = False
        self._scene = scene
        self._wanted = wanted or Filter(TENANT)
        self._shows = shows
        self.task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        with self._scene.inboxes.join(self._wanted, self._shows) as watch:
            async for part in watch.parts():
                self._take(part)

    def _take(self, part: Part) -> None:
        if isinstance(part, Snapshot):
            assert not self.is_complete
            assert len(part.approvals) <= PAGE
            assert not self.pending.keys() & {a.id for a in part.approvals}
            self.pending |= {a.id: a for a in part.approvals}
            self.is_complete = part.is_complete
        elif isinstance(part, list):
            for event in part:
                self._change(event)

    def _change(self, event: LoggedEvent) -> None:
        assert self.is_complete
        ((name, fields),) = msgspec.json.decode(event.payload_json).items()
        if name == "approval_requested":
            assert fields["approval"]["id"] not in self.pending
            self.pending[fields["approval"]["id"]] = None
        elif name == "approval_resolved":
            del self.pending[fields["approval_id"]]
        else:
            assert fields["approval_id"] in self.pending
        self.changes.append(name)


def played(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(whole())


acts = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("resolve"), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("late word"), st.integers(0, 3), st.just(False)),
        st.tuples(st.just("turns"), st.integers(1, 8), st.just(False)),
        st.tuples(st.just("come"), st.just(0), st.just(False)),
    ),
    min_size=3,
    max_size=50,
)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(acts)
def test_whatever_falls_together_everybody_sees_what_is_pending_and_nothing_twice(
    story: list[tuple[str, int, bool]],
) -> None:
    async def run() -> None:
        scene, clients, late = Scene(), list[Client](), list[LoggedEvent]()
        clients.append(Client(scene))
        for act, number, is_here in story:
            asked = approval(number)
            known = scene.database.approvals.get(asked.id)
            match act:
                case "ask" if known is None:
                    event = scene.database.ask(asked)
                    scene.here(event) if is_here else late.append(event)
                case "resolve" if known is not None and known.state == "PENDING":
                    event = scene.database.resolve(asked)
                    scene.here(event) if is_here else late.append(event)
                case "late word" if late:  # replicas are not heard in each other's order
                    scene.elsewhere(late.pop(number % len(late)))
                case "turns":
                    await settle(number)
                case "come":
                    clients.append(Client(scene))
        for event in late * 2:  # not sure whether it was told, somebody tells all of it again
            scene.elsewhere(event)
        await settle(100)
        expected = {a.id for a in scene.database.pending(Filter(TENANT))}
        for client in clients:
            if client.task.done():
                await client.task
            assert client.pending.keys() == expected
        await asyncio.sleep(10 * CHECK_SECONDS)
        assert not any(client.task.done() for client in clients)

    played(run)


@in_virtual_time
async def test_who_was_there_sees_every_change_in_order_also_where_the_answer_is_heard_before_the_question() -> None:
    scene = Scene()
    client = Client(scene)
    await settle()
    one, two = approval(1), approval(2)
    scene.here(scene.database.ask(one))
    asked, resolved = scene.database.ask(two), scene.database.resolve(two)
    scene.elsewhere(resolved)
    await settle()
    scene.elsewhere(asked)
    scene.here(scene.database.resolve(one))
    for event in (asked, resolved):  # not sure whether they were told, their replica tells them again
        scene.elsewhere(event)
    await settle()
    assert sorted(client.changes) == ["approval_requested"] * 2 + ["approval_resolved"] * 2
    assert client.pending == {}


@in_virtual_time
async def test_a_filter_and_a_tenant_are_kept_to() -> None:
    scene = Scene()
    plan, call, foreign = approval(1, "PLAN"), approval(2, session="other"), approval(3)
    plans = Client(scene, Filter(TENANT, kind="PLAN"))
    others = Client(scene, Filter(TENANT, session_id="other"))
    strangers = Client(scene, Filter("stranger"))
    scene.database.ask(approval(4, "PLAN"))
    await settle()
    for asked in (plan, call, foreign):
        scene.here(scene.database.ask(asked))
    await settle()
    assert plans.pending.keys() == {approval(4).id, plan.id}
    assert others.pending.keys() == {call.id}
    assert strangers.is_complete
    assert strangers.pending == {}


@in_virtual_time
async def test_a_run_and_a_tool_are_kept_to_from_the_snapshot_to_the_answer() -> None:
    scene = Scene()
    mail, disk, later = (
        replace(approval(n), tool=tool, run_id=run)
        for n, (tool, run) in enumerate([("send_mail", "a"), ("format_disk", "b"), ("send_mail", "b")])
    )
    of_tool = Client(scene, Filter(TENANT, tool="send_mail"))
    of_run = Client(scene, Filter(TENANT, run_id="b"))
    of_both = Client(scene, Filter(TENANT, run_id="b", tool="send_mail"))
    scene.database.ask(mail)
    scene.database.ask(disk)
    await settle()
    scene.here(scene.database.ask(later))
    scene.here(scene.database.resolve(disk))
    await asyncio.sleep(3 * CHECK_SECONDS)
    assert of_tool.pending.keys() == {mail.id, later.id}
    assert of_run.pending.keys() == of_both.pending.keys() == {later.id}
    assert (of_tool.changes, of_run.changes) == (["approval_requested"], ["approval_requested", "approval_resolved"])
    assert not any(client.task.done() for client in (of_tool, of_run, of_both))


@in_virtual_time
async def test_what_somebody_may_not_decide_they_are_not_shown_and_nothing_is_missed_for_it() -> None:
    scene = Scene()
    client = Client(scene, shows=lambda a: a.tool == "mine")
    mine, other, late_mine, late_other = (
        replace(approval(n), tool=tool) for n, tool in enumerate(("mine", "other", "mine", "other"))
    )
    scene.database.ask(mine)
    scene.database.ask(other)
    await settle()
    assert client.pending.keys() == {mine.id}
    for event in (
        scene.database.ask(late_other),
        scene.database.ask(late_mine),
        scene.database.vote(other, 1),
        scene.database.remind(late_other, 1),
        scene.database.resolve(other),
        scene.database.resolve(late_other),
        scene.database.resolve(mine),
    ):
        scene.here(event)
    resolved_first = replace(approval(9), tool="other")
    asked, resolved = scene.database.ask(resolved_first), scene.database.resolve(resolved_first)
    scene.elsewhere(resolved)
    await settle()
    scene.elsewhere(asked)
    await asyncio.sleep(3 * CHECK_SECONDS)
    assert client.pending.keys() == {late_mine.id}
    assert client.changes == ["approval_requested", "approval_resolved"]
    assert not client.task.done()


@in_virtual_time
async def test_votes_and_reminders_come_once_and_not_again_after_a_snapshot_that_has_them() -> None:
    scene = Scene()
    one, two = approval(1), approval(2)
    scene.database.ask(one)
    scene.database.ask(two)
    first_vote, first_reminder = scene.database.vote(one, 1), scene.database.remind(two, 1)
    client = Client(scene)
    await settle()
    for event in (first_vote, first_reminder, first_vote):  # what the snapshot has, told late
        scene.elsewhere(event)
    await settle()
    assert client.changes == []
    scene.here(scene.database.vote(one, 2))
    scene.here(scene.database.remind(two, 2))
    scene.here(scene.database.remind(one, 1))
    scene.here(scene.database.resolve(one))
    scene.elsewhere(scene.database.remind(one, 2))  # heard after the answer
    await settle()
    assert client.changes == ["vote_recorded", "approval_reminder", "approval_reminder", "approval_resolved"]


@in_virtual_time
async def test_who_was_not_told_of_something_begins_again() -> None:
    scene = Scene()
    told = Client(scene)
    await settle()
    scene.database.ask(approval(1))  # and its replica dies
    await asyncio.sleep(3 * CHECK_SECONDS)
    with pytest.raises(InboxOutdated):
        await told.task
    again = Client(scene)
    await asyncio.sleep(3 * CHECK_SECONDS)
    assert again.pending.keys() == {approval(1).id}
    assert not again.task.done()


@in_virtual_time
async def test_a_word_that_takes_a_while_is_not_taken_for_lost() -> None:
    scene = Scene()
    client = Client(scene)
    await asyncio.sleep(CHECK_SECONDS - 0.1)
    for number in range(6):
        event = scene.database.ask(approval(number))
        await asyncio.sleep(CHECK_SECONDS)  # one check passes
        scene.elsewhere(event)
    await settle()
    assert len(client.pending) == 6


@in_virtual_time
async def test_while_the_database_is_away_nobody_is_cut_and_what_was_missed_is_found_later() -> None:
    scene = Scene()
    client = Client(scene)
    await settle()
    event = scene.database.ask(approval(1))
    scene.database.is_away = True
    scene.elsewhere(event)
    await asyncio.sleep(5 * CHECK_SECONDS)
    assert not client.task.done()
    scene.database.is_away = False
    await asyncio.sleep(3 * CHECK_SECONDS)
    with pytest.raises(InboxOutdated):
        await client.task


async def first_parts(watch: InboxWatch) -> AsyncIterator[Part]:
    parts = watch.parts()
    await anext(parts)
    return parts


@in_virtual_time
async def test_a_slow_watcher_is_cut_and_keeps_nothing() -> None:
    scene = Scene()
    with scene.inboxes.join(Filter(TENANT)) as watch:
        parts = await first_parts(watch)
        large = replace(approval(1), arguments_json="x" * 100_000)
        for number in range(MAX_BOX_BYTES // 100_000 + 1):
            scene.here(scene.database.ask(replace(large, id=approval(number).id)))
        with pytest.raises(SlowWatcher):
            await anext(parts)
        assert watch.box.is_empty


@in_virtual_time
async def test_a_stopping_replica_ends_the_watch() -> None:
    scene = Scene()
    client = Client(scene)
    await settle()
    scene.ended.set()
    scene.inboxes.wake()
    with pytest.raises(StreamEnding):
        await client.task


@in_virtual_time
async def test_a_quiet_inbox_says_that_it_lives() -> None:
    scene = Scene()
    with scene.inboxes.join(Filter(TENANT)) as watch:
        parts = await first_parts(watch)
        assert await anext(parts) == Heartbeat(0)
