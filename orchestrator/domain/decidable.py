"""Whose inbox an approval belongs in: who may decide it, by the terms it was asked on. Refusing is not done here."""

from orchestrator.domain import terms
from orchestrator.domain.records import Approval
from orchestrator.domain.states import ApprovalState


def may_decide(approval: Approval, name: str, roles: frozenset[str]) -> bool:
    """Whether a decision of this person, who holds these roles, would be heard."""
    if approval.state != ApprovalState.PENDING:
        return False
    author = approval.preview.agent if approval.kind == "PLAN" else ""  # who wrote it
    return terms.may_decide(approval, terms.Decider(name, roles), author)
