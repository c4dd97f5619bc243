"""Runs the adapter's migrations on the connection it is handed."""

from __future__ import annotations

from alembic import context

from agency_adapters.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="adapter_version",
)
with context.begin_transaction():
    context.run_migrations()
