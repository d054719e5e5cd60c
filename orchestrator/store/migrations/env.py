"""Run by Alembic: migrates the connection that `upgrade` hands over, inside its transaction."""

from alembic import context

from orchestrator.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
