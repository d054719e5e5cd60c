"""What the webhook has still to be told: events of logs, each a row until it was taken.

A row is written by the statement that writes its event (statement.py). Here replicas take rows for a while, in short
statements: nothing is locked while anything is sent, and who dies with a row leaves it to be taken again.
"""

from collections.abc import Sequence
from typing import NamedTuple

from orchestrator.domain.events import LoggedEvent
from orchestrator.store.database import Database

_TAKE = """
WITH due AS MATERIALIZED (
    SELECT tenant, session_id, sequence FROM delivery WHERE due_time <= assent_now()
    ORDER BY due_time LIMIT $1 FOR UPDATE SKIP LOCKED
),
taken AS (
    UPDATE delivery AS d SET due_time = assent_now() + $2, tries = d.tries + 1
    FROM due WHERE d.tenant = due.tenant AND d.session_id = due.session_id AND d.sequence = due.sequence
    RETURNING d.tenant, d.session_id, d.sequence, d.tries, assent_now() - d.create_time AS age
)
SELECT taken.*, e.event_time, e.trace_id, e.payload_json, e.hash, e.previous_hash
FROM taken JOIN event AS e
    ON e.tenant = taken.tenant AND e.session_id = taken.session_id AND e.sequence = taken.sequence
ORDER BY e.event_time, taken.sequence"""

_DONE = "DELETE FROM delivery WHERE tenant = $1 AND session_id = $2 AND sequence = $3 RETURNING tries"
# Only by whoever has it: another replica may have taken it again meanwhile.
_LATER = """
UPDATE delivery SET due_time = assent_now() + $5
WHERE tenant = $1 AND session_id = $2 AND sequence = $3 AND tries = $4 RETURNING tries"""


class Delivery(NamedTuple):
    """One event that is to be told, and how often that was tried, this time included."""

    event: LoggedEvent
    tries: int
    age: int  # microseconds since it was to be told first

    @property
    def id(self) -> str:
        """What the receiver knows it by, however often it comes."""
        return f"{self.event.session_id}:{self.event.sequence}"


async def take(database: Database, most: int, microseconds: int) -> list[Delivery]:
    """Some that are due, which nobody else takes for so long. What is erased meanwhile is nobody's any more."""
    rows = await database.fetch(_TAKE, most, microseconds)
    return [
        Delivery(
            LoggedEvent(
                row["tenant"],
                row["session_id"],
                row["sequence"],
                row["event_time"],
                row["trace_id"],
                row["payload_json"],
                row["hash"],
                row["previous_hash"],
            ),
            row["tries"],
            row["age"],
        )
        for row in rows
    ]


async def done(database: Database, delivery: Delivery) -> None:
    """It was taken, or is given up."""
    await database.fetch(_DONE, *_key(delivery))


async def later(database: Database, delivery: Delivery, microseconds: int) -> None:
    """It is due again then, unless somebody else has taken it."""
    await database.fetch(_LATER, *_key(delivery), delivery.tries, microseconds)


def _key(delivery: Delivery) -> Sequence[object]:
    return delivery.event.tenant, delivery.event.session_id, delivery.event.sequence
