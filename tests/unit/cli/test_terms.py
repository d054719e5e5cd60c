"""Who may decide, how many must and how long it waits, as people read it."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from cli.terms import in_short, left, terms_of
from gen.assent.v1 import approval_pb2 as pb
from tests.unit.cli.stand_in import an_approval

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def at(wait: timedelta) -> Timestamp:
    time = Timestamp()
    time.FromDatetime(NOW + wait)
    return time


def said(approval: pb.Approval) -> list[str]:
    return [line.text.strip() for line in terms_of(approval, NOW)]


def test_of_a_question_that_anybody_may_answer_at_any_time_there_is_nothing_to_say() -> None:
    approval = an_approval(1, pb.APPROVAL_KIND_PLAN, terms=pb.ApprovalTerms(quorum=1))
    assert (said(approval), in_short(approval, NOW)) == ([], "")


def test_who_how_many_and_how_long() -> None:
    terms = pb.ApprovalTerms(
        roles=["lead", "owner"],
        quorum=2,
        requester_excluded=True,
        on_expiry=pb.EXPIRY_ACTION_ESCALATE,
        escalation_roles=["director"],
    )
    vote = pb.Vote(voter="boris", action=pb.DECISION_ACTION_APPROVE)
    approval = an_approval(
        1,
        pb.APPROVAL_KIND_TOOL_CALL,
        terms=terms,
        requester="anna",
        votes=[vote],
        expire_time=at(timedelta(hours=2)),
        reminders=3,
        earlier_approval_id="the-one-before",
    )
    assert said(approval) == [
        "may decide: lead or owner, but not who asked for it (anna)",
        "votes: 1 of 2 (boris APPROVE)",
        "expires 2030-01-02 05:04 UTC (2h left), then it is asked of director",
        "3 reminders so far",
        "asked again, after the-one-before",
    ]
    assert in_short(approval, NOW) == "  [1 of 2, 2h left]"


def test_who_wrote_a_plan_may_not_decide_on_it_either() -> None:
    terms = pb.ApprovalTerms(roles=["lead"], requester_excluded=True)
    approval = an_approval(1, pb.APPROVAL_KIND_PLAN, terms=terms, requester="ann", preview=pb.Preview(agent="carol"))
    assert said(approval) == ["may decide: lead, but not who asked for it (ann) or wrote the plan (carol)"]
    approval.preview.agent = "ann"
    assert said(approval) == ["may decide: lead, but not who asked for it (ann)"]
    approval.kind, approval.preview.agent = pb.APPROVAL_KIND_TOOL_CALL, "coder"
    assert said(approval) == ["may decide: lead, but not who asked for it (ann)"]


def test_a_name_that_would_move_the_cursor_is_shown_for_what_it_is() -> None:
    terms = pb.ApprovalTerms(roles=["lead\x1b[2J"], quorum=2, requester_excluded=True)
    vote = pb.Vote(voter="b\u202eob", action=pb.DECISION_ACTION_APPROVE)
    approval = an_approval(1, pb.APPROVAL_KIND_PLAN, terms=terms, requester="an\x07na", votes=[vote])
    text = "".join(said(approval))
    assert text.isprintable()
    assert "\\u202e" in text


@pytest.mark.parametrize(
    ("action", "then"),
    [
        (pb.EXPIRY_ACTION_HALT, "then the run is paused, and the same is asked again"),
        (pb.EXPIRY_ACTION_DENY, "then it is refused"),
    ],
)
def test_what_happens_when_nobody_answers(action: pb.ExpiryAction.ValueType, then: str) -> None:
    terms = pb.ApprovalTerms(on_expiry=action)
    approval = an_approval(1, pb.APPROVAL_KIND_PLAN, terms=terms, expire_time=at(timedelta(minutes=5)))
    assert said(approval) == [f"expires 2030-01-02 03:09 UTC (5m left), {then}"]


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (timedelta(seconds=-1), "time is up"),
        (timedelta(), "time is up"),
        (timedelta(seconds=20), "20s left"),
        (timedelta(minutes=89), "89m left"),
        (timedelta(hours=24), "24h left"),
        (timedelta(days=7), "7d left"),
    ],
)
def test_the_time_that_is_left(wait: timedelta, words: str) -> None:
    assert left(at(wait), NOW) == words
