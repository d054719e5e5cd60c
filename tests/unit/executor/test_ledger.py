"""The ledger's finer points, with work that does what a test tells it to."""

import asyncio

import pytest

from executor.ledger import Ledger
from executor.steps import Accepted, Failed, Finished, Outcome, Ref, Refused, Said, Start, Tell, ToolWork
from executor.tools.tool import ToolResult
from tests.unit.engine.virtual_time import settle

DONE = Finished(ToolResult("done"), 0)


class Work:
    """Fails, or goes on until it may end, cleaning up when it is cancelled."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.begun = 0
        self.is_cleaning = asyncio.Event()
        self.may_end = asyncio.Event()
        self.was_cut_short = False

    def refusal(self, start: Start) -> Refused | None:
        return None

    def instantly(self, start: Start) -> Outcome | None:
        self.begun += 1
        return self.outcomes.pop() if self.outcomes else None

    async def perform(self, start: Start, tell: Tell) -> Outcome:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.is_cleaning.set()
            try:
                await self.may_end.wait()
            except asyncio.CancelledError:
                self.was_cut_short = True
            return Failed("CANCELLED", "", "FATAL")
        return DONE


class Ear:
    def __init__(self) -> None:
        self.heard: list[Said] = []
        self.outcome = asyncio.Event()

    def tell(self, ref: Ref, said: Said) -> None:
        self.heard.append(said)
        if isinstance(said, Finished | Failed):
            self.outcome.set()


def start(epoch: int = 1, dispatch: int = 1, step_id: str = "step") -> Start:
    return Start(Ref(step_id, epoch, dispatch), "", "", "", "", 0, ToolWork("noop", "{}"))


async def test_a_second_cancellation_does_not_cut_cleaning_up_short() -> None:
    work, ear = Work(), Ear()
    ledger = Ledger("me", 1, work)
    ledger.start(start(), ear)
    await asyncio.sleep(0)
    ledger.cancel(Ref("step", 1, 1), ear)
    await asyncio.wait_for(work.is_cleaning.wait(), 5)
    ledger.cancel(Ref("step", 1, 1), ear)
    ending = asyncio.create_task(ledger.end())
    await asyncio.sleep(0)
    work.may_end.set()
    await asyncio.wait_for(ending, 5)
    await asyncio.wait_for(ear.outcome.wait(), 5)
    assert not work.was_cut_short


@pytest.mark.parametrize(("is_wanted", "reason"), [(False, "SHUTTING_DOWN"), (True, "CANCELLED")])
async def test_what_a_stopping_executor_cuts_short_may_be_tried_elsewhere(is_wanted: bool, reason: str) -> None:
    work, ear = Work(), Ear()
    ledger = Ledger("me", 1, work)
    ledger.start(start(), ear)
    await asyncio.sleep(0)
    if is_wanted:
        ledger.cancel(Ref("step", 1, 1), ear)
    ending = asyncio.create_task(ledger.end())
    await asyncio.wait_for(work.is_cleaning.wait(), 5)
    work.may_end.set()
    await asyncio.wait_for(ending, 5)
    await asyncio.wait_for(ear.outcome.wait(), 5)
    failed = ear.heard[-1]
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.disposition == "RETRYABLE") == (reason, not is_wanted)


async def test_a_failure_is_followed_by_a_newer_dispatch_of_the_same_or_a_newer_owner_only() -> None:
    work, ear = Work(), Ear()
    work.outcomes = [DONE, Failed("MODEL_ERROR", "", "RETRYABLE")]
    ledger = Ledger("me", 1, work)
    ledger.start(start(epoch=2), ear)
    ledger.start(start(epoch=1, dispatch=2), ear)
    assert isinstance(ear.heard[-1], Refused)
    assert work.begun == 1
    ledger.start(start(epoch=2, dispatch=2), ear)
    assert ear.heard[-2:] == [Accepted(), DONE]
    assert ledger.free_slots == 0


async def test_the_first_free_slot_is_announced() -> None:
    work, ear = Work(), Ear()
    work.outcomes = [DONE, DONE]
    ledger = Ledger("me", 2, work)
    announced: list[int] = []
    ledger.on_room = lambda: announced.append(ledger.free_slots)
    for step_id in ("a", "b"):
        ledger.start(start(step_id=step_id), ear)
    for step_id in ("a", "b"):
        ledger.recorded(Ref(step_id, 1, 1))
    assert announced == [1]


async def test_a_listener_that_is_gone_hears_nothing_more_and_costs_the_step_nothing() -> None:
    work, gone, back = Work(), Ear(), Ear()
    ledger = Ledger("me", 1, work)
    ledger.start(start(), gone)
    ledger.detach(back)  # it listens to nothing
    assert not ledger.is_left_with_steps
    ledger.detach(gone)
    assert ledger.is_left_with_steps
    work.may_end.set()
    await settle()
    assert gone.heard == [Accepted()]
    ledger.reattach(Ref("step", 2, 1), "me", back)
    assert back.heard == [DONE]


async def test_a_step_whose_caller_is_gone_is_ended_and_its_slot_free_and_nobody_elses_is_touched() -> None:
    work, ear, other = Work(), Ear(), Ear()
    ledger = Ledger("me", 2, work)
    ledger.start(start(), ear, is_announced=False)
    ledger.start(start(step_id="other"), other)
    await asyncio.sleep(0)
    ledger.release(Ref("step", 1, 1), other)  # not its own
    ledger.release(Ref("other", 1, 1), ear)
    assert not work.is_cleaning.is_set()
    ledger.release(Ref("step", 1, 1), ear)
    await asyncio.wait_for(work.is_cleaning.wait(), 5)
    work.may_end.set()
    await asyncio.wait_for(other.outcome.wait(), 5)
    await settle()
    assert ledger.free_slots == 1
    assert [ref.step_id for ref, _ in ledger.held()] == ["other"]


async def test_only_an_outcome_can_wait_to_be_recorded_and_only_until_it_is() -> None:
    work, ear = Work(), Ear()
    ledger = Ledger("me", 1, work)
    ledger.start(start(), ear)
    assert not ledger.waits_to_be_recorded(-1)
    work.may_end.set()
    await settle()
    assert ledger.waits_to_be_recorded(-1)
    assert not ledger.waits_to_be_recorded(60)
    ledger.recorded(Ref("step", 1, 1))
    assert not ledger.waits_to_be_recorded(-1)


async def test_steps_that_are_their_callers_own_are_announced_to_nobody() -> None:
    work, ear = Work(), Ear()
    ledger = Ledger("me", 2, work)
    ledger.start(start(), ear, is_announced=False)
    assert list(ledger.held()) == []
    assert ledger.free_slots == 1
    ledger.detach(ear)
    assert not ledger.is_left_with_steps
    work.may_end.set()
    await settle()


@pytest.mark.parametrize(("epoch", "dispatch"), [(1, 2), (2, 1), (3, 1), (1, 3)])
async def test_only_who_is_as_new_in_epoch_and_dispatch_may_record_or_cancel(epoch: int, dispatch: int) -> None:
    work, ear = Work(), Ear()
    work.outcomes = [DONE]
    ledger = Ledger("me", 1, work)
    ledger.start(start(epoch=2, dispatch=2), ear)
    ledger.recorded(Ref("step", epoch, dispatch))
    assert ledger.free_slots == 0
    ledger.cancel(Ref("step", epoch, dispatch), ear)
    assert isinstance(ear.heard[-1], Refused)
    ledger.recorded(Ref("step", 2, 2))
    assert ledger.free_slots == 1
