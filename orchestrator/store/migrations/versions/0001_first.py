"""The first schema: sessions and what belongs to them, their log, requests, audit, leases."""

from alembic import op

revision = "0001"
down_revision = None

HOT = (
    "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500, "
    "autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0"
)
GROWING = (
    "autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, "
    "autovacuum_vacuum_cost_delay = 0"
)
TINY = "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50"

STATEMENTS = f"""
CREATE FUNCTION assent_now() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint
$$;

CREATE TABLE session (
    tenant text NOT NULL, id text NOT NULL, state text NOT NULL, title text NOT NULL, agent text NOT NULL,
    labels jsonb NOT NULL, active_run_id text NOT NULL, settled boolean NOT NULL, runnable boolean NOT NULL,
    due_time bigint NOT NULL, create_time bigint NOT NULL, update_time bigint NOT NULL,
    last_sequence bigint NOT NULL, last_hash text NOT NULL, last_event_time bigint NOT NULL,
    epoch bigint NOT NULL, owner text NOT NULL, body text NOT NULL,
    CONSTRAINT session_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT session_state_check CHECK (state IN ('ARCHITECT_PLANNING', 'CLASSIFY', 'CLOSED', 'COMPLETED',
        'ERROR_HANDLING', 'EXECUTION', 'IDLE', 'PLAN_EXECUTION', 'PLAN_REQUIRED', 'PLAN_REVIEW')),
    CONSTRAINT session_fence_check CHECK (last_sequence >= 0 AND epoch >= 0 AND length(last_hash) = 64)
) WITH ({HOT});

CREATE INDEX session_labels ON session USING gin (labels) WHERE labels <> '{{}}';

CREATE INDEX session_newest ON session (tenant, create_time) WHERE create_time >= 0;

CREATE INDEX session_state ON session (tenant, state, create_time) WHERE create_time >= 0;

CREATE INDEX session_wake ON session ((CASE WHEN runnable THEN 0 ELSE due_time END)) WHERE runnable OR
    due_time > 0;

CREATE TABLE message (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, run_id text NOT NULL,
    sequence bigint NOT NULL, create_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT message_pkey PRIMARY KEY (tenant, id)
) WITH ({GROWING});

CREATE INDEX message_conversation ON message (tenant, session_id, sequence);

CREATE TABLE run (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, state text NOT NULL,
    kind text NOT NULL, queue_number bigint NOT NULL, create_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT run_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT run_state_check CHECK (state IN ('CANCELLED', 'COMPLETED', 'CREATED', 'FAILED', 'PAUSED',
        'RESUMED', 'RUNNING', 'WAITING'))
) WITH ({HOT});

CREATE INDEX run_newest ON run (tenant, create_time) WHERE create_time >= 0;

CREATE INDEX run_open ON run (tenant, session_id) WHERE state IN ('CREATED', 'RUNNING', 'WAITING',
    'RESUMED', 'PAUSED');

CREATE INDEX run_session ON run (tenant, session_id, create_time) WHERE create_time >= 0;

CREATE TABLE plan (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, run_id text NOT NULL,
    state text NOT NULL, version bigint NOT NULL, create_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT plan_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT plan_state_check CHECK (state IN ('APPROVED', 'CANCELLED', 'COMPLETED', 'DRAFT', 'FAILED',
        'IN_PROGRESS', 'REJECTED', 'SUPERSEDED'))
) WITH ({HOT});

CREATE INDEX plan_run ON plan (tenant, run_id);

CREATE INDEX plan_session ON plan (tenant, session_id, create_time) WHERE create_time >= 0;

CREATE TABLE subtask (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, run_id text NOT NULL,
    plan_id text NOT NULL, state text NOT NULL, position bigint NOT NULL, body text NOT NULL,
    CONSTRAINT subtask_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT subtask_state_check CHECK (state IN ('AWAITING_APPROVAL', 'CANCELLED', 'FAILED', 'PENDING',
        'RUNNING', 'SKIPPED', 'SUCCEEDED', 'VALIDATING'))
) WITH ({HOT});

CREATE INDEX subtask_plan ON subtask (tenant, plan_id, position);

CREATE INDEX subtask_run ON subtask (tenant, run_id);

CREATE TABLE attempt (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, run_id text NOT NULL,
    subtask_id text NOT NULL, state text NOT NULL, create_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT attempt_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT attempt_state_check CHECK (state IN ('CANCELLED', 'FAILED', 'RUNNING', 'SUCCEEDED'))
) WITH ({HOT});

CREATE INDEX attempt_run ON attempt (tenant, run_id, create_time);

CREATE TABLE step (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, run_id text NOT NULL,
    attempt_id text NOT NULL, subtask_id text NOT NULL, kind text NOT NULL, state text NOT NULL,
    ordinal bigint NOT NULL, create_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT step_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT step_state_check CHECK (kind = 'MODEL' AND state IN ('CANCELLED', 'DISPATCHED', 'FAILED',
        'PENDING', 'SUCCEEDED') OR kind = 'TOOL' AND state IN ('APPROVED', 'AWAITING_APPROVAL', 'CANCELLED',
        'DISPATCHED', 'EDITED', 'FAILED', 'IN_DOUBT', 'PROPOSED', 'READY', 'REJECTED', 'SUCCEEDED'))
) WITH ({HOT});

CREATE INDEX step_run ON step (tenant, run_id, create_time, ordinal);
CREATE INDEX step_dispatched ON step (id) WHERE state = 'DISPATCHED';

CREATE TABLE approval (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL, run_id text NOT NULL,
    kind text NOT NULL, state text NOT NULL, create_time bigint NOT NULL, expire_time bigint NOT NULL,
    body text NOT NULL,
    CONSTRAINT approval_pkey PRIMARY KEY (tenant, id),
    CONSTRAINT approval_state_check CHECK (state IN ('CANCELLED', 'EXPIRED', 'PENDING', 'RESOLVED',
        'SUPERSEDED'))
) WITH ({HOT});

CREATE INDEX approval_newest ON approval (tenant, create_time) WHERE create_time >= 0;

CREATE INDEX approval_pending ON approval (tenant, create_time) WHERE state = 'PENDING';

CREATE INDEX approval_run ON approval (tenant, run_id);

CREATE INDEX approval_session ON approval (tenant, session_id, create_time) WHERE create_time >= 0;

CREATE TABLE event (
    tenant text NOT NULL, session_id text NOT NULL, sequence bigint NOT NULL, event_time bigint NOT NULL,
    trace_id text NOT NULL, name text NOT NULL, payload_json text NOT NULL, hash text NOT NULL,
    previous_hash text NOT NULL,
    CONSTRAINT event_pkey PRIMARY KEY (tenant, session_id, sequence),
    CONSTRAINT event_chain_check CHECK (sequence > 0 AND length(hash) = 64 AND length(previous_hash) = 64)
) WITH ({GROWING});

CREATE TABLE request (
    tenant text NOT NULL, caller text NOT NULL, request_id text NOT NULL, method text NOT NULL,
    fingerprint text NOT NULL, answer_json text NOT NULL, create_time bigint NOT NULL,
    CONSTRAINT request_pkey PRIMARY KEY (tenant, caller, request_id)
) WITH ({GROWING});

CREATE INDEX request_age ON request (create_time);

CREATE TABLE audit (
    tenant text NOT NULL, id text NOT NULL, subject text NOT NULL, method text NOT NULL,
    approval_id text NOT NULL, action text NOT NULL, digest text NOT NULL, reason text NOT NULL,
    message text NOT NULL, create_time bigint NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (tenant, id)
) WITH ({GROWING});

CREATE INDEX audit_newest ON audit (tenant, create_time);

CREATE TABLE lease (
    owner text NOT NULL, address text NOT NULL, expire_time bigint NOT NULL,
    CONSTRAINT lease_pkey PRIMARY KEY (owner)
) WITH ({TINY});

CREATE TABLE probe (
    id smallint NOT NULL, probe_time bigint NOT NULL,
    CONSTRAINT probe_pkey PRIMARY KEY (id),
    CONSTRAINT probe_single_check CHECK (id = 1)
) WITH ({TINY});

INSERT INTO probe (id, probe_time) VALUES (1, 0)
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        op.execute(statement)
