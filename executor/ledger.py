"""What this instance holds: the steps that run, the outcomes nobody has recorded yet, and what never started.

Steps live here and not in a stream, so a stream that breaks ends none. The ledger is what makes "unknown" a
proof: it writes down that a dispatch never started before it says so. How a step is performed is not known here.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from executor.steps import (
    Accepted,
    Failed,
    Finished,
    Listener,
    Outcome,
    Ref,
    Refused,
    Running,
    Said,
    Start,
    Tell,
    Unknown,
)
from rpc import failpoints

# Enough to outlive every frame that may still be on its way for a step that has just been recorded.
_RECENT_LIMIT = 65_536
_NEVER = (-1, -1)
_CANCELLED = Failed("CANCELLED", "the step was cancelled before it began", "FATAL")
_FORGOTTEN = Failed(
    "EXECUTOR_LOST", "the step's outcome was recorded and is forgotten", "HUMAN_REQUIRED", effect_possible=True
)


class Performs(Protocol):
    """Does the work of a step; never raises, whatever happens in it."""

    def refusal(self, start: Start) -> Refused | None:
        """Why this step cannot be done here at all, if it cannot."""

    def instantly(self, start: Start) -> Outcome | None:
        """The outcome, when there is nothing to wait for."""

    async def perform(self, start: Start, tell: Tell) -> Outcome:
        """Do the work to its end, its deadline, or until cancelled."""


class Held:
    """One step that counts as a slot: it runs, or its outcome waits to be recorded."""

    __slots__ = ("end_time", "is_announced", "is_cancelled", "is_cut_short", "listener", "outcome", "ref", "task")

    def __init__(self, ref: Ref, listener: Listener, is_announced: bool) -> None:
        self.ref = ref
        self.is_announced = is_announced
        self.listener: Listener | None = listener
        self.outcome: Outcome | None = None
        self.end_time = 0.0
        self.task: asyncio.Task[Outcome] | None = None
        self.is_cancelled = False
        self.is_cut_short = False  # it was not asked for: the process ends

    def tell(self, said: Said) -> None:
        """Say it to whoever listens now; without a listener it is lost, but for the outcome, which is kept."""
        if self.listener is not None:
            self.listener.tell(self.ref, said)

    def cancel(self) -> None:
        """End the work; once, for a second cancellation would cut its cleaning up short."""
        if self.task is not None and not self.is_cancelled:
            self.is_cancelled = True
            self.task.cancel()

    def cut_short(self) -> None:
        """End the work because the process ends, unless somebody wanted its end before."""
        self.is_cut_short = not self.is_cancelled
        self.cancel()


class Ledger:
    """The steps of one executor instance."""

    def __init__(self, instance_id: str, slots: int, performs: Performs) -> None:
        self.instance_id = instance_id
        self.slots = slots
        self.is_draining = False
        self._performs = performs
        self._held: dict[str, Held] = {}
        # Dispatches that were said never to start: starts must be newer than these. As long as the instance lives.
        self._tombstones: dict[str, tuple[int, int]] = {}
        self._recorded: dict[str, tuple[int, int]] = {}
        self.on_room: Callable[[], None] = lambda: None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def free_slots(self) -> int:
        """How many more steps fit."""
        return self.slots - len(self._held)

    def held(self) -> Iterator[tuple[Ref, bool]]:
        """The steps it holds for orchestrators, and whether each still runs."""
        return ((held.ref, held.outcome is None) for held in self._held.values() if held.is_announced)

    @property
    def is_left_with_steps(self) -> bool:
        """Whether it holds steps for orchestrators that are gone."""
        return any(held.listener is None and held.is_announced for held in self._held.values())

    def waits_to_be_recorded(self, seconds: float) -> bool:
        """Whether an outcome has been held for longer than that."""
        since = time.monotonic() - seconds
        return any(held.outcome is not None and held.end_time < since for held in self._held.values())

    def start(self, start: Start, listener: Listener, *, is_announced: bool = True) -> None:
        """Take a step, or say why not; a step it knows is reattached and not started.

        One that is not announced is nobody's but the listener's, and ends with it (`release`).
        """
        ref = start.ref
        held = self._held.get(ref.step_id)
        if held is not None and not self._is_over(held, ref):
            self._reattach(held, ref, listener)
            return
        refused = self._why_not(start)
        if refused is not None:
            listener.tell(ref, refused)
            return
        self._begin(start, Held(ref, listener, is_announced))

    def reattach(self, ref: Ref, target_instance: str, listener: Listener) -> None:
        """Say what became of a step; its frames go to this listener from now on."""
        held = self._held.get(ref.step_id)
        if held is not None and not self._is_over(held, ref):
            self._reattach(held, ref, listener)
        elif target_instance not in ("", self.instance_id):
            listener.tell(ref, Refused("OTHER_INSTANCE", f"this is instance {self.instance_id}"))
        else:
            self._forget(ref.step_id)
            self._not_held(ref, listener)

    def recorded(self, ref: Ref) -> None:
        """Forget an outcome that is safe elsewhere; an older owner's word does not count.

        Of a step that still runs (its cancellation was recorded, say) it forgets the outcome when there is one.
        """
        held = self._held.get(ref.step_id)
        if held is None or _is_older(ref, held.ref):
            return
        if held.outcome is None:
            held.listener = _Forgets(self)
        else:
            self._forget(ref.step_id)

    def cancel(self, ref: Ref, listener: Listener) -> None:
        """End a step; what became of it is told as its outcome."""
        held = self._held.get(ref.step_id)
        if held is None:
            self._not_held(ref, listener)
        elif _is_older(ref, held.ref):
            listener.tell(ref, _older(held.ref))
        else:
            held.cancel()

    def detach(self, listener: Listener) -> None:
        """The listener is gone; its steps go on and keep their outcomes."""
        for held in self._held.values():
            if held.listener is listener:
                held.listener = None

    def release(self, ref: Ref, listener: Listener) -> None:
        """Whoever asked for the step does not wait for it any more: end it, and keep nothing of it."""
        held = self._held.get(ref.step_id)
        if held is not None and held.listener is listener:
            held.cancel()
            self.recorded(held.ref)

    async def drain(self) -> None:
        """Take nothing more, and wait until every outcome has been recorded."""
        self.is_draining = True
        await self._empty.wait()

    async def end(self) -> None:
        """Cut short what still runs, for the process ends, and wait for it."""
        for held in self._held.values():
            held.cut_short()
        tasks = [held.task for held in self._held.values() if held.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    def _why_not(self, start: Start) -> Refused | None:
        ref = start.ref
        if start.target_instance not in ("", self.instance_id):
            return Refused("OTHER_INSTANCE", f"this is instance {self.instance_id}")
        newest = max(self._tombstones.get(ref.step_id, _NEVER), self._recorded.get(ref.step_id, _NEVER))
        if (ref.epoch, ref.dispatch) <= newest:
            return _older(Ref(ref.step_id, *newest))
        if self.is_draining:
            return Refused("DRAINING", "the executor is stopping")
        # A step that is over under an older dispatch gives its own slot back.
        if self.free_slots <= 0 and ref.step_id not in self._held:
            return Refused("NO_SLOT", f"all {self.slots} slots are taken")
        return self._performs.refusal(start)

    def _begin(self, start: Start, held: Held) -> None:
        self._forget(held.ref.step_id)
        self._held[held.ref.step_id] = held
        self._empty.clear()
        held.tell(Accepted())
        if failpoints.on:
            failpoints.hit("executor.effect.before")
        outcome = self._performs.instantly(start)
        if outcome is not None:
            self._ended(held, outcome)
            return
        held.task = asyncio.create_task(self._performs.perform(start, held.tell))
        held.task.add_done_callback(lambda task: self._ended(held, _CANCELLED if task.cancelled() else task.result()))

    @staticmethod
    def _ended(held: Held, outcome: Outcome) -> None:
        if failpoints.on:
            failpoints.hit("executor.effect.after")
        if held.is_cut_short and isinstance(outcome, Failed) and outcome.reason == _CANCELLED.reason:
            words = "the executor stopped before the step had ended"
            outcome = replace(outcome, reason="SHUTTING_DOWN", message=words, disposition="RETRYABLE")
        held.outcome = outcome
        held.end_time = time.monotonic()
        held.task = None
        held.tell(outcome)

    @staticmethod
    def _is_over(held: Held, ref: Ref) -> bool:
        """Whether a newer dispatch is to begin anew: only one that follows a failure.

        A newer dispatch of a step that runs, or that has its result, joins what is there: it must not happen twice.
        """
        return ref.dispatch > held.ref.dispatch and ref.epoch >= held.ref.epoch and isinstance(held.outcome, Failed)

    @staticmethod
    def _reattach(held: Held, ref: Ref, listener: Listener) -> None:
        if _is_older(ref, held.ref):
            listener.tell(ref, _older(held.ref))
            return
        held.ref = ref
        held.listener = listener
        held.tell(held.outcome or Running())

    def _not_held(self, ref: Ref, listener: Listener) -> None:
        if ref.dispatch <= self._recorded.get(ref.step_id, _NEVER)[1]:
            listener.tell(ref, _FORGOTTEN)
            return
        before = self._tombstones.get(ref.step_id, _NEVER)
        self._tombstones[ref.step_id] = max(before, (ref.epoch, ref.dispatch))
        listener.tell(ref, Unknown())

    def _forget(self, step_id: str) -> None:
        held = self._held.pop(step_id, None)
        if held is None:
            return
        if self.free_slots == 1:
            self.on_room()
        self._recorded[step_id] = (held.ref.epoch, held.ref.dispatch)
        if len(self._recorded) > _RECENT_LIMIT:
            del self._recorded[next(iter(self._recorded))]
        if not self._held:
            self._empty.set()


class _Forgets:
    """Listens for nobody: an outcome is forgotten as soon as it is there."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def tell(self, ref: Ref, said: Said) -> None:
        """Forget the outcome; anything else is lost."""
        if isinstance(said, Finished | Failed):
            self._ledger.recorded(ref)


def _is_older(ref: Ref, than: Ref) -> bool:
    """Whether it is an older owner's, or about an older dispatch."""
    return ref.epoch < than.epoch or ref.dispatch < than.dispatch


def _older(newest: Ref) -> Refused:
    return Refused("OLDER_EPOCH", f"epoch {newest.epoch}, dispatch {newest.dispatch} has been seen")
