"""Requests that were answered, for a repeat of one to get its first answer; the writer stores them."""

from orchestrator.domain.change import Request
from orchestrator.store.codec import clean
from orchestrator.store.database import Database

_FIND = """
SELECT method, fingerprint, answer_json, create_time
FROM request WHERE tenant = $1 AND caller = $2 AND request_id = $3"""


async def find(database: Database, tenant: str, caller: str, request_id: str) -> Request | None:
    """The request this caller made under this id, with its answer."""
    rows = await database.fetch(_FIND, tenant, clean(caller), clean(request_id))
    return Request(tenant, caller, request_id, *rows[0]) if rows else None
