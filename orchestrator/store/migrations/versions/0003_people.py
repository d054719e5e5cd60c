"""Grants, artifacts, what the webhook is still to be told, and which tool an approval is about.

It only adds: orchestrators of the version before go on working beside it.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

HOT = """fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
    autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0"""
GROWING = """autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0"""

STATEMENTS = f"""
ALTER TABLE approval ADD COLUMN tool text NOT NULL DEFAULT '';

ALTER TABLE audit ADD COLUMN step_id text NOT NULL DEFAULT '';

CREATE TABLE session_grant (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL,
    create_time bigint NOT NULL, end_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT session_grant_pkey PRIMARY KEY (tenant, id)
) WITH ({HOT});

CREATE INDEX session_grant_session ON session_grant (tenant, session_id, create_time) WHERE create_time >= 0;

CREATE INDEX session_grant_standing ON session_grant (tenant, session_id) WHERE end_time = 0;

CREATE TABLE artifact (
    tenant text NOT NULL, id text NOT NULL, session_id text NOT NULL,
    run_id text NOT NULL, subtask_id text NOT NULL, create_time bigint NOT NULL, body text NOT NULL,
    CONSTRAINT artifact_pkey PRIMARY KEY (tenant, id)
) WITH ({HOT});

CREATE INDEX artifact_run ON artifact (tenant, run_id, create_time);

CREATE TABLE content (
    tenant text NOT NULL, session_id text NOT NULL, sha256 text NOT NULL,
    data bytea NOT NULL, create_time bigint NOT NULL,
    CONSTRAINT content_pkey PRIMARY KEY (tenant, session_id, sha256)
) WITH ({GROWING});

CREATE TABLE delivery (
    tenant text NOT NULL, session_id text NOT NULL, sequence bigint NOT NULL,
    due_time bigint NOT NULL, tries bigint NOT NULL, create_time bigint NOT NULL,
    CONSTRAINT delivery_pkey PRIMARY KEY (tenant, session_id, sequence)
) WITH ({HOT});

CREATE INDEX delivery_due ON delivery (due_time)
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        op.execute(statement)
