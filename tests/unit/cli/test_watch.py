"""Following and deciding over real gRPC, against a stand-in orchestrator: people, scripts, broken streams."""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import pytest
from rich.console import Console

from cli import run as running
from cli.client import Client
from cli.run import Manner
from cli.screen import Show
from cli.story import Line
from cli.trouble import ExitCode, Trouble
from cli.view import SessionView
from cli.watch import Person, Watch, run_ended
from gen.assent.v1 import approval_pb2 as approvals
from gen.assent.v1.event_pb2 import SessionEvent
from gen.assent.v1.session_service_pb2 import SendMessageRequest
from rpc.problem import Problem
from tests.unit.cli.demo_acts import PLAN_APPROVAL, WRITE_APPROVAL, acts, asked, state_change
from tests.unit.cli.stand_in import RUN, SESSION, StandIn, an_approval, event, serve

APPROVE, REJECT = approvals.DECISION_ACTION_APPROVE, approvals.DECISION_ACTION_REJECT
YES = Manner(yes=True)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(output: io.StringIO) -> Console:
    return Console(file=output, width=100)


@asynccontextmanager
async def connected(stand_in: StandIn) -> AsyncIterator[Client]:
    server, address = await serve(stand_in)
    try:
        async with Client(address) as client:
            yield client
    finally:
        await server.stop(None)


async def test_yes_approves_each_thing_once_with_its_digest(console: Console, output: io.StringIO) -> None:
    stand_in = StandIn(acts())
    async with connected(stand_in) as client:
        run = await running.run(client, "an app", console, YES)
    assert run.id == RUN
    decided = [(each.approval_id, each.action, each.digest) for each in stand_in.decisions]
    assert decided == [(each.id, APPROVE, each.digest) for each in (PLAN_APPROVAL, WRITE_APPROVAL)]
    assert len({each.request_id for each in stand_in.decisions}) == 2
    story = output.getvalue()
    assert "CLASSIFY → PLAN_REQUIRED" in story
    assert "+ void main() {}" in story
    assert "PLAN_EXECUTION → COMPLETED" in story


async def test_a_broken_stream_goes_on_without_gap_or_repeat(console: Console, output: io.StringIO) -> None:
    stand_in = StandIn(acts(), cut_after=5)
    async with connected(stand_in) as client:
        await running.run(client, "an app", console, YES)
    assert stand_in.streams == [0, 5]
    numbers = [int(line[:4]) for line in output.getvalue().splitlines() if line[:4].strip()]
    assert numbers == sorted(numbers)
    assert "the stream was lost" in output.getvalue()
    assert output.getvalue().count("CLASSIFY → PLAN_REQUIRED") == 1


async def test_a_stream_that_takes_long_to_come_back_is_told_of_once() -> None:
    class Away(Client):
        async def follow(
            self, session_id: str, *, after: Callable[[], int], lost: Callable[[str], None]
        ) -> AsyncGenerator[SessionEvent, None]:
            for sequence in (1, 2):
                lost("refused")
                lost("refused again")
                yield SessionEvent(session_id=session_id, sequence=sequence)

    client, screen = Away("127.0.0.1:1"), Scribe()
    decider = Person(client, screen, ask=lambda _prompt: asyncio.sleep(0, ""))
    await Watch(client, SessionView(SESSION), screen, decider).until(lambda view: view.last_sequence == 2)
    assert screen.lines == [f"the stream was lost (refused); going on after event {place}" for place in (0, 1)]


async def test_a_missing_event_begins_the_stream_again(console: Console) -> None:
    stand_in = StandIn(acts(), lose=4)
    async with connected(stand_in) as client:
        await running.run(client, "an app", console, YES)
    assert stand_in.streams == [0, 3]


async def test_a_decision_that_lost_the_race_is_no_trouble(console: Console) -> None:
    lost = Problem(grpc.StatusCode.FAILED_PRECONDITION, "APPROVAL_ALREADY_RESOLVED", "ann was first")
    stand_in = StandIn(acts(), refuse=[lost])
    async with connected(stand_in) as client:
        run = asyncio.create_task(running.run(client, "an app", console, YES))
        await stand_in.decided()
        await stand_in.decided_elsewhere(PLAN_APPROVAL.id, APPROVE)
        await run


async def test_a_refused_decision_ends_a_script_with_the_reason(console: Console) -> None:
    refused = Problem(grpc.StatusCode.FAILED_PRECONDITION, "DIGEST_MISMATCH", "look again")
    async with connected(StandIn(acts(), refuse=[refused])) as client:
        with pytest.raises(Trouble, match=r"look again \(DIGEST_MISMATCH\)"):
            await running.run(client, "an app", console, YES)


async def test_a_decision_is_repeated_as_the_same_request_while_the_service_is_away(console: Console) -> None:
    away = Problem(grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE", "", disposition="RETRYABLE", retry_after=0.001)
    stand_in = StandIn(acts(), refuse=[away, away])
    async with connected(stand_in) as client:
        await running.run(client, "an app", console, YES)
    assert len(stand_in.decisions) == 4
    assert len({each.request_id for each in stand_in.decisions}) == 2


async def test_yes_leaves_a_failure_to_a_person(console: Console) -> None:
    failure = an_approval(9, approvals.APPROVAL_KIND_FAILURE)
    stand_in = StandIn([[*acts()[0][:-1], asked(failure)]])
    async with connected(stand_in) as client:
        with pytest.raises(Trouble, match="a person must decide FAILURE") as trouble:
            await running.run(client, "an app", console, YES)
    assert trouble.value.code is ExitCode.WAITING
    assert stand_in.decisions == []


async def test_a_run_that_did_not_complete_is_an_exit_code(console: Console) -> None:
    rejected = event(run_finished={"run_id": RUN, "state": 8, "reason": "rejected"})
    stand_in = StandIn([acts()[0], [rejected, state_change("PLAN_REVIEW", "plan_rejected", "IDLE")]])
    async with connected(stand_in) as client:
        with pytest.raises(Trouble, match="the run ended CANCELLED") as trouble:
            await running.run(client, "an app", console, YES)
    assert trouble.value.code is ExitCode.NOT_COMPLETED


async def test_without_a_terminal_or_yes_it_says_how_to_decide_and_goes_on(
    console: Console, output: io.StringIO
) -> None:
    stand_in = StandIn(acts())
    async with connected(stand_in) as client:
        run = asyncio.create_task(running.run(client, "an app", console, Manner()))
        for approval in (PLAN_APPROVAL, WRITE_APPROVAL):
            await stand_in.asked(approval.id)
            await stand_in.decided_elsewhere(approval.id, APPROVE)
        await run
    assert f"assent approve {PLAN_APPROVAL.id}" in output.getvalue()


async def test_watching_again_tells_only_what_came_after(console: Console, output: io.StringIO) -> None:
    stand_in = StandIn([])
    for act in acts():
        await stand_in.play(act)
    for approval in (PLAN_APPROVAL, WRITE_APPROVAL):
        await stand_in.play([event(approval_resolved={"approval_id": approval.id, "run_id": RUN, "state": 2})])
    async with connected(stand_in) as client:
        await running.watch(client, SESSION, console, YES, after=20)
    assert "CLASSIFY" not in output.getvalue()
    assert "PLAN_EXECUTION → COMPLETED" in output.getvalue()
    assert stand_in.decisions == []


async def test_ctrl_c_leaves_and_says_how_to_come_back(console: Console, output: io.StringIO) -> None:
    stand_in = StandIn(acts())
    async with connected(stand_in) as client:
        run = asyncio.create_task(running.run(client, "an app", console, Manner()))
        await stand_in.streamed()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    assert f"assent watch {SESSION} --after" in output.getvalue()


async def test_an_unknown_session_is_one_clear_line(console: Console) -> None:
    async with connected(StandIn([])) as client:
        with pytest.raises(Trouble, match=r"there is no session nobody \(SESSION_NOT_FOUND\)"):
            await running.watch(client, "nobody", console, YES, after=0)


async def test_nobody_at_the_address_is_said_with_advice(console: Console) -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(Trouble, match=r"nobody answers at 127\.0\.0\.1:1") as trouble:
            await running.run(client, "an app", console, YES)
    assert trouble.value.code is ExitCode.UNREACHABLE


class Scribe:
    """A screen that remembers what it was shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def show(self, lines: list[Line], sequence: int = 0) -> None:
        self.lines += [line.text for line in lines]

    def refresh(self, view: SessionView) -> None: ...

    def close(self) -> None: ...

    @contextmanager
    def still(self) -> Iterator[Show]:
        yield self.show


async def follow_as(client: Client, typed: list[str], screen: Scribe) -> list[str]:
    """Follow the run with a person who types these lines; the prompts they saw."""
    prompts: list[str] = []
    await client.call(client.sessions.SendMessage, SendMessageRequest(session_id=SESSION, text="an app"))

    async def ask(prompt: str) -> str:
        prompts.append(prompt)
        if not typed:
            await asyncio.Event().wait()
        return typed.pop(0)

    view = SessionView(SESSION)
    await Watch(client, view, screen, Person(client, screen, ask)).until(run_ended(RUN))
    return prompts


async def test_a_person_approves_by_a_key_or_a_word() -> None:
    stand_in = StandIn(acts())
    async with connected(stand_in) as client:
        prompts = await follow_as(client, ["a\n", "approve\n"], Scribe())
    assert [each.action for each in stand_in.decisions] == [APPROVE, APPROVE]
    assert prompts[0] == "An app: [a] approve, [r] reject, [x] abort the run, [e] edit it, [v] view all > "


async def test_a_person_who_types_something_else_is_asked_again() -> None:
    stand_in = StandIn(acts())
    async with connected(stand_in) as client:
        await follow_as(client, ["\n", "yes please\n", "a\n", "a\n"], Scribe())
    assert [each.action for each in stand_in.decisions] == [APPROVE, APPROVE]


async def test_a_rejection_carries_the_persons_words() -> None:
    stand_in = StandIn(acts())
    async with connected(stand_in) as client:
        await follow_as(client, ["a\n", "r\n", "not in this file\n"], Scribe())
    assert (stand_in.decisions[1].action, stand_in.decisions[1].feedback) == (REJECT, "not in this file")


async def test_a_refused_decision_is_said_and_asked_again() -> None:
    refused = Problem(grpc.StatusCode.FAILED_PRECONDITION, "ACTION_NOT_ALLOWED", "not like that")
    stand_in = StandIn(acts(), refuse=[refused])
    screen = Scribe()
    async with connected(stand_in) as client:
        await follow_as(client, ["a\n", "a\n", "a\n"], screen)
    assert "  not decided: not like that (ACTION_NOT_ALLOWED)" in screen.lines


@pytest.mark.parametrize("reason", ["SELF_APPROVAL", "DECIDER_NOT_ALLOWED"])
async def test_who_may_not_decide_is_told_so_and_not_asked_again(reason: str) -> None:
    stand_in = StandIn(acts(), refuse=[Problem(grpc.StatusCode.FAILED_PRECONDITION, reason, "ask somebody else")])
    screen = Scribe()
    async with connected(stand_in) as client:
        watching = asyncio.create_task(follow_as(client, ["a\n", "a\n"], screen))
        await stand_in.decided()
        await stand_in.decided_elsewhere(PLAN_APPROVAL.id, APPROVE)
        await watching
    assert f"  not decided: ask somebody else ({reason})" in screen.lines
    assert [decision.approval_id for decision in stand_in.decisions] == [PLAN_APPROVAL.id, WRITE_APPROVAL.id]


async def test_a_question_answered_elsewhere_is_withdrawn() -> None:
    stand_in = StandIn(acts())
    screen = Scribe()
    async with connected(stand_in) as client:
        watching = asyncio.create_task(follow_as(client, [], screen))
        for approval in (PLAN_APPROVAL, WRITE_APPROVAL):
            await stand_in.asked(approval.id)
            await stand_in.decided_elsewhere(approval.id, APPROVE)
        prompts = await watching
    assert stand_in.decisions == []
    assert len(prompts) <= 2
