"""Who decided: exactly one answer wins, given in time by somebody who may, and a vote counts once."""

from collections import Counter
from collections.abc import Iterator

from orchestrator.domain.records import Approval
from tests.simulator.catalog import ROLES
from tests.simulator.checks.steps import events
from tests.simulator.history import History

_COUNTED = ("APPROVE", "RETRY")


def check_decisions(history: History) -> Iterator[str]:
    settled = Counter(body["approval_id"] for _, body in events(history, "approval_resolved"))
    for approval_id, times in settled.items():
        if times > 1:
            yield f"approval {approval_id} was settled {times} times"
    for approval in history.rows.approvals:
        where = f"approval {approval.id} ({approval.kind})"
        yield from (f"{where}: {words}" for words in _votes(history, approval))
        if approval.decision is None:
            continue
        if approval.state != "RESOLVED":
            yield f"{where} is {approval.state}, with a decision"
        yield from (f"{where}: {words}" for words in _decider(history, approval))
        if 0 < approval.expire_time <= approval.resolve_time:
            yield f"{where} was decided at {approval.resolve_time}, when it had expired at {approval.expire_time}"


def _votes(history: History, approval: Approval) -> Iterator[str]:
    """As the log has them, no person's twice, and so many as are needed where it was decided by them."""
    logged = [body["voter"] for _, body in events(history, "vote_recorded") if body["approval_id"] == approval.id]
    if [vote.voter for vote in approval.votes] != logged:
        yield f"it has the votes of {[vote.voter for vote in approval.votes]}, by the log of {logged}"
    if len(set(logged)) < len(logged):
        yield f"somebody voted twice: {logged}"
    needed, decision = approval.terms.quorum, approval.decision
    if needed > 1 and decision is not None and decision.action in _COUNTED and len(set(logged)) < needed:
        yield f"it was decided with the votes of {logged}, and needs {needed}"


def _decider(history: History, approval: Approval) -> Iterator[str]:
    terms, decision = approval.terms, approval.decision
    assert decision is not None
    for who in {decision.decider, *(vote.voter for vote in approval.votes)}:
        if terms.roles and ROLES.get(who, frozenset()).isdisjoint(terms.roles):
            yield f"{who} decided, and holds none of {terms.roles}"
        plan = next((p for p in history.rows.plans if approval.kind == "PLAN" and p.id == approval.plan_id), None)
        if terms.requester_excluded and who in (approval.requester, plan.author if plan else ""):
            yield f"{who} decided what they asked for"
