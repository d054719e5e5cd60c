"""The terms a question is asked on: who may decide, how many must, how long it waits. What an expiry does is not here.

They are the policy's when it is asked, and stay with the question: what the policy says later changes no open one.
"""

from orchestrator.domain.catalog import Policy
from orchestrator.domain.errors import DeciderNotAllowed, DomainError, SelfApproval
from orchestrator.domain.frozen import dataclass, replace
from orchestrator.domain.records import Approval, ApprovalTerms, Step
from orchestrator.domain.states import ApprovalState

EVERY_ROLE = "*"


@dataclass(frozen=True, slots=True)
class Decider:
    """Who answers, and the roles they hold; EVERY_ROLE among them stands for all."""

    name: str
    roles: frozenset[str] = frozenset()

    def holds_one_of(self, roles: list[str]) -> bool:
        return EVERY_ROLE in self.roles or not self.roles.isdisjoint(roles)


def on_terms(approval: Approval, terms: ApprovalTerms, now: int) -> Approval:
    """A new question as it is asked on these terms. Every question there is goes through here."""
    expire_time = now + terms.wait if terms.wait and terms.on_expiry not in ("", "NEVER") else 0
    remind_time = now + terms.remind_every if terms.remind_every else 0
    if 0 < expire_time <= remind_time:
        remind_time = 0
    return replace(approval, terms=terms, expire_time=expire_time, remind_time=remind_time)


def is_overdue(approval: Approval, now: int) -> bool:
    """Whether its time is up, though the engine may not have looked yet."""
    return approval.state == ApprovalState.PENDING and 0 < approval.expire_time <= now


def terms_of_call(policy: Policy, step: Step, asked_before: Approval | None = None) -> ApprovalTerms:
    """Of the rule that decided about the call; where the policy has that no more, what it was asked on before."""
    rule = next((rule for rule in policy.rules if rule.name == step.policy_rule), None)
    if rule is None and asked_before is not None:
        return asked_before.terms
    return rule.terms if rule is not None and rule.terms is not None else policy.terms_of("TOOL_CALL")


def covers(asked: ApprovalTerms, wanted: ApprovalTerms) -> bool:
    """Whether one person's yes on the terms they were asked on is one on the others, too."""
    by_who_may = not wanted.roles or (bool(asked.roles) and set(asked.roles) <= set(wanted.roles))
    by_another = asked.requester_excluded or not wanted.requester_excluded
    return wanted.quorum <= 1 and by_who_may and by_another


def check_decider(approval: Approval, decider: Decider, author: str) -> None:
    """`author` is who wrote the plan that is asked about. Raises DeciderNotAllowed, SelfApproval."""
    if refusal := _refusal_of(approval, decider, author):
        raise refusal


def may_decide(approval: Approval, decider: Decider) -> bool:
    """Whether a decision of theirs would be heard: it belongs in their inbox."""
    author = approval.preview.agent if approval.kind == "PLAN" else ""  # who wrote it
    return approval.state == ApprovalState.PENDING and _refusal_of(approval, decider, author) is None


def _refusal_of(approval: Approval, decider: Decider, author: str) -> DomainError | None:
    terms = approval.terms
    if terms.roles and not decider.holds_one_of(terms.roles):
        return DeciderNotAllowed(approval.id, decider.name, tuple(terms.roles))
    if terms.requester_excluded and decider.name in (approval.requester, author):
        return SelfApproval(approval.id, decider.name, wrote_it=decider.name != approval.requester)
    return None
