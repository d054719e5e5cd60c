"""Priorities, the limit of a tenant's runs at once, and erasing in small steps.

It only adds: orchestrators of the version before go on working beside it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

TINY = "fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50"

STATEMENTS = f"""
ALTER TABLE session ADD COLUMN priority bigint NOT NULL DEFAULT 0, ADD COLUMN queue_time bigint NOT NULL DEFAULT 0,
    ADD CONSTRAINT session_priority_check CHECK (priority BETWEEN -10 AND 10);

CREATE INDEX session_claim ON session (priority, (CASE WHEN runnable THEN 0 WHEN due_time > 0 THEN due_time END))
    WHERE runnable OR due_time > 0;

CREATE INDEX session_queue ON session (tenant, priority DESC, queue_time) WHERE queue_time > 0;

CREATE INDEX run_running ON run (tenant) WHERE state = 'RUNNING';

CREATE TABLE counter (
    tenant text NOT NULL, name text NOT NULL, used bigint NOT NULL,
    CONSTRAINT counter_pkey PRIMARY KEY (tenant, name)
) WITH ({TINY});

CREATE TABLE erasing (
    tenant text NOT NULL, session_id text NOT NULL, erase_time bigint NOT NULL,
    CONSTRAINT erasing_pkey PRIMARY KEY (tenant, session_id)
) WITH ({TINY})
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        op.execute(statement)
