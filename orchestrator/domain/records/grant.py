"""A remembered yes."""

from orchestrator.domain.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """A remembered "allow" inside one session: a tool as its schema stands, a constraint on arguments, and an end."""

    tenant: str
    id: str
    session_id: str
    tool: str
    schema_digest: str
    constraint: str  # CEL over `arguments` and `arguments_sha256`
    approval_id: str
    creator: str
    create_time: int
    expire_time: int
    revoke_time: int = 0
    revoker: str = ""
    revoke_reason: str = ""
    end_time: int = 0  # when it was found to have ended, revoked or run out; 0: it stands
    uses: int = 0
    policy_rule: str = ""  # the rule that asked: it answers no other
    policy_digest: str = ""  # of the policy as it stood
