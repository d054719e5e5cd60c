"""Refused decisions, and results of tool calls: they change no session and add no event; each leaves a row here."""

from sqlalchemy.dialects.postgresql import insert

from orchestrator.store import tables
from orchestrator.store.codec import clean
from orchestrator.store.database import Database


async def record_refusal(
    database: Database,
    *,
    tenant: str,
    id: str,
    subject: str,
    method: str,
    approval_id: str,
    action: str,
    digest: str,
    reason: str,
    message: str,
    create_time: int,
    step_id: str = "",
) -> None:
    """Who (`subject`) was refused what, and why; what they sent is kept as they sent it."""
    sent = {"subject": subject, "method": method, "approval_id": approval_id, "action": action, "digest": digest}
    why = {"step_id": step_id, "reason": reason, "message": message}
    values = {name: clean(value) for name, value in {**sent, **why}.items()}
    row = insert(tables.audit).values(tenant=tenant, id=id, create_time=create_time, **values)
    await database.rows(row.on_conflict_do_nothing())  # it is asked again where the first answer was lost
