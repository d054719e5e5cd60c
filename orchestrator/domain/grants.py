"""Grants: a person's yes that is remembered, for one tool in one session, for a time, where its constraint holds.

A grant answers the rule that asked when it was made, of the policy and the tool as they stood then, and nothing else:
whatever changes is asked about again. It stands in for a person only; what a policy denies it never allows.
"""

from orchestrator.domain.arguments import BadJson, parse_object
from orchestrator.domain.catalog import Policy
from orchestrator.domain.change import Change
from orchestrator.domain.digests import policy_digest_of, sha256
from orchestrator.domain.errors import (
    GrantNotOffered,
    InvalidInput,
    LimitExceeded,
    Violation,
    WrongState,
)
from orchestrator.domain.events import GrantChanged
from orchestrator.domain.frozen import replace
from orchestrator.domain.records import Approval, Decision, Grant, Step
from orchestrator.domain.terms import terms_of_call

MOST_STANDING = 64


def check_remember(change: Change, approval: Approval, decision: Decision) -> None:
    """Raises InvalidInput, GrantNotOffered, or LimitExceeded where too many grants stand."""
    wish = decision.remember
    if wish is None:
        return
    if decision.action != "APPROVE":
        raise InvalidInput([Violation("remember", "goes with APPROVE only")])
    if not approval.may_remember:
        raise GrantNotOffered(approval.id)
    if policy_digest_of(approval.preimage) != change.policy.digest:
        raise GrantNotOffered(approval.id, "the policy has changed since it was asked")
    if wish.constraint:
        raise InvalidInput([Violation("remember.constraint", "is not supported by this version")])
    if len(standing(change)) >= MOST_STANDING:
        raise LimitExceeded("standing grants of a session", MOST_STANDING, "remember")


def make_grant(change: Change, approval: Approval, decision: Decision) -> None:
    """What the decision asks to remember, under the id that it names."""
    wish = decision.remember
    if wish is None:
        return
    step = change.snapshot.steps[approval.step_id]
    grant = Grant(
        approval.tenant,
        decision.grant_id,
        approval.session_id,
        step.tool,
        step.schema_digest,
        wish.constraint or _same(step.arguments_json),
        approval.id,
        decision.decider,
        change.now,
        change.now + wish.lifetime,
        policy_rule=approval.policy_rule,
        policy_digest=policy_digest_of(approval.preimage),
    )
    _put(change, grant, "made", decision.decider)


def use_grant(change: Change, step: Step, policy: Policy) -> Step | None:
    """The step, allowed by a grant in the stead of a person whom its rule would ask; None where none allows it.

    Of several the one that it went by already, or else the newest; each step counts once.
    """
    what = (step.tool, step.schema_digest, step.policy_rule, policy.digest)
    grants = [g for g in standing(change) if (g.tool, g.schema_digest, g.policy_rule, g.policy_digest) == what]
    if terms_of_call(policy, step).requester_excluded:
        requester = change.snapshot.runs[step.run_id].requester
        grants = [g for g in grants if g.creator != requester]
    for grant in sorted(grants, key=lambda g: (g.id == step.grant_id, g.create_time, g.id), reverse=True):
        if _holds(grant.constraint, step.arguments_json):
            if grant.id != step.grant_id:
                change.put(replace(grant, uses=grant.uses + 1))
            return replace(step, grant_id=grant.id)
    return None


def standing(change: Change) -> list[Grant]:
    return [g for g in change.snapshot.grants.values() if not g.end_time and g.expire_time > change.now]


def end_expired(change: Change) -> None:
    """Those that have run out since somebody looked."""
    for grant in [g for g in change.snapshot.grants.values() if not g.end_time and g.expire_time <= change.now]:
        _put(change, replace(grant, end_time=change.now), "expired")


def revoke_grant(change: Change, grant: Grant, actor: str, reason: str) -> Grant:
    """From now on it allows nothing; what it has allowed and what has begun goes on. Raises WrongState."""
    check_standing(grant, change.now)
    revoked = replace(grant, revoke_time=change.now, revoker=actor, revoke_reason=reason, end_time=change.now)
    return _put(change, revoked, "revoked", actor)


def check_standing(grant: Grant, now: int) -> None:
    """Raises WrongState for a grant that has ended."""
    if grant.end_time or grant.expire_time <= now:
        state = "REVOKED" if grant.revoke_time else "EXPIRED"
        raise WrongState("grant", grant.id, state, "revoked", ("STANDING",))


def _same(arguments_json: str) -> str:
    return f'arguments_sha256 == "{sha256(arguments_json)}"'


def _holds(constraint: str, arguments_json: str) -> bool:
    """Whether the arguments satisfy it; what cannot be evaluated does not hold."""
    if constraint == _same(arguments_json):
        return True
    try:
        parse_object(arguments_json)
    except BadJson:
        return False
    return False


def _put(change: Change, grant: Grant, trigger: str, actor: str = "") -> Grant:
    change.emit(GrantChanged(grant, trigger, actor))
    return change.put(grant)
