"""The tables, as SQLAlchemy metadata: the one description that statements, codecs and tests are made from.

A column is what a query joins, filters or orders by, named as the dataclass field it repeats; everything else is
in `body`, the row's JSON. Times are Unix microseconds. There are no foreign keys: a row is only ever written
joined to the fence of its session's row, in the same statement, which proves more than a key at no cost.
The writer's statement is planned once, perhaps on empty tables, where every index that begins with the tenant seems
as good as the key: so only the primary key holds both tenant and id, and the indexes of lists are partial (LISTED).
Nothing here queries.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    event,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.domain import states
from orchestrator.domain.records import PRIORITIES
from orchestrator.domain.states import Machine

metadata = MetaData(naming_convention={"pk": "%(table_name)s_pkey", "ck": "%(table_name)s_%(constraint_name)s_check"})

NOW_FUNCTION = """
CREATE FUNCTION assent_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint
$$"""
"""The only clock in SQL, so that tests may replace it."""


@event.listens_for(metadata, "before_create")
def _create_functions(_: MetaData, connection: Connection, **__: object) -> None:
    connection.execute(text(NOW_FUNCTION))


OPEN_RUN = "state IN ('CREATED', 'RUNNING', 'WAITING', 'RESUMED', 'PAUSED')"
"""A run that has not ended; queries repeat this text so that the partial index serves them."""

WAKE_TIME = "CASE WHEN runnable THEN 0 ELSE due_time END"
"""When a session wants the engine: 0 is at once. Meaningful where WANTS_ENGINE holds."""

CLAIM_TIME = "CASE WHEN runnable THEN 0 WHEN due_time > 0 THEN due_time END"
"""The same, in words of its own: so that a claim, which asks by priority, cannot be planned by session_wake."""

WANTS_ENGINE = "runnable OR due_time > 0"

QUEUED = "queue_time > 0"

HAS_LABELS = "labels <> '{}'"

LISTED = "create_time >= 0"
"""True of every row, and said by lists alone: so no other query can be planned through the index of a list."""

# Rows that are rewritten often: room for updates on their own page, and a vacuum that comes early.
_HOT = {
    "fillfactor": 80,
    "autovacuum_vacuum_scale_factor": 0.02,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_analyze_scale_factor": 0.05,
    "autovacuum_vacuum_cost_delay": 0,
}
# Tables that only grow: vacuum them for the visibility map and early freezing, not for dead rows.
_GROWING = {
    "autovacuum_vacuum_insert_scale_factor": 0.05,
    "autovacuum_analyze_scale_factor": 0.05,
    "autovacuum_vacuum_cost_delay": 0,
}
# A handful of rows rewritten every few seconds for ever.
_TINY = {"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 50}


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _states(*machines: Machine) -> str:
    names = sorted({state for machine in machines for state in machine.states})
    return "state IN (" + ", ".join(f"'{name}'" for name in names) + ")"


def _list_index(name: str, *columns: Column[Any]) -> None:
    """An index that serves lists: newest first, of a tenant or a part of it."""
    Index(name, *columns, postgresql_where=text(LISTED))


session = Table(
    "session",
    metadata,
    _key("tenant"),
    _key("id"),
    _text("state"),
    _text("title"),
    _text("agent"),
    Column("labels", JSONB, nullable=False),
    _text("active_run_id"),
    _flag("settled"),
    _flag("runnable"),
    _number("due_time"),
    _number("create_time"),
    _number("update_time"),
    _number("last_sequence"),
    _text("last_hash"),
    _number("last_event_time"),
    _number("epoch"),
    _text("owner"),
    Column("priority", BigInteger, nullable=False, server_default="0"),
    Column("queue_time", BigInteger, nullable=False, server_default="0"),
    _text("body"),
    CheckConstraint(_states(states.SESSION), name="state"),
    CheckConstraint(f"priority BETWEEN {PRIORITIES.start} AND {PRIORITIES.stop - 1}", name="priority"),
    CheckConstraint("last_sequence >= 0 AND epoch >= 0 AND length(last_hash) = 64", name="fence"),
    # Neither epoch, owner nor sequence is in any index: a run's writes stay on the session row's own page.
    Index("session_wake", text(f"({WAKE_TIME})"), postgresql_where=text(WANTS_ENGINE)),
    Index("session_claim", "priority", text(f"({CLAIM_TIME})"), postgresql_where=text(WANTS_ENGINE)),
    Index("session_queue", "tenant", text("priority DESC"), "queue_time", postgresql_where=text(QUEUED)),
    postgresql_with=_HOT,
)
_list_index("session_newest", session.c.tenant, session.c.create_time)
_list_index("session_state", session.c.tenant, session.c.state, session.c.create_time)
Index(
    "session_labels",
    session.c.labels,
    postgresql_using="gin",
    postgresql_where=text(HAS_LABELS),
)


def _of_session(name: str, *columns: Column[Any] | CheckConstraint, options: dict[str, float] = _HOT) -> Table:
    """A table of what belongs to a session."""
    head = (_key("tenant"), _key("id"), _text("session_id"))
    return Table(name, metadata, *head, *columns, _text("body"), postgresql_with=options)


message = _of_session("message", _text("run_id"), _number("sequence"), _number("create_time"), options=_GROWING)
Index("message_conversation", message.c.tenant, message.c.session_id, message.c.sequence)

run = _of_session(
    "run",
    _text("state"),
    _text("kind"),
    _number("queue_number"),
    _number("create_time"),
    CheckConstraint(_states(states.RUN), name="state"),
)
_list_index("run_newest", run.c.tenant, run.c.create_time)
_list_index("run_session", run.c.tenant, run.c.session_id, run.c.create_time)
Index("run_open", run.c.tenant, run.c.session_id, postgresql_where=text(OPEN_RUN))
Index("run_running", run.c.tenant, postgresql_where=text("state = 'RUNNING'"))

plan = _of_session(
    "plan",
    _text("run_id"),
    _text("state"),
    _number("version"),
    _number("create_time"),
    CheckConstraint(_states(states.PLAN), name="state"),
)
Index("plan_run", plan.c.tenant, plan.c.run_id)
_list_index("plan_session", plan.c.tenant, plan.c.session_id, plan.c.create_time)

subtask = _of_session(
    "subtask",
    _text("run_id"),
    _text("plan_id"),
    _text("state"),
    _number("position"),
    CheckConstraint(_states(states.SUBTASK), name="state"),
)
Index("subtask_run", subtask.c.tenant, subtask.c.run_id)
Index("subtask_plan", subtask.c.tenant, subtask.c.plan_id, subtask.c.position)

attempt = _of_session(
    "attempt",
    _text("run_id"),
    _text("subtask_id"),
    _text("state"),
    _number("create_time"),
    CheckConstraint(_states(states.ATTEMPT), name="state"),
)
Index("attempt_run", attempt.c.tenant, attempt.c.run_id, attempt.c.create_time)

step = _of_session(
    "step",
    _text("run_id"),
    _text("attempt_id"),
    _text("subtask_id"),
    _text("kind"),
    _text("state"),
    _number("ordinal"),
    _number("create_time"),
    CheckConstraint(
        f"kind = 'MODEL' AND {_states(states.MODEL_STEP)} OR kind = 'TOOL' AND {_states(states.TOOL_STEP)}",
        name="state",
    ),
)
Index("step_run", step.c.tenant, step.c.run_id, step.c.create_time, step.c.ordinal)
# An executor that says hello names the steps it holds, and knows no tenant.
Index("step_dispatched", step.c.id, postgresql_where=text("state = 'DISPATCHED'"))

approval = _of_session(
    "approval",
    _text("run_id"),
    _text("kind"),
    _text("state"),
    _number("create_time"),
    _number("expire_time"),
    Column("tool", Text, nullable=False, server_default=""),
    CheckConstraint(_states(states.APPROVAL), name="state"),
)
_list_index("approval_newest", approval.c.tenant, approval.c.create_time)
_list_index("approval_session", approval.c.tenant, approval.c.session_id, approval.c.create_time)
Index("approval_run", approval.c.tenant, approval.c.run_id)
Index(
    "approval_pending",
    approval.c.tenant,
    approval.c.create_time,
    postgresql_where=text("state = 'PENDING'"),
)

# `grant` is a word of SQL's own.
session_grant = _of_session("session_grant", _number("create_time"), _number("end_time"))
_list_index("session_grant_session", session_grant.c.tenant, session_grant.c.session_id, session_grant.c.create_time)
Index(
    "session_grant_standing",
    session_grant.c.tenant,
    session_grant.c.session_id,
    postgresql_where=text("end_time = 0"),
)

artifact = _of_session("artifact", _text("run_id"), _text("subtask_id"), _number("create_time"))
Index("artifact_run", artifact.c.tenant, artifact.c.run_id, artifact.c.create_time)

# The bytes of artifacts, written before the change set that speaks of them; what none speaks of goes with its session.
content = Table(
    "content",
    metadata,
    _key("tenant"),
    _key("session_id"),
    _key("sha256"),
    Column("data", LargeBinary, nullable=False),
    _number("create_time"),
    postgresql_with=_GROWING,
)

# What the webhook has still to be told: an event of the log, until it was taken.
delivery = Table(
    "delivery",
    metadata,
    _key("tenant"),
    _key("session_id"),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _number("due_time"),
    _number("tries"),
    _number("create_time"),
    postgresql_with=_HOT,
)
Index("delivery_due", delivery.c.due_time)

log = Table(
    "event",
    metadata,
    _key("tenant"),
    _key("session_id"),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    _number("event_time"),
    _text("trace_id"),
    _text("name"),
    _text("payload_json"),
    _text("hash"),
    _text("previous_hash"),
    CheckConstraint("sequence > 0 AND length(hash) = 64 AND length(previous_hash) = 64", name="chain"),
    postgresql_with=_GROWING,
)

request = Table(
    "request",
    metadata,
    _key("tenant"),
    _key("caller"),
    _key("request_id"),
    _text("method"),
    _text("fingerprint"),
    _text("answer_json"),
    _number("create_time"),
    postgresql_with=_GROWING,
)
Index("request_age", request.c.create_time)

audit = Table(
    "audit",
    metadata,
    _key("tenant"),
    _key("id"),
    _text("subject"),
    _text("method"),
    _text("approval_id"),
    _text("action"),
    _text("digest"),
    _text("reason"),
    _text("message"),
    _number("create_time"),
    Column("step_id", Text, nullable=False, server_default=""),
    postgresql_with=_GROWING,
)
Index("audit_newest", audit.c.tenant, audit.c.create_time)

counter = Table(
    "counter",
    metadata,
    _key("tenant"),
    _key("name"),
    _number("used"),
    postgresql_with=_TINY,
)

erasing = Table(
    "erasing",
    metadata,
    _key("tenant"),
    _key("session_id"),
    _number("erase_time"),
    postgresql_with=_TINY,
)

# What follows belongs to the installation, not to a tenant.

lease = Table(
    "lease",
    metadata,
    _key("owner"),
    _text("address"),
    _number("expire_time"),
    postgresql_with=_TINY,
)

probe = Table(
    "probe",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    _number("probe_time"),
    CheckConstraint("id = 1", name="single"),
    postgresql_with=_TINY,
)

assent_now = func.assent_now(type_=BigInteger)
