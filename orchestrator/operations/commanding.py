"""How a command is carried out on a session: load, decide, write once; stale: load and decide again.

If nobody owns the session, the engine's rules go on at once and this replica claims it in the same change set, so a
run is born with its first step started. Otherwise the owner is nudged.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from orchestrator.domain.change import Change, ChangeSet, Request
from orchestrator.domain.errors import DomainError, NotFound, RequestIdReused, StorageUnavailable
from orchestrator.domain.reconcile import reconcile
from orchestrator.domain.snapshot import Snapshot
from orchestrator.domain.starting import World
from orchestrator.domain.states import SessionState
from orchestrator.operations.context import Caller, Context, Reservation
from orchestrator.store import codec, snapshots
from orchestrator.store.answers import Answer, Outcome
from orchestrator.store.requests import find as find_request
from orchestrator.store.timing import observe_tries

A = TypeVar("A")
Decide = Callable[[Change], Callable[[], A]]

STALE_TRIES = 3


class NotInSnapshot(Exception):
    """What the command is about is not in the session's snapshot. Raised by those who then look elsewhere."""


async def command(ctx: Context, caller: Caller, session_id: str, answer_type: type[A], decide: Decide[A]) -> A:
    """Carry out `decide` on the session and return its answer.

    `decide` changes the Change and gives a function that makes the answer from what came of it; it may run several
    times, each on a fresh snapshot. A repeat of the request returns the first answer. Raises what `decide` raises,
    NotFound, RequestIdReused and StorageUnavailable.
    """
    if (replayed := await replay(ctx, caller, answer_type)) is not None:
        return replayed
    try:
        return await _to_its_end(_carry_out(ctx, caller, session_id, answer_type, decide))
    except StorageUnavailable:
        raise
    except DomainError:
        # Perhaps it was carried out by its first sending, just before the session was loaded for this one.
        if (replayed := await replay(ctx, caller, answer_type)) is not None:
            return replayed
        raise


async def _to_its_end(command: Coroutine[Any, Any, A]) -> A:
    """It goes on though its caller goes away: what it is writing may claim the session and dispatch a step."""
    task = asyncio.create_task(command)
    _under_way.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


_under_way: set[asyncio.Task[Any]] = set()


def _ended(task: asyncio.Task[Any]) -> None:
    _under_way.discard(task)
    if not task.cancelled():
        task.exception()  # whoever waits is told; if nobody does, it is nobody's


async def _carry_out(ctx: Context, caller: Caller, session_id: str, answer_type: type[A], decide: Decide[A]) -> A:
    may_run = True
    for tries in range(1, STALE_TRIES + 1):
        attempt = _on_kept(ctx, caller, session_id, decide) if tries == 1 else None
        if attempt is None:
            snapshot = await snapshots.load(ctx.database, caller.tenant, session_id)
            if snapshot is None:
                raise NotFound("session", session_id)
            attempt = _Attempt(ctx, caller, snapshot, decide, may_run)
        try:
            answer = await attempt.write()
            if answer.outcome == Outcome.WRITTEN:
                observe_tries(caller.method, tries)
                return attempt.done(answer)
        finally:
            attempt.abandon()
        may_run = may_run and answer.outcome != Outcome.OVER
        if answer.outcome not in (Outcome.STALE, Outcome.FENCED, Outcome.OVER):
            return _unwritten(caller, session_id, answer, answer_type)
    return await _take_turn(ctx, caller, session_id, answer_type, decide, may_run)


def _on_kept(ctx: Context, caller: Caller, session_id: str, decide: Decide[A]) -> "_Attempt[A] | None":
    """A try on what this replica kept of the session, if that makes it a change: only a write finds it outdated."""
    snapshot = ctx.kept.take(caller.tenant, session_id)
    if snapshot is None:
        return None
    try:
        attempt = _Attempt(ctx, caller, snapshot, decide, may_run=True)
    except (DomainError, NotInSnapshot):
        return None
    return attempt if attempt.changes else None


async def replay(ctx: Context, caller: Caller, answer_type: type[A]) -> A | None:
    """The first answer to this request id, if it was answered. Raises RequestIdReused for other content."""
    if not caller.repeats:
        return None
    stored = await find_request(ctx.database, caller.tenant, caller.subject, caller.request_id)
    return None if stored is None else first_answer(stored, caller, answer_type)


def first_answer(stored: Request, caller: Caller, answer_type: type[A]) -> A:
    if (stored.method, stored.fingerprint) != (caller.method, caller.fingerprint):
        raise RequestIdReused(caller.request_id)
    return codec.from_json(stored.answer_json, answer_type)


def request_row(ctx: Context, caller: Caller, answer: object) -> Request:
    """The row that settles whether the command was carried out, whoever asks again and whatever was lost."""
    return Request(
        caller.tenant,
        caller.subject,
        caller.request_id,
        caller.method,
        caller.fingerprint,
        codec.to_json(answer),
        ctx.clock(),
    )


class _Attempt(Generic[A]):
    """One try at a command on one snapshot; the engine's rules go on in it where the session is free to take."""

    def __init__(self, ctx: Context, caller: Caller, snapshot: Snapshot, decide: Decide[A], may_run: bool) -> None:
        self._ctx = ctx
        self._caller = caller
        self._change = Change(
            snapshot, ctx.clock(), ctx.new_id, policy=ctx.catalog.policy_of(snapshot.session), may_run=may_run
        )
        self._reservation: Reservation | None = None
        try:
            make_answer = decide(self._change)
            self.changes = not self._change.is_empty
            if self.changes:
                self._go_on()
            self.answer = make_answer()
        except BaseException:
            self.abandon()
            raise

    def _go_on(self) -> None:
        session = self._change.session
        if session.owner or not self._ctx.hands.may_take():
            self._change.put_session(runnable=True, settled=session.state == SessionState.CLOSED)
            return
        self._reservation = self._ctx.hands.reserve()
        reconcile(self._change, World(self._ctx.catalog, self._reservation, self._reservation.may_read))

    @property
    def _claims(self) -> bool:
        """Only a session with steps to start is worth owning."""
        return self._reservation is not None and self._change.session.runnable

    def change_set(self) -> ChangeSet | None:
        if not self.changes:
            return None
        return self._change.as_change_set(
            request=request_row(self._ctx, self._caller, self.answer),
            claim_for=self._ctx.hands.owner if self._claims else "",
        )

    async def write(self) -> Answer:
        change_set = self.change_set()
        if change_set is None:
            return Answer(Outcome.WRITTEN)
        return await self._ctx.writer.write(change_set, operation=self._caller.method, trace_id=self._caller.trace_id)

    def done(self, answer: Answer) -> A:
        """What follows a written change: the session is adopted, or its owner told, or it waits for an executor."""
        session = answer.session
        if session is not None and self._change.ends:
            # Its owner does so too, once it hears of it, unless it died: then nobody else would.
            self._ctx.hands.end(self._change.ends, session.epoch)
        if session is not None and self._claims and self._reservation is not None:
            self._ctx.hands.adopt(self._change, session, self._reservation)
        elif session is not None:
            if self._change.blocked and self._reservation is not None:
                self._ctx.hands.wait_for_room(session.tenant, session.id, self._reservation, session.priority)
            else:
                self._ctx.hands.nudge(session.tenant, session.id)
            self._change.snapshot.session = session
            self._ctx.kept.put(self._change.snapshot)
        return self.answer

    def abandon(self) -> None:
        """Whatever became of it; the slots of an adopted session's steps are not its own any more."""
        if self._reservation is not None:
            self._reservation.abandon()


async def _take_turn(
    ctx: Context, caller: Caller, session_id: str, answer_type: type[A], decide: Decide[A], may_run: bool
) -> A:
    """The waiting path: stale three times, so hold the session's row while deciding (which does no I/O)."""
    attempts: list[_Attempt[A]] = []

    def decide_on(snapshot: Snapshot) -> ChangeSet | None:
        for earlier in attempts:
            earlier.abandon()
        attempts.append(_Attempt(ctx, caller, snapshot, decide, may_run))
        return attempts[-1].change_set()

    try:
        answer = await ctx.writer.write_waiting(
            caller.tenant, session_id, decide_on, operation=caller.method, trace_id=caller.trace_id
        )
        if answer.outcome in (Outcome.WRITTEN, Outcome.UNCHANGED):
            observe_tries(caller.method, STALE_TRIES + len(attempts))
            return attempts[-1].done(answer)
    finally:
        for attempt in attempts:
            attempt.abandon()
    if answer.outcome == Outcome.OVER and may_run:
        return await _take_turn(ctx, caller, session_id, answer_type, decide, may_run=False)
    return _unwritten(caller, session_id, answer, answer_type)


def _unwritten(caller: Caller, session_id: str, answer: Answer, answer_type: type[A]) -> A:
    if answer.outcome == Outcome.DUPLICATE and answer.request is not None:
        return first_answer(answer.request, caller, answer_type)
    if answer.outcome == Outcome.ABSENT:
        raise NotFound("session", session_id)
    raise StorageUnavailable(f"the change was not written: {answer.outcome}")
