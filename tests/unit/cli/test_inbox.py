"""`assent approvals --watch`: what is pending, then what changes; over a lost stream only what changed meanwhile."""

from collections.abc import AsyncGenerator, Callable
from typing import cast

from rich.console import Console

from cli.client import Client
from cli.inbox import watch_approvals
from gen.assent.v1.approval_pb2 import APPROVAL_KIND_PLAN, APPROVAL_STATE_RESOLVED, DECISION_ACTION_APPROVE, Approval
from gen.assent.v1.approval_service_pb2 import WatchApprovalsRequest, WatchApprovalsResponse
from tests.unit.cli.stand_in import an_approval, event

ONE, TWO, THREE = (
    an_approval(number, APPROVAL_KIND_PLAN, preview={"title": title})
    for number, title in enumerate(("the first", "the second", "the third"))
)


def snapshot(*approvals: Approval, complete: bool = True) -> WatchApprovalsResponse:
    return WatchApprovalsResponse(approvals=approvals, snapshot_complete=complete)


def asked(approval: Approval) -> WatchApprovalsResponse:
    return WatchApprovalsResponse(events=[event(approval_requested={"approval": approval})])


def answered(approval: Approval) -> WatchApprovalsResponse:
    resolved = {"approval_id": approval.id, "kind": approval.kind, "state": APPROVAL_STATE_RESOLVED}
    by = {"action": DECISION_ACTION_APPROVE, "decider": "anna"}
    return WatchApprovalsResponse(events=[event(approval_resolved=resolved | by)])


class Server:
    """Streams that follow one another; each is lost at its end."""

    def __init__(self, *streams: list[WatchApprovalsResponse]) -> None:
        self._streams = streams

    async def watch_approvals(
        self, request: WatchApprovalsRequest, *, lost: Callable[[str], None]
    ) -> AsyncGenerator[WatchApprovalsResponse, None]:
        for number, stream in enumerate(self._streams):
            if number:
                lost("it is stopping")
            for response in stream:
                yield response


async def told(*streams: list[WatchApprovalsResponse]) -> list[str]:
    """What is printed, each line without the id and the age."""
    console = Console(width=40, color_system=None)
    with console.capture() as capture:
        await watch_approvals(cast(Client, Server(*streams)), console)
    lines = capture.get().splitlines()
    return [" ".join(line.split()[1:2] + line.split()[2:] if "-" in line[:9] else line.split()) for line in lines]


async def test_the_snapshot_then_each_change() -> None:
    lines = await told([snapshot(ONE, complete=False), snapshot(TWO), asked(THREE), answered(ONE)])
    assert [line.split()[0] for line in lines] == ["PLAN"] * 4
    assert [line.endswith(end) for line, end in zip(lines, ("first", "second", "third", "first"), strict=True)]
    assert lines[-1] == "PLAN APPROVE by anna: the first"


async def test_an_empty_inbox_says_so() -> None:
    assert await told([snapshot()]) == ["nothing waits for a decision"]


async def test_after_a_lost_stream_only_what_changed_is_told() -> None:
    lines = await told([snapshot(ONE, TWO)], [snapshot(TWO, THREE), answered(TWO)])
    assert lines[2:4] == ["the stream was lost (it is stopping); looking again", "PLAN no longer pending: the first"]
    assert lines[4].endswith("the third")
    assert lines[5:] == ["PLAN APPROVE by anna: the second"]


async def test_votes_and_reminders_are_told_of_what_is_shown() -> None:
    vote = {"approval_id": ONE.id, "action": DECISION_ACTION_APPROVE, "voter": "anna", "votes": 1, "needed": 2}
    heard = WatchApprovalsResponse(
        events=[
            event(vote_recorded=vote),
            event(approval_reminder={"approval_id": ONE.id, "number": 1}),
            event(approval_reminder={"approval_id": TWO.id, "number": 1}),
        ]
    )
    lines = await told([snapshot(ONE), heard])
    assert lines[1:] == ["PLAN APPROVE by anna, 1 of 2: the first", "PLAN still waits: the first"]
