"""What was said."""

from orchestrator.domain.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """What a user or an agent said."""

    tenant: str
    id: str
    session_id: str
    run_id: str
    role: str  # USER or AGENT
    agent: str  # who said it (AGENT), or whom it is addressed to (USER; "auto": let it be routed)
    text: str
    author: str = ""  # the principal, for a user's message
    sequence: int = 0  # of the message_created event: the conversation's order
    create_time: int = 0
