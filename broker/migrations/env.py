"""Runs the broker's migrations on the connection it is handed."""

from __future__ import annotations

from alembic import context

from broker.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="broker_version",
)
with context.begin_transaction():
    context.run_migrations()
