"""Whose inbox an approval belongs in: who may decide it, by the terms it was asked on. Refusing is not done here."""

from orchestrator.domain.records import Approval
from orchestrator.domain.states import ApprovalState

EVERY_ROLE = "*"


def may_decide(approval: Approval, name: str, roles: frozenset[str]) -> bool:
    """Whether a decision of this person, who holds these roles, would be heard."""
    terms = approval.terms
    if approval.state != ApprovalState.PENDING:
        return False
    if terms.roles and EVERY_ROLE not in roles and roles.isdisjoint(terms.roles):
        return False
    author = approval.preview.agent if approval.kind == "PLAN" else ""
    return not (terms.requester_excluded and name in (approval.requester, author))
