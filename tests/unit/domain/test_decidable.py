"""Whose inbox an approval belongs in."""

import pytest

from orchestrator.domain.records import Approval, ApprovalTerms, Preview
from orchestrator.domain.terms import Decider, may_decide

NOBODYS_ROLE = frozenset[str]()


def asked(kind: str = "TOOL_CALL", state: str = "PENDING", **terms: object) -> Approval:
    said = ApprovalTerms(**terms)  # type: ignore[arg-type]  # by name, from the table below
    return Approval(
        "t", "a", "s", "r", kind, "d", state=state, requester="rita", preview=Preview("", agent="paul"), terms=said
    )


@pytest.mark.parametrize(
    ("approval", "name", "roles", "may"),
    [
        (asked(), "anna", NOBODYS_ROLE, True),
        (asked(roles=("lead",)), "anna", NOBODYS_ROLE, False),
        (asked(roles=("lead", "owner")), "anna", frozenset({"owner"}), True),
        (asked(roles=("lead",)), "anna", frozenset({"*"}), True),
        (asked(requester_excluded=True), "rita", frozenset({"*"}), False),
        (asked(requester_excluded=True), "anna", NOBODYS_ROLE, True),
        (asked(), "rita", NOBODYS_ROLE, True),
        (asked("PLAN", requester_excluded=True), "paul", NOBODYS_ROLE, False),  # who wrote it
        (asked("TOOL_CALL", requester_excluded=True), "paul", NOBODYS_ROLE, True),
        (asked(state="EXPIRED"), "anna", NOBODYS_ROLE, False),
    ],
)
def test_an_approval_is_in_the_inbox_of_those_who_may_decide_it(
    approval: Approval, name: str, roles: frozenset[str], may: bool
) -> None:
    assert may_decide(approval, Decider(name, roles)) == may
