"""Grants: a person's yes that is remembered, for one tool in one session, for a time, where its constraint holds.

A grant answers the rule that asked when it was made, of the policy and the tool as they stood then, and nothing else:
whatever changes is asked about again. It stands in for a person only; what a policy denies it never allows.
"""

from collections.abc import Sequence
from typing import Any

from orchestrator.domain import conditions
from orchestrator.domain.arguments import parse_object
from orchestrator.domain.catalog import Policy
from orchestrator.domain.change import Change
from orchestrator.domain.conditions import BadCondition, Unjudged
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
MOST_EFFORT = conditions.MAX_WORK  # for all the constraints that are looked at for one call
_SPOKEN_OF = frozenset(("arguments", "arguments_sha256"))


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
        _check_constraint(wish.constraint, approval.arguments_json)
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
    grants.sort(key=lambda g: (g.id == step.grant_id, g.create_time, g.id), reverse=True)
    grant = _allowing(grants, step.arguments_json)
    if grant is None:
        return None
    if grant.id != step.grant_id:
        change.put(replace(grant, uses=grant.uses + 1))
    return replace(step, grant_id=grant.id)


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


def _check_constraint(text: str, arguments_json: str) -> None:
    """Raises InvalidInput for one that says nothing of the arguments, or is not true of these."""
    try:
        condition = conditions.compile(text)
        if _SPOKEN_OF.isdisjoint(condition.program.variables()):
            problem = "says nothing of the arguments: a grant for whatever they are is not made"
        elif conditions.holds(condition, _variables(arguments_json)):
            return
        else:
            problem = "is not true of the call itself"
    except BadCondition as error:
        problem = f"is no condition: {error}"
    except Unjudged as error:
        problem = f"cannot be told of the call itself: {error}"
    raise InvalidInput([Violation("remember.constraint", problem)])


def _allowing(grants: Sequence[Grant], arguments_json: str) -> Grant | None:
    """The first whose constraint is true of the arguments; what cannot be told, or not with bounded effort, is not."""
    if not grants:
        return None
    left, variables = MOST_EFFORT, _variables(arguments_json)
    values = _size(variables["arguments"])
    for grant in grants:
        if grant.constraint == _same(arguments_json):
            return grant
        try:
            condition = conditions.compile(grant.constraint)
            if condition.reads_arguments and values == 0:
                continue
            left -= conditions.effort(condition, values)
            if left >= 0 and conditions.holds(condition, variables):
                return grant
        except (BadCondition, Unjudged):
            continue
    return None


def _size(arguments: dict[str, Any]) -> int:
    """How many values there are; 0: among them some of which no condition can be told."""
    try:
        return conditions.size(arguments)
    except Unjudged:
        return 0


def _variables(arguments_json: str) -> dict[str, Any]:
    return {"arguments": parse_object(arguments_json), "arguments_sha256": sha256(arguments_json)}


def _put(change: Change, grant: Grant, trigger: str, actor: str = "") -> Grant:
    change.emit(GrantChanged(grant, trigger, actor))
    return change.put(grant)
