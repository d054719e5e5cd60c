"""Where several people must say yes: each one's vote is kept, and the last that is needed decides.

One person has one vote. Any other answer decides at once, whatever was voted.
"""

from orchestrator.domain.change import Change
from orchestrator.domain.errors import InvalidInput, Violation
from orchestrator.domain.events import VoteRecorded
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Decision, Vote
from orchestrator.domain.states import ApprovalState


def is_counted(approval: Approval, action: str) -> bool:
    """Whether this answer is one of several that are needed."""
    return approval.terms.quorum > 1 and (action == "APPROVE" or (approval.kind, action) == ("IN_DOUBT", "RETRY"))


def has_voted(approval: Approval, decision: Decision) -> bool:
    """Whether the same person said the same before, and it stands: it waits for others, or has won with theirs."""
    won = approval.decision
    if approval.state != ApprovalState.PENDING and (won is None or won.action != decision.action):
        return False
    said = (decision.decider, decision.action, decision.new_limit, decision.remember, decision.digest)
    return any((v.voter, v.action, v.new_limit, v.remember, approval.digest) == said for v in approval.votes)


def check_vote(approval: Approval, decision: Decision) -> None:
    """Votes are for one and the same; what is remembered besides is only what all of them ask for.

    So whoever votes next may always leave that out. Raises InvalidInput.
    """
    if not is_counted(approval, decision.action):
        return
    for vote in approval.votes:
        if decision.new_limit != vote.new_limit:
            raise InvalidInput([Violation("new_limit", f"must be the one that {vote.voter} voted for")])
        if decision.remember != vote.remember and (decision.remember or vote.voter == decision.decider):
            or_else = "your vote stands" if vote.voter == decision.decider else "or nothing at all"
            raise InvalidInput([Violation("remember", f"must be what {vote.voter} voted for; {or_else}")])


def count_vote(change: Change, approval: Approval, decision: Decision) -> Approval:
    """The approval with the vote. Raises nothing: what is wrong with it was checked."""
    if any(v.voter == decision.decider for v in approval.votes):
        return approval
    vote = Vote(decision.decider, decision.action, change.now, decision.feedback, decision.new_limit, decision.remember)
    approval = change.put(replace(approval, votes=[*approval.votes, vote]))
    change.emit(
        VoteRecorded(
            approval.id,
            approval.kind,
            approval.run_id,
            vote.voter,
            vote.action,
            vote.feedback,
            len(approval.votes),
            approval.terms.quorum,
        )
    )
    return approval


def is_enough(approval: Approval) -> bool:
    return len({v.voter for v in approval.votes}) >= approval.terms.quorum
